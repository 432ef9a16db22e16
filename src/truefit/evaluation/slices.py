"""Where is a model wrong: by slices that a person named, by slices that are searched for, by row.

A slice is a part of the rows that has a name: houses in one neighbourhood, applicants of one age.
The error is one that is defined for few rows, too: the RMSE (of the logarithm for a logged
target), and the Brier score in a classification.
"""

import math
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from truefit import figures
from truefit.case import ABSENT, Case
from truefit.data_prep.clean import column_roles
from truefit.digits import number, to_spread
from truefit.evaluation.intervals import bootstrap_weights
from truefit.metrics import AT_ONCE, LABELS, truth
from truefit.project import InputError
from truefit.verdicts import Conclusion

MISSING = "missing"
MOST_GROUPS = 50  # named in a table; a column of more values has its rarest pooled
MOST_DRAWN = 12  # values of one slice in a figure
SAME = 0.1  # an error within a tenth of the other rows' is called the same
RARE = 0.01  # share of the training rows up to which a value is odd
FEWEST_ROWS = 10  # fewer say nothing about how far an error may be off
RESAMPLES = 1000  # of the half of the rows that a slice found is measured on
GRID = 2**20  # steps of the squared errors that a tree learns, so that its sums are exact


def slice_labels(frame: pd.DataFrame, case: Case, reference: pd.DataFrame) -> pd.DataFrame:
    """The name of each row's slice, for each column in the case's ``slices``.

    A text is its own name. A number belongs to a band between the limits in the case's block, its
    low end included: of whole numbers ``25 to 34``, of others ``0.5 to 1.5``, which ends just
    below 1.5. Without limits there are four bands of about equally many rows of ``reference``,
    and fewer where too many rows have the same value.

    Parameters
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
    case : Case
    reference : DataFrame
        The training rows, which alone decide on the bands, so that other rows meet the same ones.

    Returns
    -------
    DataFrame of shape (n_samples, n_slices)
        Ordered categories, lowest first, with the index of ``frame``. What is not known is
        ``missing``, or ``absent`` where an empty cell means that.

    Raises
    ------
    InputError
        If a slice is not a column, or limits do not fit it.
    """
    return pd.DataFrame(
        {name: _labels(frame, case, reference, name) for name in case.slices}, index=frame.index
    )


def _labels(frame: pd.DataFrame, case: Case, reference: pd.DataFrame, name: str) -> pd.Categorical:
    for table in (reference, frame):
        if name not in table:
            raise InputError(f"params.yaml: slices names {_not_a_column(name, table)}")
    if not is_quantity(reference[name], case):
        if case.slices[name]:
            raise InputError(
                f"params.yaml: slices gives limits for {name!r}, which is not a column of numbers; "
                f"write {name}: []"
            )
        return _texts(frame[name], reference[name], case.order_of(name) or [])
    known = np.sort(reference[name].dropna().to_numpy(dtype=float))
    limits = case.slices[name] or _quartiles(known)
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    empty = ABSENT if name in case.absent else MISSING
    bands = _bands(limits, whole=bool((known == np.floor(known)).all()))
    codes = np.where(np.isnan(values), len(bands), np.searchsorted(limits, values, side="right"))
    return pd.Categorical.from_codes(codes, [*bands, empty], ordered=True)


def is_quantity(values: pd.Series, case: Case) -> bool:
    """Whether a column holds numbers that can be compared, and not names."""
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numbers and values.name not in case.codes


def _not_a_column(name: str, frame: pd.DataFrame) -> str:
    close = get_close_matches(name, [str(c) for c in frame.columns], n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(map(str, frame.columns))}"
    return f"{name!r}, which is not a column; {hint}"


def _texts(values: pd.Series, reference: pd.Series, order: list[str]) -> pd.Categorical:
    texts, others = ([_text(v) for v in column] for column in (values, reference))
    rank = {v: i for i, v in enumerate(order)}
    found = sorted({*texts, *others} - {MISSING}, key=lambda v: (rank.get(v, len(rank)), v))
    return pd.Categorical(texts, [*found, MISSING], ordered=True)


def _text(value: Any) -> str:
    if pd.isna(value):
        return MISSING
    return plain(value) if isinstance(value, int | float | np.number) else str(value)


def plain(value: float) -> str:
    """A number as in the table, with commas from 10,000 on, so that a year has none."""
    value = float(value)
    spec = "," if abs(value) >= 10_000 else ""
    whole = value.is_integer() and abs(value) < 1e15
    return number(int(value) if whole else value, spec)


def _quartiles(values: np.ndarray) -> list[float]:
    """Limits that part sorted numbers into four, where a new value begins."""
    n = len(values)
    starts = np.flatnonzero(values[1:] != values[:-1]) + 1
    if not len(starts):
        return []
    cuts = sorted({int(starts[np.argmin(np.abs(starts - n * k / 4))]) for k in (1, 2, 3)})
    # A limit may pass by one row in a hundred to be a round one, but not the limit before it.
    floors = [max(c - 1 - n // 100, before) for c, before in zip(cuts, [0, *cuts], strict=False)]
    return [_roundest(values[f], values[c]) for f, c in zip(floors, cuts, strict=True)]


def _roundest(above: float, up_to: float) -> float:
    """The number with fewest digits that is above the one and not above the other."""
    size = max(abs(above), abs(up_to))
    first = -math.floor(math.log10(size)) if 0 < size < math.inf else 0
    for decimals in range(first, first + 17):
        step = 10.0 ** min(abs(decimals), 300)  # a float ends at 1e308
        found = math.floor(up_to * step) / step if decimals > 0 else up_to // step * step
        if above < found <= up_to:
            return float(found)
    return float(up_to)


def _bands(limits: list[float], *, whole: bool) -> list[str]:
    if not limits:
        return ["any value"]
    names = [f"below {plain(limits[0])}"]
    # Of whole numbers the last one inside is the clearer end: "25 to 34", not "25 to 35".
    whole = whole and all(float(v).is_integer() for v in limits)
    for low, high in zip(limits, limits[1:], strict=False):
        end = high - 1 if whole else high
        names.append(plain(low) if end == low else f"{plain(low)} to {plain(end)}")
    return [*names, f"{plain(limits[-1])} and above"]


def members(labels: pd.Series, least: int) -> dict[str, np.ndarray]:
    """The rows of each value, in the values' order, with the rare values pooled.

    Parameters
    ----------
    labels : Series of shape (n_samples,)
        Ordered categories, or any values; those are sorted. An empty label is ``missing``.
    least : int
        A value of fewer rows is pooled, if another one is, too.

    Returns
    -------
    dict from name to ndarray of bool, of shape (n_samples,)
    """
    dtype = labels.dtype
    ordered = isinstance(dtype, pd.CategoricalDtype) and dtype.ordered
    order = {_text(v): i for i, v in enumerate(dtype.categories)} if ordered else {}
    names, codes, counts = np.unique(
        np.array([_text(v) for v in labels], dtype=object), return_inverse=True, return_counts=True
    )
    many = np.lexsort((names, -counts))[:MOST_GROUPS]
    kept = {i for i in many if counts[i] >= least}
    few = [i for i in range(len(names)) if i not in kept]
    if len(few) == 1:  # pooled with nothing it keeps its name
        kept, few = {*kept, *few}, []
    rank = {i: (names[i] == MISSING, order.get(names[i], len(order)), names[i]) for i in kept}
    found = {str(names[i]): codes == i for i in sorted(kept, key=rank.get)}
    if few:
        found[f"others ({len(few)} values)"] = np.isin(codes, few)
    return found


def row_errors(y: pd.Series, p: np.ndarray, case: Case) -> np.ndarray:
    """Actual minus predicted, row by row: of the logarithms for a logged target.

    Returns
    -------
    ndarray of shape (n_samples,)
        In the target's unit, in logarithms, or in probability.
    """
    return case.errors(truth(y, case), np.asarray(p, dtype=float))


def _error(squares: np.ndarray, rows: np.ndarray, case: Case) -> np.ndarray:
    """The error of a sum of squared errors over some rows; NaN over none."""
    mean = np.divide(squares, rows, np.full(np.shape(squares), np.nan), where=rows > 0)
    return case.mean_error(mean)


def _inside_and_elsewhere(
    squared: np.ndarray, groups: np.ndarray, weights: np.ndarray, case: Case
) -> tuple[np.ndarray, np.ndarray]:
    """Each group's error and that of all other rows, in each resample.

    Parameters
    ----------
    squared : ndarray of shape (n_samples,)
    groups : ndarray of bool, of shape (n_samples, n_groups)
    weights : ndarray of shape (n_resamples, n_samples)

    Returns
    -------
    tuple of two ndarray of shape (n_resamples, n_groups)
    """
    # The other rows have their own sums: a difference of two large ones would lose digits.
    columns = np.hstack([groups, ~groups]).astype(float)
    parts, rows = [], max(1, AT_ONCE // len(squared))
    for first in range(0, len(weights), rows):
        block = weights[first : first + rows].astype(float)
        parts.append(_error((block * squared) @ columns, block @ columns, case))
    inside, elsewhere = np.split(np.vstack(parts), 2, axis=1)
    return inside, elsewhere


def _interval(values: np.ndarray, rows: int, confidence: float) -> tuple[float, float]:
    """A percentile interval; none for few rows, which resamples would show far too narrow."""
    known = values[1:][~np.isnan(values[1:])]
    if rows < FEWEST_ROWS or not len(known):
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _differs(inside: np.ndarray, elsewhere: np.ndarray, rows: int, confidence: float) -> Conclusion:
    """Whether the errors differ; ``rows`` is how many the smaller of the two sides has."""
    low, high = _interval(inside - elsewhere, rows, confidence)
    usual = abs(elsewhere[0])
    trace = 1e-9 * usual  # what rounding leaves of no difference
    if low > trace or high < -trace:
        return Conclusion.YES
    same = max(-low, high) <= max(trace, SAME * usual)
    return Conclusion.NO if same else Conclusion.UNCLEAR


def error_by_slice(
    test: pd.DataFrame,
    p: np.ndarray,
    case: Case,
    labels: pd.DataFrame,
    weights: np.ndarray,
    *,
    confidence: float,
    min_rows: int = FEWEST_ROWS,
) -> pd.DataFrame:
    """The error of each slice, with its percentile bootstrap interval.

    Whether a slice differs is read off the interval of its error minus that of all other rows,
    both measured in the same resamples. Each interval stands for itself: of twenty slices that
    are all alike, one is expected to differ at a confidence of 0.95, so a single ``yes`` in a long
    table is a question, not an answer.

    Parameters
    ----------
    test : DataFrame of shape (n_samples, n_columns)
        Rows that nothing was fitted on, with the target.
    p : ndarray of shape (n_samples,)
        See `truefit.metrics.predictions`.
    labels : DataFrame of shape (n_samples, n_slices)
        From `slice_labels`, or any other labels.
    weights : ndarray of shape (n_resamples + 1, n_samples)
        From `bootstrap_weights`: the first row ones.
    confidence : float
        Of the intervals. With few rows they are somewhat too narrow.
    min_rows : int
        Values with fewer rows are pooled.

    Returns
    -------
    DataFrame
        Indexed by ``slice`` and ``value``: ``rows``, their ``share``, the ``error`` (see
        `truefit.case.Case.error_metric`) with ``low`` and ``high`` (blank below ten rows),
        ``elsewhere`` (the error of all other rows), ``differs``: ``yes``, ``no`` (the interval of
        the difference lies within a tenth of the other rows' error) or ``unclear``. In a regression
        also ``bias``, the mean of actual minus predicted (of logarithms for a logged target), in a
        classification ``said``, the mean probability, and ``happened``, the share of the positive
        class.
    """
    errors, actual = row_errors(test[case.target], p, case), truth(test[case.target], case)
    p, rows = np.asarray(p, dtype=float), {}
    for name in labels.columns:
        groups = members(labels[name], min_rows)
        inside, elsewhere = _inside_and_elsewhere(
            errors**2, np.column_stack(list(groups.values())), weights, case
        )
        for i, (value, member) in enumerate(groups.items()):
            n = int(member.sum())
            rows[name, value] = {
                "rows": n,
                "share": n / len(test),
                "error": inside[0, i],
                **dict(zip(("low", "high"), _interval(inside[:, i], n, confidence), strict=True)),
                "elsewhere": elsewhere[0, i],
                "differs": _differs(
                    inside[:, i], elsewhere[:, i], min(n, len(test) - n), confidence
                ),
            } | case.tendency(errors[member], actual[member], p[member])
    columns = ["rows", "share", "error", "low", "high", "elsewhere", "differs", *case.tendencies]
    index = pd.MultiIndex.from_tuples(list(rows), names=["slice", "value"])
    return pd.DataFrame(list(rows.values()), index=index if rows else None, columns=columns)


def worst_slices(
    test: pd.DataFrame,
    p: np.ndarray,
    case: Case,
    *,
    seed: int,
    depth: int = 2,
    min_share: float = 0.05,
    confidence: float,
) -> pd.DataFrame:
    """Slices with a large error that nobody thought of.

    A shallow tree learns the squared error from the raw features on one half of the rows; the
    slices it finds are measured on the other half. On the rows that it was found on, the worst of
    many slices looks worse than it is.

    Parameters
    ----------
    test : DataFrame of shape (n_samples, n_columns)
        Rows that nothing was fitted on, with the target.
    p : ndarray of shape (n_samples,)
        See `truefit.metrics.predictions`.
    seed : int
        Of the halves, the tree and the resamples.
    depth : int
        Most conditions in a rule.
    min_share : float
        Least share of the rows in a slice.
    confidence : float
        Of the percentile bootstrap intervals.

    Returns
    -------
    DataFrame
        Numbered from 1 in the order found, worst first: ``rule`` in words, ``rows``, ``error``,
        ``low``, ``high`` and ``elsewhere`` (the error of the other rows), all of the second half;
        empty if the tree found nothing above the mean.
    """
    columns = ["rule", "rows", "error", "low", "high", "elsewhere"]
    errors = row_errors(test[case.target], p, case)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(test)), 2)
    found, measured = (np.sort(half) for half in halves)
    least = max(5, math.ceil(min_share * len(found)))
    coded, questions = _questions(test, case, found, least)
    squared = errors**2
    if not questions or len(found) < 2 * least or not squared[found].max() > 0:
        return pd.DataFrame(columns=columns)
    # Whole numbers add up without rounding, so equally good splits are equal on every machine.
    target = np.round(squared / squared[found].max() * GRID)
    tree = DecisionTreeRegressor(max_depth=depth, min_samples_leaf=least, random_state=seed)
    tree = tree.fit(coded[found], target[found]).tree_
    leaves = [leaf for leaf in _leaves(tree) if tree.value[leaf[0], 0, 0] > target[found].mean()]
    rules = []
    for leaf, path in sorted(leaves, key=lambda found_leaf: -tree.value[found_leaf[0], 0, 0]):
        conditions = _conditions(path, coded[found])
        member = np.ones(len(test), dtype=bool)
        for column, low, high in conditions:
            member &= (coded[:, column] >= low) & (coded[:, column] < high)
        if member[measured].any():
            rules.append((leaf, _in_words(conditions, questions), member[measured]))
    if not rules:
        return pd.DataFrame(columns=columns)
    weights = bootstrap_weights(len(measured), RESAMPLES, seed)
    groups = np.column_stack([member for *_, member in rules])
    inside, elsewhere = _inside_and_elsewhere(squared[measured], groups, weights, case)
    rows = []
    for i, (_, rule, member) in enumerate(rules):
        n = int(member.sum())
        ends = _interval(inside[:, i], n, confidence)
        rows.append((rule, n, inside[0, i], *ends, elsewhere[0, i]))
    return pd.DataFrame(rows, columns=columns, index=range(1, len(rows) + 1))


def _questions(
    test: pd.DataFrame, case: Case, found: np.ndarray, least: int
) -> tuple[np.ndarray, list[dict]]:
    """What a tree may ask: numbers and ranks by their size, categories one by one.

    Returns
    -------
    coded : ndarray of float64, of shape (n_samples, n_questions)
        Exact in float32, in which a tree compares.
    questions : list of dict
        ``column`` and, where they apply, ``value`` (of a category), ``order`` (of ranks) and
        ``filled`` (what stands for a missing number).
    """
    roles, coded, questions = column_roles(test, case)["role"], [], []
    for name in roles.index[roles.isin(["number", "ordered", "category"])]:
        order = case.order_of(name) if roles[name] == "ordered" else None
        if roles[name] == "category" or (name in case.codes and not order):
            texts = np.array([_text(v) for v in test[name]], dtype=object)
            values, counts = np.unique(texts[found], return_counts=True)
            for value in values[counts >= least]:
                coded.append((texts == value).astype(float))
                questions.append({"column": name, "value": value})
            continue
        values = test[name].map({v: i for i, v in enumerate(order)}) if order else test[name]
        with np.errstate(over="ignore"):
            values = values.to_numpy(dtype=np.float32, na_value=np.nan).astype(float)
        known = values[found][np.isfinite(values[found])]
        if not len(known):
            continue
        middle = float(np.sort(known)[len(known) // 2])
        gaps = ~np.isfinite(values)
        coded.append(np.where(gaps, middle, values))
        asked = {"column": name, "order": order, "filled": middle if gaps.any() else None}
        questions.append(asked)
    return np.column_stack(coded) if coded else np.empty((len(test), 0)), questions


def _leaves(tree: Any, node: int = 0, path: tuple = ()) -> list[tuple[int, tuple]]:
    """The leaves of a tree, each with the splits that lead there: column, threshold, below."""
    if tree.children_left[node] < 0:
        return [(node, path)]
    column, threshold = int(tree.feature[node]), float(tree.threshold[node])
    return [
        leaf
        for child, below in ((tree.children_left[node], True), (tree.children_right[node], False))
        for leaf in _leaves(tree, int(child), (*path, (column, threshold, below)))
    ]


def _conditions(path: tuple, coded: np.ndarray) -> list[tuple[int, float, float]]:
    """The splits on a path as one range a column, between the roundest limits that part alike."""
    ranges: dict[int, tuple[float, float]] = {}
    for column, threshold, below in path:
        values = coded[:, column]
        left = values <= threshold
        limit = _roundest(values[left].max(), values[~left].min())
        low, high = ranges.get(column, (-math.inf, math.inf))
        ranges[column] = (low, min(high, limit)) if below else (max(low, limit), high)
    return [(column, low, high) for column, (low, high) in ranges.items()]


def _in_words(conditions: list[tuple[int, float, float]], questions: list[dict]) -> str:
    words = []
    for column, low, high in conditions:
        asked = questions[column]
        name, order = asked["column"], asked.get("order")
        if "value" in asked:
            words.append(f"{name} is {'' if low > 0 else 'not '}{asked['value']}")
            continue
        if order:
            first = 0 if low == -math.inf else math.ceil(low)
            last = len(order) - 1 if high == math.inf else math.ceil(high) - 1
            if first == last:
                said = f"{name} is {order[first]}"
            elif first == 0:
                said = f"{name} is {order[last]} or lower"
            elif last == len(order) - 1:
                said = f"{name} is {order[first]} or higher"
            else:
                said = f"{name} is {order[first]} to {order[last]}"
        elif low == -math.inf:
            said = f"{name} below {plain(high)}"
        elif high == math.inf:
            said = f"{name} at least {plain(low)}"
        else:
            said = f"{name} from {plain(low)} to below {plain(high)}"
        filled = asked["filled"]
        words.append(said + (" or missing" if filled is not None and low <= filled < high else ""))
    return " and ".join(words)


def oddities(rows: pd.DataFrame, reference: pd.DataFrame, case: Case, most: int = 3) -> list[str]:
    """What is odd about each of some rows beside the training rows, in words, rarest first.

    Odd is a number in the outer hundredth on either side, a category that at most one training
    row in a hundred has, and a gap where at most one in a hundred has a gap. Among many columns
    some are odd by chance, so an oddity is a hint at a reason and no reason.

    Parameters
    ----------
    rows : DataFrame
        For instance the ones that are most wrong.
    reference : DataFrame
        The training rows.
    most : int
        Most oddities to tell of one row.

    Returns
    -------
    list of str
        One for each row.
    """
    roles = column_roles(reference, case)["role"]
    told: list[list[tuple[float, str]]] = [[] for _ in range(len(rows))]
    for name in roles.index[roles.isin(["number", "ordered", "category"])]:
        if name not in rows:
            continue
        if roles[name] == "number" and is_quantity(reference[name], case):
            found = _odd_numbers(rows[name], reference[name], name in case.absent)
        else:
            found = _odd_texts(rows[name], reference[name])
        for row, odd in zip(told, found, strict=True):
            if odd is not None:
                row.append((odd[0], f"{name} {odd[1]}"))
    return [
        "; ".join(text for _, text in sorted(row, key=lambda odd: odd[0])[:most])
        or "nothing odd in any column"
        for row in told
    ]


def _odd_numbers(
    values: pd.Series, reference: pd.Series, absent: bool
) -> list[tuple[float, str] | None]:
    known = np.sort(reference.dropna().to_numpy(dtype=float))
    n, gaps, found = len(known), int(reference.isna().sum()), []
    for value in pd.to_numeric(values, errors="coerce").to_numpy(dtype=float):
        if np.isnan(value):
            found.append(_odd_count("absent" if absent else MISSING, gaps, len(reference)))
            continue
        below = int(np.searchsorted(known, value, side="left"))
        above = n - int(np.searchsorted(known, value, side="right"))
        # What has the same value counts to the far side: ties are not beyond each other.
        side, share, beyond = min(
            (("above", (n - below) / n, below), ("below", (n - above) / n, above)),
            key=lambda s: s[1],
        )
        if share > RARE:
            found.append(None)
        else:
            found.append((share, f"{plain(value)} is {side} {_share(beyond, n)} training rows"))
    return found


def _odd_texts(values: pd.Series, reference: pd.Series) -> list[tuple[float, str] | None]:
    counts = pd.Series([_text(v) for v in reference]).value_counts().to_dict()
    return [
        _odd_count(text if text in (MISSING, ABSENT) else f"is {text}", counts.get(text, 0), n)
        for text, n in ((_text(v), len(reference)) for v in values)
    ]


def _odd_count(what: str, times: int, n: int) -> tuple[float, str] | None:
    if times > RARE * n:
        return None
    what = f"is {what}" if what in (MISSING, ABSENT) else what
    rows = f"{times:,} of {n:,}" if times else "none of the"
    return times / n, f"{what}, as in {rows} training rows"


def _share(part: int, n: int) -> str:
    # Cut off, not rounded: 100 % means all of them.
    return "all" if part == n else f"{math.floor(1000 * part / n) / 10:.1f} % of the"


def plot_slices(table: pd.DataFrame, case: Case) -> None:
    """Each slice's error as a dot on its interval, beside the error of all rows.

    Parameters
    ----------
    table : DataFrame
        From `error_by_slice`. Of a column with more than twelve values the twelve with most rows
        are drawn, largest error first.
    """
    if table.empty:
        return figures.say("No slices are named, so there is nothing to draw.")
    metric, panels = LABELS[case.error_metric], {}
    for name, part in table.groupby(level="slice", sort=False):
        drawn = part.droplevel("slice")
        if len(drawn) > MOST_DRAWN:
            drawn = drawn.sort_values("rows", ascending=False, kind="stable").head(MOST_DRAWN)
            drawn = drawn.sort_values("error", ascending=False, kind="stable")
        panels[name] = (drawn, len(part))
    heights = [len(drawn) + 1.6 for drawn, _ in panels.values()]
    fig, axes = figures.new(
        height=0.7 + 0.21 * sum(heights),
        nrows=len(panels),
        sharex=True,
        squeeze=False,
        height_ratios=heights,
    )
    for ax, (name, (drawn, every)) in zip(axes.flat, panels.items(), strict=True):
        _panel(ax, drawn, table.loc[[name]], case)
        note = f", the {len(drawn)} with most rows of {every}" if len(drawn) < every else ""
        ax.set_title(f"{name}{note}")
    unit = case.unit(case.target) if case.error_metric == "rmse" else ""
    axes.flat[-1].set_xlabel(
        f"{metric}{f', {unit}' if unit else ''}: grey line, all rows; orange, differs from the rest"
    )
    beyond = [f"{name}: {value}" for name, value in table.index[table["differs"] == Conclusion.YES]]
    figures.show(
        fig,
        f"The {metric} of {sum(len(d) for d, _ in panels.values())} slices with intervals. "
        + (f"Differing from the other rows: {', '.join(beyond)}." if beyond else "None differs."),
    )


def _panel(ax: Any, drawn: pd.DataFrame, whole: pd.DataFrame, case: Case) -> None:
    every = case.mean_error(np.average(case.mean_square(whole["error"]), weights=whole["rows"]))
    ax.axvline(every, color=figures.GREY, lw=1)
    for place, row in enumerate(drawn.itertuples()):
        colour = figures.ORANGE if row.differs == Conclusion.YES else figures.BLUE
        ax.plot([row.low, row.high], [place, place], color=colour, lw=1.4)
        ax.plot(row.error, place, "o", color=colour, ms=4.5)
    names = [v if len(v) <= 32 else v[:31] + "…" for v in drawn.index]
    shown = [f"{v} ({n:,} rows)" for v, n in zip(names, drawn["rows"], strict=True)]
    ax.set_yticks(range(len(drawn)), shown, fontsize=8)
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    ax.grid(False, axis="y")


def slice_table(found: pd.DataFrame, caption: str) -> figures.Shown:
    """What `error_by_slice` found, for people: to the digits that the intervals deserve."""
    shown = found.drop(columns="share").astype(object)
    for place, row in found.iterrows():
        width = row["high"] - row["low"] if pd.notna(row["low"]) else row["error"]
        for name in ("error", "low", "high", "elsewhere", "bias"):
            if name in row and pd.notna(row[name]):
                sign = "+" if name == "bias" else ""
                shown.loc[place, name] = to_spread(row[name], width or 1.0, sign)
        for name in ("said", "happened"):
            if name in row:
                shown.loc[place, name] = number(row[name], ".1%")
    # Two levels of an index would be two rows of headings.
    shown.index = [": ".join(map(str, place)) for place in shown.index]
    return figures.table(shown, caption)
