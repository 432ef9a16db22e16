"""Judge the winner on rows that nothing was fitted on, with intervals, and decide by a gate."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from truefit import figures
from truefit.digits import significant, to_spread
from truefit.metrics import HIGHER_IS_BETTER, LABELS, THRESHOLD, metrics_of, resample, truth
from truefit.params import Case
from truefit.project import GateError

# The simple model that a winner must be worth more than, by task.
LINEAR = {"regression": "linear", "classification": "logistic"}
# Digits kept in files: what a sum on another processor would not change.
DIGITS = 6


def reference_scores(y: pd.Series, p: np.ndarray, case: Case) -> dict[str, float]:
    """Every metric as scikit-learn computes it, to check ours against."""
    from sklearn import metrics as reference

    actual = truth(y, case)
    if case.task == "regression":
        found = {
            "mse": reference.mean_squared_error(actual, p),
            "rmse": reference.root_mean_squared_error(actual, p),
            "mae": reference.mean_absolute_error(actual, p),
            "r2": reference.r2_score(actual, p),
        }
        if case.log_target:
            found["rmse_log"] = reference.root_mean_squared_error(np.log(actual), np.log(p))
        return found
    called = p >= THRESHOLD
    return {
        "accuracy": reference.accuracy_score(actual, called),
        "precision": reference.precision_score(actual, called, zero_division=0),
        "recall": reference.recall_score(actual, called),
        "f1": reference.f1_score(actual, called),
        "roc_auc": reference.roc_auc_score(actual, p),
        "average_precision": reference.average_precision_score(actual, p),
        "brier": reference.brier_score_loss(actual, p),
    }


def bootstrap_weights(n_samples: int, resamples: int, seed: int) -> np.ndarray:
    """Resamples of the rows, with replacement, as counts.

    The first row is the sample itself: ones. One set of resamples serves every model and metric,
    so that differences between models are paired.

    Returns
    -------
    ndarray of uint16, of shape (resamples + 1, n_samples)
    """
    rng, shares = np.random.default_rng(seed), np.full(n_samples, 1 / n_samples)
    weights = np.ones((resamples + 1, n_samples), dtype=np.uint16)
    for counts in weights[1:]:
        counts[:] = rng.multinomial(n_samples, shares)
    return weights


def intervals(
    y: pd.Series,
    predicted: Mapping[str, np.ndarray],
    weights: np.ndarray,
    case: Case,
    *,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Every model's metrics with percentile bootstrap intervals.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Returns
    -------
    dict from model to DataFrame
        Indexed by metric, with ``value``, ``low`` and ``high``.
    """
    values = _all(y, predicted, weights, case)
    return {name: _summary(found, confidence) for name, found in values.items()}


def differences(
    y: pd.Series,
    predicted: Mapping[str, np.ndarray],
    weights: np.ndarray,
    case: Case,
    *,
    winner: str,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """The winner's metrics minus each model's, paired row by row.

    Both models meet the same rows in every resample, so what a hard row does to both cancels. The
    winner is not better than itself, so a dummy that wins does not pass the gate.

    Returns
    -------
    dict from model to DataFrame
        Indexed by metric, with ``value``, ``low``, ``high`` and ``better``: ``yes`` or ``no`` if
        the whole interval lies on one side of 0, ``unclear`` if it does not.
    """
    values = _all(y, predicted, weights, case)
    tables = {}
    for name in predicted:
        gap = {m: values[winner][m] - values[name][m] for m in metrics_of(case)}
        table = _summary(gap, confidence)
        sign = np.array([1 if m in HIGHER_IS_BETTER else -1 for m in table.index])
        worst = np.where(sign > 0, table["low"], -table["high"])
        finest = np.where(sign > 0, table["high"], -table["low"])
        table["better"] = np.select([worst > 0, finest < 0], ["yes", "no"], "unclear")
        tables[name] = table
    return tables


def _all(y, predicted, weights, case) -> dict[str, dict[str, np.ndarray]]:
    return {name: resample(y, p, weights, case) for name, p in predicted.items()}


def _summary(found: Mapping[str, np.ndarray], confidence: float) -> pd.DataFrame:
    tail = (1 - confidence) / 2
    rows = {
        # A resample without a single positive row has no ROC AUC; the others speak for it.
        name: (values[0], *np.nanquantile(values[1:], [tail, 1 - tail]))
        for name, values in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def judge(
    metrics: pd.DataFrame, against_dummy: pd.DataFrame, case: Case, *, main_metric: str
) -> dict:
    """The gate: may the winner go on?

    It must be better than a model that has learned nothing, beyond chance; and of each limit in
    the case's block, the worse end of the metric's interval must keep it.

    Returns
    -------
    dict
        ``passed`` (bool) and ``checks``: a list of ``{"check", "passed", "reason"}``.
    """
    gap = against_dummy.loc[main_metric]
    value, low, high = (significant(gap[end]) for end in ("value", "low", "high"))
    checks = [
        {
            "check": "better than the dummy",
            "passed": bool(gap["better"] == "yes"),
            "reason": f"{LABELS[main_metric]} differs from the dummy's by {value} "
            f"({low} to {high})",
        }
    ]
    for limit in case.gate:
        if limit.metric not in metrics.index:
            raise GateError(
                f"params.yaml: the gate of {case.table} asks for {limit.metric!r}, which is not "
                f"measured; known: {', '.join(metrics.index)}"
            )
        row = metrics.loc[limit.metric]
        if limit.at_most is not None:
            passed, asked, end = row["high"] <= limit.at_most, f"at most {limit.at_most}", "high"
        else:
            passed, asked, end = row["low"] >= limit.at_least, f"at least {limit.at_least}", "low"
        checks.append(
            {
                "check": f"{LABELS[limit.metric]} {asked}",
                "passed": bool(passed),
                "reason": f"the worse end of its interval is {significant(row[end])}",
            }
        )
    return {"passed": all(c["passed"] for c in checks), "checks": checks}


def require_pass(verdict: dict, name: str) -> None:
    """Stop with one sentence if the gate did not pass.

    Raises
    ------
    GateError
    """
    failed = [f"{c['check']}: {c['reason']}" for c in verdict["checks"] if not c["passed"]]
    if failed:
        raise GateError(
            f"the model of {name} did not pass the gate, so it is not exported "
            f"({'; '.join(failed)}); see reports/{name}/04_evaluation.html, then improve the model "
            "or change the gate in params.yaml"
        )


def rounded(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """A table of metrics as nested dicts, rounded to the digits that every machine agrees on."""
    return {
        name: {k: float(f"{v:.{DIGITS}g}") for k, v in row.items()}
        for name, row in table.to_dict("index").items()
    }


def metric_table(metrics: pd.DataFrame, caption: str):
    """Metrics with their intervals, for people."""
    return figures.table(_digits(metrics, ""), caption)


def difference_table(gaps: pd.DataFrame, caption: str):
    """Differences with their intervals, for people."""
    return figures.table(_digits(gaps, "+"), caption)


def _digits(table: pd.DataFrame, sign: str) -> pd.DataFrame:
    """Each metric to the digits that its interval deserves."""
    shown = table.astype(object)
    for name, row in table.iterrows():
        for end in ("value", "low", "high"):
            shown.loc[name, end] = to_spread(row[end], row["high"] - row["low"], sign)
    return shown.rename(index=LABELS)


def simple_rival(winner: str, candidates: Mapping[str, object], case: Case) -> str:
    """The simple model that the winner must be worth more than.

    That is the linear model of the task; the dummy where the winner is that model itself, or
    where it is not among the candidates.
    """
    linear = LINEAR[case.task]
    return linear if linear in candidates and winner != linear else "dummy"


def telling_columns(test: pd.DataFrame, case: Case, most: int = 4) -> list[str]:
    """The features that go with the target best, to show beside a row."""
    from truefit.data_prep.explore import relations

    return list(relations(test, case).index[:most])


def worst_rows(
    test: pd.DataFrame, p: np.ndarray, case: Case, most: int, extra: list[str] = ()
) -> pd.DataFrame:
    """The rows the winner gets most wrong.

    Wrong by ratio for a logged target, by difference for another number, and by how sure the
    model was of the wrong class in a classification.
    """
    actual = truth(test[case.target], case)
    said = "predicted"
    if case.task == "classification":
        error, name, said = np.abs(actual - p), "distance", f"probability of {case.positive}"
    elif case.log_target:
        error, name = np.log(actual / p), "log(actual / predicted)"
    else:
        error, name = actual - p, "actual − predicted"
    order = np.argsort(-np.abs(error), kind="stable")[:most]
    shown = pd.DataFrame({case.target: test[case.target], said: p, name: error})
    more = test[[c for c in extra if c != case.target]]
    more = more.rename(columns={c: f"{c}, the column" for c in shown})
    shown = shown.join(more).iloc[order]
    shown.index = test[case.id].iloc[order] if case.id else order + 1
    return shown


def plot_residuals(y: pd.Series, p: np.ndarray, case: Case) -> None:
    """Prediction against truth, and residual against prediction."""
    y, label = truth(y, case), case.label(case.target)
    residual = np.log(y / p) if case.log_target else y - p
    fig, (left, right) = figures.new(height=3.3, ncols=2)
    left.scatter(p, y, s=8, alpha=0.5, linewidths=0)
    ends = [min(p.min(), y.min()), max(p.max(), y.max())]
    left.plot(ends, ends, color=figures.ORANGE, lw=1)
    left.set(xlabel=f"predicted {label}", ylabel=f"actual {label}", title="On the line is right")
    right.scatter(p, residual, s=8, alpha=0.5, linewidths=0)
    right.axhline(0, color=figures.ORANGE, lw=1)
    right.set(
        xlabel=f"predicted {label}",
        ylabel="log(actual / predicted)" if case.log_target else f"actual − predicted {label}",
        title="No pattern should be left",
    )
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter(lambda v, _: f"{v:,.0f}")
        axis.set_major_locator(MaxNLocator(5))
    share = float(np.mean(np.abs(p / y - 1) < 0.1))
    figures.show(
        fig,
        f"Left, {len(y)} predictions against the truth; right, residuals against predictions, "
        f"with a standard deviation of {residual.std():.3g}. {share:.0%} lie within 10 percent.",
    )


def plot_probabilities(y: pd.Series, p: np.ndarray, case: Case) -> None:
    """The calibration curve and the precision-recall curve."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve

    actual = truth(y, case)
    happened, said = calibration_curve(actual, p, n_bins=10, strategy="quantile")
    precision, recall, _ = precision_recall_curve(actual, p)
    fig, (left, right) = figures.new(height=3.3, ncols=2)
    left.plot([0, 1], [0, 1], color=figures.GREY, lw=1, ls="--", label="perfectly calibrated")
    left.plot(said, happened, "o-", label="winner, a tenth of the rows each")
    left.set(
        xlabel=f"probability of {case.positive}, as predicted",
        ylabel=f"share that turned out {case.positive}",
        title="Calibration",
    )
    left.legend(loc="upper left")
    right.plot(recall, precision, label="winner")
    right.axhline(actual.mean(), color=figures.GREY, lw=1, ls="--", label="by chance")
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    right.legend(loc="upper right")
    gap = float(np.abs(said - happened).max())
    figures.show(
        fig,
        f"Left, the calibration curve, at most {gap:.2f} from the diagonal; right, the "
        f"precision-recall curve, above the base rate of {actual.mean():.2f}.",
    )
