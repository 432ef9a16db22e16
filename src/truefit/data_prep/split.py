"""Split rows without letting the test into the training, and measure what a leak would claim."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from truefit.case import NOT_AN_ID, OUTPUTS, Case
from truefit.data_prep.clean import column_roles
from truefit.project import InputError

MIN_ROWS = 20


class Split(NamedTuple):
    """Rows to learn from and rows to be judged by. Only ``train`` is ever fitted on."""

    train: pd.DataFrame
    test: pd.DataFrame


def set_aside(
    tables: dict[str, pd.DataFrame], case: Case, *, production_share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Set the live traffic aside before anybody looks at a row of it, and what is too old.

    Parameters
    ----------
    tables : dict of DataFrame
        From `collect`.
    case : Case
        Its block in ``params.yaml``.
    production_share : float
        Share of all rows that play the live traffic when the case has no ``time``.
    seed : int
        Of the random choice of those rows.

    Returns
    -------
    development : DataFrame
        Rows to train and test with. Where the case brings its own split, the first level of the
        index says ``train`` or ``test``.
    production : DataFrame
        Rows in the order of ``time``, as they came.
    """
    if "all" not in tables:
        development = pd.concat({name: tables[name] for name in ("train", "test")})
        production = tables.get("production", development.iloc[:0])
    else:
        live = _live_rows(tables["all"], case, production_share, seed)
        development, production = tables["all"][~live], tables["all"][live]
        if development.empty:
            raise InputError(
                f"params.yaml: production_from {case.production_from!r} leaves no row of "
                f"{case.table} to learn from"
            )
    if case.learn_from is not None:
        development = development[_since(development, case, "learn_from")]
        if development.empty:
            raise InputError(
                f"params.yaml: learn_from {case.learn_from!r} leaves no row of {case.table} to "
                f"learn from, because live rows begin at {case.production_from!r}"
            )
    _check_known(development, case)  # the exploration needs it, and no rule can mend it
    if case.time:
        production = production.sort_values(case.time, kind="stable")
    return development, production.reset_index(drop=True)


def split(development: pd.DataFrame, case: Case, *, test_share: float, seed: int) -> Split:
    """Split cleaned rows into train and test; a classification keeps the classes' shares.

    Parameters
    ----------
    development : DataFrame
        From `set_aside`, cleaned.
    case : Case
        Its block in ``params.yaml``.
    test_share : float
        Share of the rows kept for the test, between 0 and 1.
    seed : int
        Of the random choice of rows.

    Raises
    ------
    InputError
        If the target cannot be learned, or a part has too few rows.
    """
    from sklearn.model_selection import train_test_split

    _check_target(development, case)
    case.check_classes(development[case.target], "learn from")
    _check_orders(development, case)
    if isinstance(development.index, pd.MultiIndex):
        parts = Split(development.loc["train"], development.loc["test"])
    else:
        _check_size(round(test_share * len(development)), "test", case)
        strata = case.strata(development[case.target])
        parts = Split(
            *train_test_split(development, test_size=test_share, random_state=seed, stratify=strata)
        )
    for name, part in parts._asdict().items():
        _check_size(len(part), name, case)
        case.check_classes(part[case.target], f"{name} with")
    _check_features(parts.train, case)
    _check_names(parts.train, case)
    return Split(*(part.reset_index(drop=True) for part in parts))


def _check_size(rows: int, name: str, case: Case) -> None:
    if rows < MIN_ROWS:
        raise InputError(
            f"{case.table}: only {rows} rows to {name} with; at least {MIN_ROWS} are needed"
        )


def _check_known(rows: pd.DataFrame, case: Case) -> None:
    """There must be a target, and in a regression it must be a number."""
    target = rows[case.target].dropna()
    if target.empty:
        raise InputError(f"{case.table}: the target {case.target} is empty in every row")
    case.check_known(target)


def _check_orders(rows: pd.DataFrame, case: Case) -> None:
    """An order must list every value, or the model would take the others for not known."""
    for column in (c for rule in case.ordinal for c in rule.columns):
        known = rows[column].dropna()
        odd = known[~known.isin(case.order_of(column))]
        if len(odd):
            raise InputError(
                f"{case.table}: {column} holds {odd.iloc[0]!r}, which its order under ordinal does "
                "not list"
            )


def _check_features(train: pd.DataFrame, case: Case) -> None:
    if not column_roles(train, case)["role"].isin(["number", "ordered", "category"]).any():
        raise InputError(f"{case.table} has no column to predict {case.target} from")


def _check_names(train: pd.DataFrame, case: Case) -> None:
    """A name must be one that the graph of a model and the records of a service can carry."""
    roles = column_roles(train, case)["role"]
    for column, role in roles[~roles.isin(["target", "time", "dropped"])].items():
        where = f"{case.table}: the column {column!r}"
        if any(c in '"\\' or not c.isprintable() for c in column):
            raise InputError(
                f"{where} has a quotation mark, a backslash or a control character in its name, "
                "which no service could take; rename it in the table, or list it in drop_columns"
            )
        if column in (NOT_AN_ID if role == "id" else OUTPUTS):
            raise InputError(
                f"{where} is called like an answer of the model; rename it in the table, or list "
                "it in drop_columns"
            )


def _live_rows(table: pd.DataFrame, case: Case, share: float, seed: int) -> pd.Series:
    if case.time is None:
        chosen = np.random.default_rng(seed).choice(
            len(table), size=round(share * len(table)), replace=False
        )
        return pd.Series(np.isin(np.arange(len(table)), chosen), index=table.index)
    return _since(table, case, "production_from")


def _since(table: pd.DataFrame, case: Case, key: str) -> pd.Series:
    """The rows from the time on that a key of the case's block says."""
    start = getattr(case, key)
    if pd.api.types.is_numeric_dtype(table[case.time]) != isinstance(start, int | float):
        raise InputError(
            f"params.yaml: {key} is {start!r}, which cannot be compared with the values of "
            f"{case.time}, such as {table[case.time].tolist()[0]!r}"
        )
    return table[case.time] >= start


def _check_target(rows: pd.DataFrame, case: Case) -> None:
    target = rows[case.target]
    if target.nunique() == 1:
        raise InputError(
            f"{case.table}: the target {case.target} is {target.tolist()[0]!r} in every row to "
            "learn from; there is nothing to predict"
        )
    _check_known(rows, case)
    case.check_target(target)


def leak_by_scaling(
    X: np.ndarray, y: np.ndarray, *, test_share: float, seed: int
) -> tuple[float, float]:
    """R² of nearest neighbours on held-out rows: scaled by all rows, and by the training rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Numbers, none missing.
    y : ndarray of shape (n_samples,)

    Returns
    -------
    leaky, honest : float
        NaN if there is no column to scale.
    """
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if X.shape[1] == 0:
        return float("nan"), float("nan")
    part = {"test_size": test_share, "random_state": seed}
    scaled = StandardScaler().fit_transform(X)  # the leak: the test rows move the mean
    train, test, y_train, y_test = train_test_split(scaled, y, **part)
    leaky = KNeighborsRegressor().fit(train, y_train).score(test, y_test)
    train, test, y_train, y_test = train_test_split(X, y, **part)
    honest = make_pipeline(StandardScaler(), KNeighborsRegressor()).fit(train, y_train)
    return leaky, honest.score(test, y_test)


def leak_by_selection(
    y: np.ndarray,
    *,
    noise_columns: int,
    test_share: float,
    seed: int,
    keep: int = 20,
    repeats: int = 10,
) -> tuple[float, float]:
    """Mean R² of a linear model on pure noise: features selected by all rows, or by training rows.

    The features are drawn at random and know nothing of ``y``, so an honest score is at or
    below zero on average. See Hastie, Tibshirani and Friedman, The Elements of Statistical
    Learning, section 7.10.2.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    noise_columns : int
        How many random features are drawn.
    keep : int
        How many are selected, those most related to ``y``.
    repeats : int
        How often features are drawn and rows split; the scores are averaged.

    Returns
    -------
    leaky, honest : float
        NaN if all rows have the same target.
    """
    from sklearn.feature_selection import SelectKBest, f_regression
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    if np.ptp(y) == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    scores = []
    for repeat in range(repeats):
        noise = rng.standard_normal((len(y), noise_columns))
        part = {"test_size": test_share, "random_state": seed + repeat}
        selected = SelectKBest(f_regression, k=keep).fit_transform(noise, y)  # the leak
        train, test, y_train, y_test = train_test_split(selected, y, **part)
        leaky = LinearRegression().fit(train, y_train).score(test, y_test)
        train, test, y_train, y_test = train_test_split(noise, y, **part)
        model = make_pipeline(SelectKBest(f_regression, k=keep), LinearRegression())
        scores.append((leaky, model.fit(train, y_train).score(test, y_test)))
    leaky, honest = np.mean(scores, axis=0)
    return float(leaky), float(honest)
