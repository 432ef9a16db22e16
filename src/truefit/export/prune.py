"""Leave out what a model does not need: leaves, rounds, weights, members."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMModel
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBModel

from truefit import figures
from truefit.case import Case
from truefit.metrics import truth
from truefit.task import gives_probabilities
from truefit.training import deal, unwrap
from truefit.training.recalibrated import Recalibrated

MOST = 24  # settings that are tried
SHARES = tuple(round(0.1 * k, 1) for k in range(10))  # of the weights, set to zero
HISTOGRAM = (HistGradientBoostingRegressor, HistGradientBoostingClassifier)
KINDS: dict[str, tuple[type, ...]] = {
    "leaves": (DecisionTreeRegressor, DecisionTreeClassifier),
    # Where the winner is none of them, the quickest to fit is shown.
    "rounds": (LGBMModel, *HISTOGRAM, XGBModel),
    "weights": (MLPRegressor, MLPClassifier),
}


class Pruned(NamedTuple):
    """A model of which something was left out, and how much was chosen."""

    of: str
    kind: str  # leaves, rounds or weights
    # Indexed by setting, from the most to the least that is left out: ``loss``, the mean squared
    # error on rows held out, and ``left``, how much of the model is left.
    curve: pd.DataFrame
    chosen: float  # of the index
    model: BaseEstimator  # fitted on all training rows

    @property
    def best(self) -> float:
        """The setting with the least loss on rows held out."""
        return float(self.curve["loss"].idxmin())

    def error(self, setting: float) -> float:
        """The root mean squared error on rows held out."""
        return float(np.sqrt(self.curve.loc[setting, "loss"]))

    @property
    def left(self) -> int:
        """How many leaves, rounds or weights are left."""
        return int(self.curve.loc[self.chosen, "left"])

    @property
    def whole(self) -> int:
        """How many there were."""
        return int(self.curve["left"].iloc[-1])


# A curve, the setting that was chosen, and the model with it; see `Pruned`.
_Chosen = tuple[pd.DataFrame, float, BaseEstimator]


class _Fold(NamedTuple):
    """Prepared rows to fit on and rows held out."""

    fit: np.ndarray
    target: np.ndarray  # as the estimator learns it
    held: np.ndarray
    actual: np.ndarray  # as the estimator predicts it; 1 is the second class
    unit: float  # of the target


def pick(kind: str, winner: str, candidates: Mapping[str, BaseEstimator]) -> str | None:
    """The winner if it has ``leaves``, ``rounds`` or ``weights`` to leave out, or another that has.

    Returns
    -------
    str or None
        The name of a candidate; None if there is none.
    """
    for asked in KINDS[kind]:
        for name in (winner, *candidates):
            inside = unwrap(candidates[name])
            if not isinstance(inside, Pipeline):
                continue
            of_kind = KINDS[kind] if name == winner else asked
            if isinstance(inside[-1], of_kind):
                return name
    return None


def prune(
    kind: str,
    winner: str,
    candidates: Mapping[str, BaseEstimator],
    train: pd.DataFrame,
    case: Case,
    *,
    folds: int,
    seed: int,
) -> Pruned | None:
    """Leave out as much of a model as rows held out do not miss.

    ``leaves``: cost-complexity pruning of a decision tree (Breiman and others, Classification and
    Regression Trees, 1984, chapter 3): the smallest tree whose error is within one standard error
    of the least. ``rounds`` of a boosting, ``weights`` of a perceptron (the smallest are set to
    zero): as few as lose no more than one standard error of the loss itself, row by row.

    Parameters
    ----------
    kind : str
    winner : str
        It is pruned if it can be; else the first candidate of the kind is.
    candidates : mapping from name to estimator
        Fitted, with the winner.
    train : DataFrame
        Training rows with their target.
    case : Case
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    Pruned or None
        None if no candidate has anything of the kind.
    """
    name = pick(kind, winner, candidates)
    if name is None:
        return None
    with warnings.catch_warnings():
        # The network stops after a fixed number of steps on purpose: early is a penalty, too.
        warnings.simplefilter("ignore", ConvergenceWarning)
        curve, chosen, model = PRUNERS[kind](candidates[name], train, case, folds, seed)
    return Pruned(name, kind, curve, chosen, model)


def _folds(
    model: BaseEstimator, train: pd.DataFrame, case: Case, folds: int, seed: int
) -> Iterator[_Fold]:
    pipeline = unwrap(model)
    X, y = train.drop(columns=case.target), train[case.target]
    for fit, held in deal(y, case, folds=folds, seed=seed):
        preparation, unit = clone(pipeline[0]), 1.0
        Z = preparation.fit_transform(X.iloc[fit])
        target, actual = y.iloc[fit].to_numpy(), truth(y.iloc[held], case)
        if isinstance(model, TransformedTargetRegressor):
            scale = clone(model.transformer_).fit(target)
            target, actual, unit = scale.transform(target), scale.transform(actual), scale.scale_
        elif case.direction(model) < 0:
            actual = 1 - actual
        yield _Fold(Z, target, preparation.transform(X.iloc[held]), actual, unit)


def _said(estimator: BaseEstimator, Z: np.ndarray, **more: Any) -> np.ndarray:
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(Z, **more)[:, 1]
    return np.asarray(estimator.predict(Z, **more), dtype=float)


def _losses(
    model: BaseEstimator,
    train: pd.DataFrame,
    case: Case,
    folds: int,
    seed: int,
    tried: Callable[[BaseEstimator, _Fold], Sequence[np.ndarray]],
) -> np.ndarray:
    """Squared errors on rows held out, of shape (n_settings, n_samples).

    ``tried`` gives the predictions of the rows held out by each setting.
    """
    estimator, parts = unwrap(model)[-1], []
    for fold in _folds(model, train, case, folds, seed):
        said = np.array(tried(clone(estimator), fold))
        parts.append(((said - fold.actual) * fold.unit) ** 2)
    return np.concatenate(parts, axis=1)


def _first(losses: np.ndarray, limit: float | np.ndarray) -> int:
    """The first setting whose mean loss is within a limit; the last always is."""
    within = losses.mean(axis=1) <= limit
    within[-1] = True
    return int(np.argmax(within))


def _unmissed(losses: np.ndarray) -> int:
    """The first setting that loses no more than one standard error beside the last, paired."""
    gaps = losses - losses[-1]
    error = gaps.std(axis=1, ddof=1) / np.sqrt(losses.shape[1])
    return _first(gaps, error)


def _refitted(
    model: BaseEstimator, train: pd.DataFrame, case: Case, **params: Any
) -> BaseEstimator:
    """A copy with other settings of its estimator, fitted on all training rows."""
    known = model.get_params()
    names = {k: next(n for n in known if n.endswith(f"__{k}")) for k in params}
    copied = clone(model).set_params(**{names[k]: v for k, v in params.items()})
    return copied.fit(train.drop(columns=case.target), train[case.target])


def _prune_leaves(
    model: BaseEstimator, train: pd.DataFrame, case: Case, folds: int, seed: int
) -> _Chosen:
    tree, everything = unwrap(model)[-1], _everything(model, train, case)
    path = np.unique(np.maximum(tree.cost_complexity_pruning_path(*everything).ccp_alphas, 0))
    # Between two steps of the path, as it is another one in each fold.
    alphas = np.sqrt(path[:-1] * path[1:]) if len(path) > 1 else path
    alphas = alphas[np.unique(np.linspace(0, len(alphas) - 1, MOST).round().astype(int))]
    alphas = np.unique(np.r_[0, alphas])[::-1]

    def tried(estimator: BaseEstimator, fold: _Fold) -> list[np.ndarray]:
        return [
            _said(estimator.set_params(ccp_alpha=a).fit(fold.fit, fold.target), fold.held)
            for a in alphas
        ]

    losses = _losses(model, train, case, folds, seed, tried)
    best = int(np.argmin(losses.mean(axis=1)))
    error = losses[best].std(ddof=1) / np.sqrt(losses.shape[1])
    chosen = _first(losses, losses[best].mean() + error)
    trees = [clone(tree).set_params(ccp_alpha=a).fit(*everything) for a in alphas]
    curve = _curve(losses, pd.Index(alphas, name="alpha"), [t.get_n_leaves() for t in trees])
    return curve, float(alphas[chosen]), _refitted(model, train, case, ccp_alpha=alphas[chosen])


def _everything(
    model: BaseEstimator, train: pd.DataFrame, case: Case
) -> tuple[np.ndarray, np.ndarray]:
    """All training rows, prepared, and their target as the estimator learns it."""
    target = train[case.target].to_numpy()
    if isinstance(model, TransformedTargetRegressor):
        target = model.transformer_.transform(target)
    return unwrap(model)[0].transform(train.drop(columns=case.target)), target


def _prune_rounds(
    model: BaseEstimator, train: pd.DataFrame, case: Case, folds: int, seed: int
) -> _Chosen:
    estimator = unwrap(model)[-1]
    parameter = "max_iter" if isinstance(estimator, HISTOGRAM) else "n_estimators"
    whole = estimator.get_params()[parameter]
    rounds = np.unique(np.linspace(1, whole, MOST).round().astype(int))

    def tried(copied: BaseEstimator, fold: _Fold) -> list[np.ndarray]:
        copied.fit(fold.fit, fold.target)
        if isinstance(copied, HISTOGRAM):
            name = "staged_predict_proba" if gives_probabilities(copied) else "staged_predict"
            staged = list(getattr(copied, name)(fold.held))
            return [np.atleast_2d(staged[k - 1].T)[-1] for k in rounds]
        if isinstance(copied, XGBModel):
            return [_said(copied, fold.held, iteration_range=(0, int(k))) for k in rounds]
        return [_said(copied, fold.held, num_iteration=int(k)) for k in rounds]

    losses = _losses(model, train, case, folds, seed, tried)
    chosen = int(rounds[_unmissed(losses)])
    curve = _curve(losses, pd.Index(rounds, name="rounds"), rounds)
    return curve, chosen, _refitted(model, train, case, **{parameter: chosen})


def zeroed(network: MLPRegressor | MLPClassifier, share: float) -> BaseEstimator:
    """A copy of a fitted perceptron with a share of its weights, the smallest, set to zero."""
    made = copy.copy(network)
    sizes = np.sort(np.concatenate([np.abs(w).ravel() for w in network.coefs_]))
    limit = sizes[round(share * len(sizes)) - 1] if share > 0 else -1.0
    made.coefs_ = [np.where(np.abs(w) <= limit, 0.0, w) for w in network.coefs_]
    return made


def _prune_weights(
    model: BaseEstimator, train: pd.DataFrame, case: Case, folds: int, seed: int
) -> _Chosen:
    shares = np.array(SHARES[::-1])

    def tried(estimator: BaseEstimator, fold: _Fold) -> list[np.ndarray]:
        estimator.fit(fold.fit, fold.target)
        return [_said(zeroed(estimator, share), fold.held) for share in shares]

    losses = _losses(model, train, case, folds, seed, tried)
    network = unwrap(model)[-1]
    chosen = float(shares[_unmissed(losses)])
    left = [sum(np.count_nonzero(w) for w in zeroed(network, s).coefs_) for s in shares]
    curve = _curve(losses, pd.Index(shares, name="share of zeros"), left)
    pipeline = unwrap(model)
    made = Pipeline([*pipeline.steps[:-1], (pipeline.steps[-1][0], zeroed(network, chosen))])
    return curve, chosen, with_inside(model, made)


def _curve(losses: np.ndarray, index: pd.Index, left: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"loss": losses.mean(axis=1), "left": left}, index=index)


PRUNERS = {"leaves": _prune_leaves, "rounds": _prune_rounds, "weights": _prune_weights}


def with_inside(model: BaseEstimator, inside: BaseEstimator) -> BaseEstimator:
    """A copy of a fitted model around another fitted estimator; see `truefit.training.unwrap`."""
    if not isinstance(model, TransformedTargetRegressor | Recalibrated):
        return inside
    made = copy.copy(model)
    setattr(made, "estimator_" if isinstance(model, Recalibrated) else "regressor_", inside)
    return made


def lighter_blends(model: BaseEstimator) -> dict[str, BaseEstimator]:
    """A fitted blend without its lightest member, without its two lightest, and so on.

    The weights of the others stay in proportion; nothing is fitted again.

    Returns
    -------
    dict from what was done to estimator
        Empty if the model is no blend.
    """
    blend = unwrap(model)
    if not isinstance(blend, VotingRegressor | VotingClassifier):
        return {}
    weights = list(blend.weights or [1.0] * len(blend.estimators))
    order, found = list(np.argsort(weights, kind="stable")), {}
    for count in range(1, len(order)):
        kept = sorted(order[count:])
        made = copy.copy(blend)
        made.estimators = [blend.estimators[i] for i in kept]
        made.estimators_ = [blend.estimators_[i] for i in kept]
        made.weights = [weights[i] for i in kept]
        out = " and ".join(blend.estimators[i][0] for i in order[:count])
        found[f"without {out}"] = with_inside(model, made)
    return found


def plot_pruned(pruned: Pruned, case: Case, xlabel: str) -> None:
    """The error on rows held out against how much of the model is left."""
    curve = pruned.curve
    root = [pruned.error(setting) for setting in curve.index]
    fig, ax = figures.new(height=3.0)
    ax.plot(curve["left"], root, "o-", ms=4, color=figures.BLUE)
    ax.plot(
        pruned.left, pruned.error(pruned.chosen), "o", ms=9, color=figures.ORANGE, label="chosen"
    )
    ax.set(
        xlabel=xlabel,
        ylabel=f"RMSE {case.unit_words}, rows held out",
        title=f"How much of {pruned.of} do the rows held out miss?",
    )
    ax.legend()
    figures.show(
        fig,
        f"The error on rows held out by {xlabel}: {pruned.left:,} of {pruned.whole:,} were chosen.",
        colours=48,
    )
