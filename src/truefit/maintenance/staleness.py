"""What waiting to retrain costs: policies replayed over rows whose truth has come.

A replay is honest in time. Whoever decides at the start of a window knows the rows and the labels
of the windows before it, and nothing else.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import t as student
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning

from truefit import figures
from truefit.case import Case
from truefit.data_prep.clean import clean
from truefit.digits import number, significant, to_spread
from truefit.evaluation import bootstrap_weights
from truefit.evaluation.intervals import COMPARED, above_zero
from truefit.metrics import HIGHER_IS_BETTER, LABELS, predictions, resample, scores, truth
from truefit.monitoring.rules import lit
from truefit.monitoring.statistics import compare_means, compare_values, false_discovery
from truefit.monitoring.traffic import has_label, in_windows
from truefit.params import Rule
from truefit.training import deal
from truefit.verdicts import Light

LEAST_TO_LEARN = 20  # rows
LEAST_OF_A_CLASS = 5  # rows
WINDOWS_WITHOUT_TIME = 4  # so many at least, where windows are blocks of rows
STYLES = [
    *[("lightgrey", "-"), (figures.ORANGE, ":"), (figures.ORANGE, "-"), (figures.SKY, "--")],
    *[(figures.BLUE, "-"), ("black", ":"), ("black", "-.")],
]


@dataclass(frozen=True)
class History:
    """Labelled rows in the order of their windows; all parts share one RangeIndex."""

    rows: pd.DataFrame  # as they came, with the target
    learned: pd.DataFrame  # of these, the ones to learn from, by the case's cleaning rules
    windows: np.ndarray  # the number of each row's window, from 0
    names: list[str]  # of the windows
    first: int  # the number of the first live window
    together: int  # so many of the case's windows make one of these, or more where they are small
    # Why the test rows play the live ones; empty where the live rows speak for themselves.
    instead: str = ""

    @property
    def live(self) -> pd.DataFrame:
        """The live rows."""
        return self.rows[self.windows >= self.first]

    def window(self, number: int) -> pd.DataFrame:
        """The rows of one window, as they came."""
        return self.rows[self.windows == number]

    def to_learn(self, span: tuple[int, int]) -> pd.DataFrame:
        """The rows to learn from, from the first window of ``span`` to before the second."""
        at = self.windows[self.learned.index]
        return self.learned[(at >= span[0]) & (at < span[1])]

    def to_judge(self, case: Case) -> int:
        """The window from which on the newest rows can judge a model: the last, or a few more.

        Where there are classes, there must be rows of both.
        """
        for start in range(len(self.names) - 1, self.first, -1):
            rows = self.rows[self.windows >= start]
            if not case.lacks_rows(rows[case.target], LEAST_OF_A_CLASS):
                return start
        return self.first

    def newest(self, windows: int | None, before: int) -> tuple[int, int]:
        """The span of the newest windows before one; of all of them if ``windows`` is None."""
        return (0 if windows is None else max(0, before - windows), before)


def history(
    train: pd.DataFrame,
    test: pd.DataFrame,
    production: pd.DataFrame,
    case: Case,
    *,
    window_rows: int,
    least_rows: int,
    most: int,
) -> History:
    """Put all labelled rows of a case in the order of their windows.

    Windows are the monitor's. One with fewer than ``least_rows`` rows joins the next, and where
    there are more than ``most`` live windows, neighbours are joined. Without a time, a window is a
    block of rows. Where the live rows with a label are too few, or of a class too few, to judge a
    model by, the test rows play the live ones.

    Parameters
    ----------
    train, test, production : DataFrame
        From the step data_prep.
    case : Case
        Its block in ``params.yaml``.
    window_rows : int
        In a window, where the case has no time.
    least_rows : int
        In a window.
    most : int
        Windows of live rows.
    """
    live = production[has_label(production, case)]
    instead = _too_few(live, case, least_rows)
    parts = [train, test] if instead else [pd.concat([train, test]), live]
    if not (case.time or case.window):
        window_rows = max(least_rows, min(window_rows, len(parts[1]) // WINDOWS_WITHOUT_TIME))
    past, now = (_in_windows(part, case, window_rows) for part in parts)
    together = next(k for k in count(1) if _joined(now[1], least_rows, k)[-1] < most)
    # The past is joined from its newest window on, so that what is left over is the oldest.
    before = _joined(past[1][::-1], least_rows, together)
    before = [before[-1] - n for n in before[::-1]]
    after = [before[-1] + 1 + n for n in _joined(now[1], least_rows, together)]
    rows = pd.concat([past[0], now[0]], ignore_index=True)
    number_of = np.repeat([*before, *after], [*past[1], *now[1]])
    first = after[0]
    learned = pd.concat([rows[number_of < first], clean(rows[number_of >= first], case)[0]])
    names = pd.Series([*past[2], *now[2]]).groupby([*before, *after]).agg(_name).tolist()
    return History(rows, learned, number_of, names, first, together, instead)


def _too_few(live: pd.DataFrame, case: Case, least_rows: int) -> str:
    """Why labelled live rows cannot judge a model; empty if they can."""
    n = len(live)
    if n < least_rows:
        some = "only one live row has" if n == 1 else f"only {n} live rows have"
        return f"{some if n else 'no live row has'} a label"
    if why := case.lacks_rows(live[case.target], LEAST_OF_A_CLASS):
        return f"of the {n:,} live rows with a label, {why}"
    return ""


def _in_windows(
    frame: pd.DataFrame, case: Case, window_rows: int
) -> tuple[pd.DataFrame, list[int], list[str]]:
    """Rows in the order of their windows, and the size and the name of each window."""
    ordered, names = in_windows(frame, case, window_rows)
    sizes = names.groupby(names, sort=False).size()
    return ordered, sizes.tolist(), sizes.index.tolist()


def _joined(sizes: Sequence[int], least_rows: int, together: int) -> list[int]:
    """The number of the joined window that each window goes to."""
    found, current, rows, windows = [], 0, 0, 0
    for size in sizes:
        if rows >= least_rows and windows >= together:
            current, rows, windows = current + 1, 0, 0
        found.append(current)
        rows, windows = rows + size, windows + 1
    # What is too small at the end joins the window before it.
    return [min(n, current - 1) for n in found] if rows < least_rows and current else found


def _name(names: pd.Series) -> str:
    return names.iloc[0] if len(names) == 1 else f"{names.iloc[0]} to {names.iloc[-1]}"


@dataclass(frozen=True)
class Policy:
    """When to retrain, and from what.

    Parameters
    ----------
    name : str
    newest : int, optional
        Windows to learn from; None for all.
    every : int, optional
        Windows between two retrainings; None for no calendar.
    rule : Rule, optional
        Retrain when this rule on the mean error is red.
    """

    name: str
    newest: int | None = None
    every: int | None = None
    rule: Rule | None = None


def usual_policies(every: int, newest: int, rule: Rule, window: str) -> list[Policy]:
    """The policies that the notebook compares, the frozen model first.

    Parameters
    ----------
    every, newest : int
        Of the section ``maintenance``.
    rule : Rule
        The monitor's, on bias.
    window : str
        What a window is called.
    """
    last = f"newest {newest} {window}s"
    # Sooner than the rule's own red, which may wait for a second window: a fit costs seconds.
    amber = rule.model_copy(update={"patience": 1})
    calendar = {n: f"every {n} {window}s" if n > 1 else f"each {window}" for n in (every, 1)}
    return [
        Policy("never"),
        *(Policy(f"{when}, on all history", None, n) for n, when in calendar.items()),
        *(Policy(f"{when}, on the {last}", newest, n) for n, when in calendar.items()),
        Policy(f"when bias is red, on the {last}", newest, None, rule),
        Policy(f"when bias is amber, on the {last}", newest, None, amber),
    ]


class Bench:
    """One model with its settings, fitted on spans of a history; nothing is fitted twice.

    Parameters
    ----------
    model : estimator
        As the training shipped it; clones of it are fitted, preparation included. What a
        classifier's recalibration stretches and shifts by stays as it was found.
    history : History
    case : Case
    folds : int
        Of the cross-validation that says how large the errors of a model are.
    seed : int
        Of these folds.
    """

    def __init__(
        self, model: BaseEstimator, history: History, case: Case, *, folds: int, seed: int
    ):
        self.model, self.history, self.case = model, history, case
        self.folds, self.seed = folds, seed
        self._predicted: dict[tuple[int, int], np.ndarray] = {}
        self._errors: dict[tuple[int, int], np.ndarray] = {}

    def can_learn(self, span: tuple[int, int]) -> bool:
        """Whether a span has rows enough, of both classes where there are classes."""
        rows = self.history.to_learn(span)
        lacking = self.case.lacks_rows(rows[self.case.target], max(LEAST_OF_A_CLASS, self.folds))
        return len(rows) >= LEAST_TO_LEARN and not lacking

    def fitted(self, span: tuple[int, int]) -> BaseEstimator:
        """The model, fitted on the windows of a span."""
        return self._fit(self.history.to_learn(span))

    def predictions(self, span: tuple[int, int]) -> np.ndarray:
        """What a model of this span says of all live rows; what came before it means nothing."""
        if span not in self._predicted:
            self._predicted[span] = self._predict(self.fitted(span), self.history.live)
        return self._predicted[span]

    def out_of_fold_errors(self, span: tuple[int, int]) -> np.ndarray:
        """The errors that a model of this span makes on rows of it that it was not fitted on."""
        if span not in self._errors:
            rows = self.history.to_learn(span)
            found = np.empty(len(rows))
            dealt = deal(rows[self.case.target], self.case, folds=self.folds, seed=self.seed)
            for fit, held in dealt:
                found[held] = self._predict(self._fit(rows.iloc[fit]), rows.iloc[held])
            self._errors[span] = signed_errors(rows[self.case.target], found, self.case)
        return self._errors[span]

    def _fit(self, rows: pd.DataFrame) -> BaseEstimator:
        with warnings.catch_warnings():
            # The network stops after a fixed number of steps on purpose: early is a penalty, too.
            warnings.simplefilter("ignore", ConvergenceWarning)
            X, y = rows.drop(columns=self.case.target), rows[self.case.target]
            return clone(self.model).fit(X, y)

    def _predict(self, model: BaseEstimator, rows: pd.DataFrame) -> np.ndarray:
        return predictions(model, rows.drop(columns=self.case.target), self.case)


def signed_errors(y: pd.Series, p: np.ndarray, case: Case) -> np.ndarray:
    """How far each truth lies above its prediction; see `truefit.case.Case.errors`."""
    return case.errors(truth(y, case), p)


@dataclass(frozen=True)
class Replayed:
    """What became of a policy."""

    predictions: np.ndarray  # of the live rows, each by the model in use at the time
    retrained: list[int]  # the windows at whose start it was


def follow(policy: Policy, bench: Bench, *, false_alarms: float) -> Replayed:
    """Replay a policy over the live windows. It begins with a model of all windows before them.

    Parameters
    ----------
    policy : Policy
    bench : Bench
    false_alarms : float
        At most so often is anything found where nothing has changed; for a policy with a rule.
    """
    history, case = bench.history, bench.case
    place = history.windows[history.windows >= history.first]
    span, since, retrained = (0, history.first), history.first, []
    found = np.empty(len(place))
    for now in range(history.first, len(history.names)):
        due = policy.every is not None and now > since and (now - history.first) % policy.every == 0
        if policy.rule is not None and now > since:
            y, p = history.live[case.target], bench.predictions(span)
            off = [signed_errors(y[place == w], p[place == w], case) for w in range(since, now)]
            usual = bench.out_of_fold_errors(span)
            unit = case.error_unit(history.to_learn(span)[case.target])
            due = bias_is_red(off, usual, policy.rule, unit=unit, false_alarms=false_alarms)
        newer = history.newest(policy.newest, now)
        if due and bench.can_learn(newer):
            span, since = newer, now
            retrained.append(now)
        found[place == now] = bench.predictions(span)[place == now]
    return Replayed(found, retrained)


def bias_is_red(
    errors: Sequence[np.ndarray],
    usual: np.ndarray,
    rule: Rule,
    *,
    unit: float,
    false_alarms: float,
) -> bool:
    """Whether the monitor's rule on bias is red in the newest window.

    Parameters
    ----------
    errors : sequence of ndarray
        Signed errors of the windows since the model was fitted, oldest first.
    usual : ndarray
        The errors it made out of fold.
    rule : Rule
    unit : float
        In which an effect is measured.
    false_alarms : float
        Level of the p-values, adjusted for the windows so far.
    """
    compared = [compare_means(usual, window) for window in errors]
    asked = pd.DataFrame(
        [(n, "bias", "", c.effect / unit, c.p) for n, c in enumerate(compared)],
        columns=["window", "rule", "subject", "effect", "p"],
    )
    return Light.RED in lit(asked, {"bias": rule}, false_alarms)["light"].tail(1).to_list()


def resampled(
    predicted: Mapping[str, np.ndarray], y: pd.Series, case: Case, *, resamples: int, seed: int
) -> pd.DataFrame:
    """The main metric of each set of predictions, for the rows as they are and for resamples.

    Every set meets the same resamples, so differences between the columns are paired.

    Returns
    -------
    DataFrame
        One column for each set; the first row is the metric itself.
    """
    weights, metric = bootstrap_weights(len(y), resamples, seed), case.main_metric
    return pd.DataFrame({n: resample(y, p, weights, case)[metric] for n, p in predicted.items()})


def gains(draws: pd.DataFrame, rival: str, case: Case, *, confidence: float) -> pd.DataFrame:
    """By how much each column of `resampled` is better than one of them, in the main metric.

    Returns
    -------
    DataFrame
        Indexed by column: ``gain``, ``gain_low``, ``gain_high`` (above 0 is better, whichever way
        the metric counts) and ``better``: yes, no or unclear.
    """
    gap = draws.sub(draws[rival], axis=0)
    table = _ends(gap if case.main_metric in HIGHER_IS_BETTER else -gap, confidence)
    table.columns = ["gain", "gain_low", "gain_high"]
    return table.assign(better=above_zero(table["gain_low"], table["gain_high"]))


def _ends(draws: pd.DataFrame, confidence: float) -> pd.DataFrame:
    tail = (1 - confidence) / 2
    # A resample without a positive row has no ROC AUC; the others speak for it.
    ends = [draws.iloc[1:].quantile(q) for q in (tail, 1 - tail)]
    return pd.DataFrame({"value": draws.iloc[0], "low": ends[0], "high": ends[1]})


def costs(
    replayed: Mapping[str, Replayed], draws: pd.DataFrame, case: Case, *, confidence: float
) -> pd.DataFrame:
    """The main metric of each policy over all live rows, and what it gains over the first policy.

    Parameters
    ----------
    replayed : mapping from policy to Replayed
    draws : DataFrame
        From `resampled`, a column for each policy.
    case : Case
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        Indexed by policy: ``fits`` (retrainings), ``value``, ``low``, ``high``, and the columns
        of `gains` over the first policy.
    """
    table = _ends(draws, confidence)
    table.insert(0, "fits", [len(found.retrained) for found in replayed.values()])
    return table.join(gains(draws, draws.columns[0], case, confidence=confidence))


def worth_it(
    draws: pd.DataFrame, rival: str, case: Case, *, worth: float, confidence: float
) -> pd.Series:
    """Which columns of `resampled` are better than one of them by enough to matter.

    The whole interval of the gain must lie above a share of the rival's error; of a score whose
    best value is 1, of what the rival lacks.
    """
    table, value = gains(draws, rival, case, confidence=confidence), draws[rival].iloc[0]
    error = 1 - value if case.main_metric in HIGHER_IS_BETTER else value
    return table["gain_low"] > worth * error


def sensible(
    table: pd.DataFrame, draws: pd.DataFrame, case: Case, *, worth: float, confidence: float
) -> str:
    """The policy with the fewest retrainings among those that the best one beats by too little.

    It looks back, at rows that have come; whether the next ones are like them, nobody knows.

    Parameters
    ----------
    table, draws : DataFrame
        From `costs` and `resampled`.
    case : Case
    worth : float
        See `worth_it`.
    confidence : float
        Of the intervals.
    """
    values = table["value"]
    best = values.idxmax() if case.main_metric in HIGHER_IS_BETTER else values.idxmin()
    asked = {"worth": worth, "confidence": confidence}
    near = [name for name in table.index if not worth_it(draws, name, case, **asked)[best]]
    return str(table.loc[near, "fits"].idxmin())


def cost_table(table: pd.DataFrame, case: Case, caption: str) -> figures.Shown:
    """What `costs` found, for people: to the digits that the intervals deserve."""
    label = LABELS[case.main_metric]
    shown = {}
    for name, row in table.iterrows():
        spread, gap = row["high"] - row["low"], row["gain_high"] - row["gain_low"]
        value, low, high = (to_spread(row[c], spread) for c in ("value", "low", "high"))
        shown[name] = {"retrained": number(row["fits"], ".0f"), label: f"{value} ({low} to {high})"}
        if name == table.index[0]:
            continue
        gain, low, high = (to_spread(row[c], gap, "+") for c in ("gain", "gain_low", "gain_high"))
        said = COMPARED[row["better"]] if row["fits"] else "the same"
        shown[name] |= {f"gain over {table.index[0]}": f"{gain} ({low} to {high})", "it is": said}
    return figures.table(pd.DataFrame.from_dict(shown, orient="index"), caption)


def by_window(replayed: Mapping[str, Replayed], history: History, case: Case) -> pd.DataFrame:
    """The main metric of each policy (columns) in each live window (rows)."""
    place, y = history.windows[history.windows >= history.first], history.live[case.target]
    metric, rows = case.main_metric, {}
    for now in range(history.first, len(history.names)):
        here = place == now
        rows[history.names[now]] = {
            name: scores(y[here], found.predictions[here], case)[metric]
            for name, found in replayed.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def plot_by_window(
    table: pd.DataFrame, replayed: Mapping[str, Replayed], history: History, case: Case, window: str
) -> None:
    """Draw `by_window`: a line for each policy, a dot where it was retrained."""
    figure, axes = figures.new(height=4.6)
    for name, (colour, style) in zip(table, cycle(STYLES), strict=False):
        at = [now - history.first for now in replayed[name].retrained]
        # Where nothing is ever retrained, other lines lie on the first, and it must show through.
        width = 5 if name == table.columns[0] else 1.5
        axes.plot(range(len(table)), table[name], style, color=colour, lw=width, label=name)
        axes.plot(at, table[name].iloc[at], "o", ms=3, color=colour)
    _name_windows(axes, table, window)
    least, most = table.min(axis=None), table.max(axis=None)
    if case.main_metric not in HIGHER_IS_BETTER and most > 3 * least > 0:
        # Of errors, the ratio counts; and the worst policy must not press the others flat.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: significant(v, 1)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    label = LABELS[case.main_metric]
    axes.set(ylabel=label, title=f"{label} by {window}, policy by policy")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    ends = ", ".join(f"{n}: {significant(table[n].iloc[-1], 2)}" for n in table)
    figures.show(
        figure, f"Lines of the {label} by {window}, one for each policy; at the end {ends}."
    )


def input_drift(history: History, columns: Sequence[str], newest: int) -> pd.DataFrame:
    """How far the inputs of the newest windows lie from those before the live rows.

    Parameters
    ----------
    history : History
    columns : sequence of str
        What the model takes.
    newest : int
        Windows, of the live ones.

    Returns
    -------
    DataFrame
        Indexed by column, furthest first: ``before`` and ``now`` (the median, or the share of
        the value that moved most), ``distance`` (0 to 1), ``p``, and ``q``, which is adjusted for
        the number of columns.
    """
    before = history.rows[history.windows < history.first]
    start = max(history.first, len(history.names) - newest)
    now = history.rows[history.windows >= start]
    rows = {}
    for column in columns:
        if before[column].notna().any() and now[column].notna().any():
            _, found = compare_values(before[column], now[column])
            rows[column] = [found.usual, found.value, found.effect, found.p]
    names = ["before", "now", "distance", "p"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    table["q"] = false_discovery(table["p"].to_numpy())
    return table.sort_values("distance", ascending=False, kind="stable")


def mean_errors(p: np.ndarray, history: History, case: Case, *, confidence: float) -> pd.DataFrame:
    """The mean error of predictions of the live rows in each window, with intervals.

    Returns
    -------
    DataFrame
        Indexed by window: ``rows``, ``mean``, ``low`` and ``high``, by Student's t.
    """
    place = history.windows[history.windows >= history.first]
    off, rows = signed_errors(history.live[case.target], p, case), {}
    for now in range(history.first, len(history.names)):
        here = off[place == now]
        if len(here) < 2:  # nothing to take a spread of
            continue
        reach = student.ppf((1 + confidence) / 2, max(1, len(here) - 1)) * here.std(ddof=1)
        reach = reach / np.sqrt(len(here))
        rows[history.names[now]] = [
            len(here),
            here.mean(),
            here.mean() - reach,
            here.mean() + reach,
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["rows", "mean", "low", "high"])


def plot_mean_errors(table: pd.DataFrame, what: str, window: str) -> None:
    """Draw `mean_errors`: a dot with its interval for each window."""
    figure, axes = figures.new(height=3)
    at = range(len(table))
    axes.axhline(0, color=figures.GREY, lw=1)
    axes.errorbar(
        at, table["mean"], [table["mean"] - table["low"], table["high"] - table["mean"]],
        fmt="o", ms=4, color=figures.BLUE,
    )  # fmt: skip
    _name_windows(axes, table, window)
    axes.set(ylabel=what, title="The mean error of a model that is never retrained")
    first, last = (number(table["mean"].iloc[i], "+.2f") for i in (0, -1))
    figures.show(
        figure,
        f"Dots with intervals: {what} by {window}, from {first} in the first to {last} at last.",
    )


def _name_windows(axes: Axes, table: pd.DataFrame, window: str) -> None:
    step = max(1, len(table) // 12)
    labels = [name.replace(" to ", "\nto ") for name in table.index[::step]]
    axes.set_xticks(range(0, len(table), step), labels)
    axes.set_xlabel(window)
