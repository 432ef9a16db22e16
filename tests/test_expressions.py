"""Expressions mean in every row what they say, and nothing else can be written in one."""

import math
import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import expressions, training
from truefit.project import InputError
from truefit.task import Regression

CASE = Regression(table="t.csv", target="y", id="key")
FLOATS = st.floats(-1e6, 1e6, width=32) | st.just(float("nan")) | st.sampled_from([0.0, -1.0, 1.0])
COMPARISONS = ["<", "<=", ">", ">=", "==", "!="]
LEAVES = st.sampled_from(["a", "b", "c", "2", "0.5", "1e3", "0"])


def compared(inner):
    """Conditions on numbers, some of them of two conditions."""
    one = st.builds("({} {} {})".format, inner, st.sampled_from(COMPARISONS), inner)
    one |= st.builds("missing({})".format, inner)
    return (
        one
        | st.builds("({} {} {})".format, one, st.sampled_from("&|"), one)
        | st.builds("(~{})".format, one)
    )


def grown(inner):
    """Longer expressions out of shorter ones."""
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//"]), inner),
        compared(inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, st.sampled_from(["sqrt", "log1p"]), inner),
        st.builds(
            "{}({}, {})".format, st.sampled_from(["minimum", "maximum", "fill"]), inner, inner
        ),
    )


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=8)


def value(text, **columns):
    arrays = {name: np.array(v, dtype=np.float32) for name, v in columns.items()}
    return expressions.evaluate(expressions.parse(text), arrays)


def refusal(text, action=expressions.parse, *more):
    with pytest.raises(InputError) as caught:
        action(text, *more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


F = np.float32
NAN = F("nan")


# Row by row, as a person would say what each does.
MEANING = {
    "sqrt": lambda a: np.sqrt(a) if a >= 0 else NAN,
    "log1p": lambda a: F(np.log(np.float64(a) + 1)),
    "missing": lambda a: F(np.isnan(a)),
    "minimum": lambda a, b: NAN if np.isnan(a) or np.isnan(b) else min(a, b),
    "maximum": lambda a, b: NAN if np.isnan(a) or np.isnan(b) else max(a, b),
    "fill": lambda a, b: b if np.isnan(a) else a,
    "starts_with": lambda a, b: a[: len(b)] == b,
    "ends_with": lambda a, b: a[max(0, len(a) - len(b)) :] == b,
    "contains": lambda a, b: a.find(b) >= 0,
    "lower": lambda a: "".join(c.lower() for c in a),
}


class Number:
    """A float32 whose operators mean what an expression's mean."""

    def __init__(self, value):
        self.value = F(value)

    def __add__(self, other):
        return Number(self.value + other.value)

    def __sub__(self, other):
        return Number(self.value - other.value)

    def __mul__(self, other):
        return Number(self.value * other.value)

    def __truediv__(self, other):
        return Number(NAN if other.value == 0 else self.value / other.value)

    def __floordiv__(self, other):
        return Number(np.floor((self / other).value))

    def __neg__(self):
        return Number(-self.value)

    def __and__(self, other):
        false = self.value == 0 or other.value == 0
        return Number(0 if false else self.value + other.value - 1)

    def __or__(self, other):
        return ~(~self & ~other)

    def __invert__(self):
        return Number(1 - self.value)

    def _compared(self, true, other):
        unknown = np.isnan(self.value) or np.isnan(other.value)
        return Number(NAN if unknown else true)

    def __lt__(self, other):
        return self._compared(self.value < other.value, other)

    def __le__(self, other):
        return self._compared(self.value <= other.value, other)

    def __gt__(self, other):
        return self._compared(self.value > other.value, other)

    def __ge__(self, other):
        return self._compared(self.value >= other.value, other)

    def __eq__(self, other):
        return self._compared(self.value == other.value, other)

    def __ne__(self, other):
        return ~(self == other)

    __hash__ = None


def by_hand(text, row):
    """The value of an expression for one row, by Python's own parser and plain rules."""
    names = {name: Number(v) for name, v in row.items()} | {"Number": Number}
    for name, function in MEANING.items():
        names[name] = lambda *v, f=function: Number(f(*(x.value for x in v)))
    code = re.sub(r"(?<![\w.])(1e3|0\.5|2|0)(?![\w.])", r"Number(\1)", text)
    found = eval(code, {"__builtins__": {}}, names).value
    return found if np.isfinite(found) else NAN


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.lists(st.tuples(FLOATS, FLOATS, FLOATS), min_size=1, max_size=6))
def test_an_expression_means_in_every_row_what_it_says(text, rows):
    columns = dict(zip("abc", np.array(rows, dtype=np.float32).T, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a reader of a report sees none
        found = np.broadcast_to(value(text, **columns), len(rows))
    assert found.dtype == np.float32
    with np.errstate(all="ignore"):
        expected = [by_hand(text, dict(zip("abc", row, strict=True))) for row in rows]
    assert np.array_equal(found, np.array(expected, dtype=np.float32), equal_nan=True)


@given(EXPRESSIONS)
def test_its_columns_are_those_it_names_in_order_of_appearance(text):
    mentioned = re.findall(r"\b[abc]\b", text)
    assert expressions.columns(expressions.parse(text)) == list(dict.fromkeys(mentioned))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a / b", [0.5, np.nan, np.nan, np.nan]),  # 0 / 0 and 1 / 0 are not known
        ("a + b", [3, 0, 1, np.nan]),
        ("a < b", [1, 0, 0, np.nan]),
        ("a == b", [0, 1, 0, np.nan]),
        ("minimum(a, b)", [1, 0, 0, np.nan]),
        ("fill(a, 7) * b", [2, 0, 0, 21]),
        ("missing(a)", [0, 0, 0, 1]),
        ("missing(a / b)", [0, 1, 1, 1]),
        ("fill(a / b, -1)", [0.5, -1, -1, -1]),
        ("sqrt(-b)", [np.nan, 0, 0, np.nan]),
        ("log1p(-b)", [np.nan, 0, 0, np.nan]),
        ("log1p(a - 1)", [0, np.nan, 0, np.nan]),  # the logarithm of 0 is not finite
        ("1e30 * 1e30 * a", [np.nan] * 4),
        ("2 - a * 2 + 1", [1, 3, 1, np.nan]),
        ("-a - -b", [1, 0, -1, np.nan]),
        ("  a\t", [1, 0, 1, np.nan]),
        ("a // b", [0, np.nan, np.nan, np.nan]),
        ("(a - 3) // 2", [-1, -2, -1, np.nan]),
        ("(a - 3) % 2", [0, 1, 0, np.nan]),
        ("a != b", [1, 0, 1, np.nan]),
        ("not a == 0", [1, 0, 1, np.nan]),
        ("a == 1 and b == 3", [0, 0, 0, np.nan]),
        ("a == 1 and b == 7", [0, 0, 0, 0]),
        ("a == 1 or b == 3", [1, 0, 1, 1]),
        ("a in [1, 4]", [1, 0, 1, np.nan]),
        ("a not in (1, 4)", [0, 1, 0, np.nan]),
        ("0 < a < b", [1, 0, 0, np.nan]),
        ("(a > 0) + 1", [2, 1, 2, np.nan]),
    ],
)
def test_examples_with_known_values(text, expected):
    found = value(text, a=[1, 0, 1, np.nan], b=[2, 0, 0, 3])
    assert np.array_equal(found, np.array(expected, dtype=np.float32), equal_nan=True)


KNOWN = (
    "columns, numbers, texts in quotes, + - * / // %, comparisons, in [..], and, or, not, and "
    "minimum, maximum, sqrt, log1p, missing, fill, starts_with, ends_with, contains, lower"
)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("a.b", "a.b"),
        ("a.__class__", "a.__class__"),
        ("__import__('os')", "__import__('os')"),
        ("__import__('os').system('touch here')", "__import__('os').system('touch here')"),
        ("open('here', 'w')", "open('here', 'w')"),
        ("eval(a)", "eval(a)"),
        ("a + abs(b)", "abs(b)"),
        ("lambda: 1", "lambda: 1"),
        ("a[0]", "a[0]"),
        ("b'a'", "b'a'"),
        ("f'{a}'", "f'{a}'"),
        ("a ** 2", "a ** 2"),
        ("a @ b", "a @ b"),
        ("a is b", "a is b"),
        ("1 is 1", "1 is 1"),
        ("a in b", "a in b"),
        ("a in []", "a in []"),
        ("a in [b for b in a]", "a in [b for b in a]"),
        ("a in 'abc'", "a in 'abc'"),
        ("'{}'.format(a)", "'{}'.format(a)"),
        ("a.str.upper()", "a.str.upper()"),
        ("a.str.startswith.b('x')", "a.str.startswith.b('x')"),
        ("a.startswith('x')", "a.startswith('x')"),
        ("`a b`.c > `d e`", "`a b`.c"),
        ("a if b else c", "a if b else c"),
        ("(a := 1)", "(a := 1)"),
        ("[a for a in b]", "[a for a in b]"),
        ("(a, b)", "(a, b)"),
        ("{a}", "{a}"),
        ("True", "True"),
        ("None", "None"),
        ("1j", "1j"),
        ("...", "..."),
        ("fill(a, value=1)", "fill(a, value=1)"),
        ("sqrt(*a)", "*a"),
        ("(sqrt)(a)(b)", "sqrt(a)(b)"),
    ],
)
def test_what_is_not_arithmetic_is_refused_and_never_run(text, culprit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentence = refusal(text)
    expected = f"the expression {text!r} has {culprit!r}, which is not one of {KNOWN}"
    assert sentence == f"params.yaml: {expected}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the expression '' cannot be read; look at its parentheses and operators"),
        ("a +", "the expression 'a +' cannot be read; look at its parentheses and operators"),
        ("(a", "the expression '(a' cannot be read; look at its parentheses and operators"),
        ("a b", "the expression 'a b' cannot be read; look at its parentheses and operators"),
        ("a\nb", "the expression 'a\\nb' cannot be read; look at its parentheses and operators"),
        ("a; b", "the expression 'a; b' cannot be read; look at its parentheses and operators"),
        ("a = b", "the expression 'a = b' cannot be read; look at its parentheses and operators"),
        ("\0", "the expression '\\x00' cannot be read; look at its parentheses and operators"),
        ("fill(a)", "in the expression 'fill(a)', fill takes 2 operand(s), not 1"),
        ("sqrt(a, b)", "in the expression 'sqrt(a, b)', sqrt takes 1 operand(s), not 2"),
        (
            "1e39 * a",
            "the expression '1e39 * a' holds a number above 3.4e+38, the largest of float32",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, sentence):
    assert refusal(text) == f"params.yaml: {sentence}"


@pytest.mark.parametrize(
    "text", ["-" * 5000 + "a", "a" + " + a" * 5000, "(" * 5000 + "a", "9" * 5000, "9" * 400]
)
def test_what_is_too_much_for_a_parser_is_one_short_sentence(text):
    assert len(refusal(text)) < 400


@given(st.text() | st.text("abs()+-*/<>=.,0123456789 e\"'`[]{}:\\\n_fil&|~", max_size=40))
def test_any_text_is_an_expression_or_one_sentence(text):
    frame = {name: [1.0, np.nan] for name in ["a", "b", "e", "i"]} | {"s": ["x", None]}
    for action in (expressions.numbers, expressions.values, expressions.condition):
        try:
            found = action(text, pd.DataFrame(frame))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert found.shape == (2,)


NO_COLUMN = "which is not a column; a text needs quotes, and the columns are y, key, a, b, town"
TABLE = pd.DataFrame(
    {"y": [1.0, 2], "key": [1, 2], "a": [3.0, np.nan], "b": [True, False], "town": ["x", "y"]}
)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("new", "y * 2", "the feature 'new' reads 'y', which is not to be learned from"),
        ("new", "a + key", "the feature 'new' reads 'key', which is not to be learned from"),
        ("new", "key + y", "the feature 'new' reads 'key', which is not to be learned from"),
        ("new", "c * 2", f"the expression 'c * 2' names 'c', {NO_COLUMN}"),
        (
            "new",
            "kye * 2",
            "the expression 'kye * 2' names 'kye', which is not a column; did you mean key?",
        ),
        (
            "new",
            "a + '1'",
            "the expression \"a + '1'\" has the text '1', and is to be made of numbers alone",
        ),
        (
            "new",
            "contains('ab', 'a')",
            "the expression \"contains('ab', 'a')\" has the text 'ab', "
            "and is to be made of numbers alone",
        ),
        (
            "new",
            "a and b",
            "in the expression 'a and b', and takes a condition, and 'a' is a number",
        ),
        ("new", "town", "the expression 'town' names 'town', which is not a column of numbers"),
        ("a", "a * 2", "the feature 'a' is called like a column; choose another name"),
        ("new", "a ** 2", f"the expression 'a ** 2' has 'a ** 2', which is not one of {KNOWN}"),
    ],
)
def test_a_feature_that_a_live_row_cannot_have_is_one_sentence(name, text, sentence):
    case = CASE.model_copy(update={"features": {name: text}})
    found = refusal(TABLE, lambda t: training.prepare(t, case, kind="plain", min_category_rows=1))
    assert found == f"params.yaml: {sentence}"


def test_a_feature_of_no_column_and_one_of_true_and_false_are_columns_of_numbers():
    case = CASE.model_copy(update={"features": {"one": "1", "flag": "b + 1", "ratio": "a / b"}})
    step = training.prepare(TABLE, case, kind="native", min_category_rows=1)
    found = step.fit_transform(TABLE.drop(columns="y"))
    names = list(step.get_feature_names_out())
    assert found[:, names.index("feature__flag")].tolist() == [2, 1]
    assert np.array_equal(found[:, names.index("feature__ratio")], [3, np.nan], equal_nan=True)
    assert found[:, names.index("feature__one")].tolist() == [1, 1]


# Conditions and windows, whose numbers are the table's own


class Part(NamedTuple):
    """An expression, and what a person would say it means in a row; None is not known."""

    text: str
    meaning: Callable[[dict], object]


def known(meaning):
    return lambda *values: None if None in values else meaning(*values)


def either(*values):
    return True if True in values else None if None in values else False


def all_of(*values):
    return False if False in values else None if None in values else True


def divided(a, b):
    return a / b if b else None


def floored(a, b):
    if not b:
        return None
    return a // b if isinstance(a, int) and isinstance(b, int) else float(math.floor(a / b))


def remainder(a, b):
    return None if not b else a - floored(a, b) * b


def of(template: str, meaning, *parts: st.SearchStrategy):
    """A longer expression out of shorter ones."""
    return st.builds(
        lambda *found: Part(
            template.format(*(f.text for f in found)),
            lambda row: meaning(*(f.meaning(row) for f in found)),
        ),
        *parts,
    )


def one_of(templates: dict, *parts: st.SearchStrategy):
    return st.one_of([of(template, meaning, *parts) for template, meaning in templates.items()])


def column(name):
    return Part(f"`{name}`" if " " in name else name, lambda row: row[name])


def constant(value, text=None):
    return Part(text or repr(value), lambda row: value)


SUMS = {
    "({} + {})": known(lambda a, b: a + b),
    "({} - {})": known(lambda a, b: a - b),
    "({} * {})": known(lambda a, b: a * b),
    "({} / {})": known(divided),
    "({} // {})": known(floored),
    "({} % {})": known(remainder),
    "minimum({}, {})": known(min),
    "maximum({}, {})": known(max),
    "fill({}, {})": lambda a, b: b if a is None else a,
}
ORDERS = {
    "({} < {})": known(lambda a, b: a < b),
    "({} <= {})": known(lambda a, b: a <= b),
    "({} > {})": known(lambda a, b: a > b),
    "({} >= {})": known(lambda a, b: a >= b),
    "({} == {})": known(lambda a, b: a == b),
    "({} != {})": known(lambda a, b: a != b),
}
LISTS = {
    "({} in [{}, {}])": known(lambda a, b, c: a in (b, c)),
    "({}).isin([{}, {}])": known(lambda a, b, c: a in (b, c)),
    "({} not in [{}, {}])": known(lambda a, b, c: a not in (b, c)),
}
ASKED = {
    f"{name}({{}}, {{}})": known(MEANING[name]) for name in ("starts_with", "ends_with", "contains")
} | {
    "{}.str.startswith({})": known(MEANING["starts_with"]),
    "{}.str.endswith({})": known(MEANING["ends_with"]),
}
JOINED = {
    **dict.fromkeys(["({} and {})", "({} & {})"], all_of),
    **dict.fromkeys(["({} or {})", "({} | {})"], either),
}
NUMBERS = st.recursive(
    st.sampled_from([column("i"), column("x"), *map(constant, (0, 1, 2, 3, 0.5, 2.25))]),
    lambda inner: one_of(SUMS, inner, inner) | of("(-{})", known(lambda a: -a), inner),
    max_leaves=4,
)
TEXTS = st.recursive(
    st.sampled_from(
        [
            *map(column, ("s", "my town")),
            *map(constant, ("", "a", "Aa", "bA", "it's", "`a`", "a & b")),
            constant("ab", '"ab"'),
        ]
    ),
    lambda inner: (
        of("lower({})", known(MEANING["lower"]), inner)
        | of("{}.str.lower()", known(MEANING["lower"]), inner)
        | of("fill({}, {})", lambda a, b: b if a is None else a, inner, inner)
    ),
    max_leaves=2,
)
BOTH = NUMBERS | TEXTS
CONDITIONS = st.recursive(
    st.one_of(
        one_of(ORDERS, NUMBERS, NUMBERS),
        one_of(ORDERS, TEXTS, TEXTS),
        one_of(LISTS, NUMBERS, st.just(constant(1)), st.just(constant(-2.5))),
        one_of(LISTS, TEXTS, st.just(constant("a")), st.just(constant("ab"))),
        one_of(ASKED, TEXTS, TEXTS),
        of("missing({})", lambda a: a is None, BOTH),
        of("{}.isna()", lambda a: a is None, TEXTS),
        of("{}.notna()", lambda a: a is not None, TEXTS),
    ),
    lambda inner: (
        one_of(JOINED, inner, inner)
        | one_of(dict.fromkeys(["(not {})", "(~{})"], known(lambda a: not a)), inner)
    ),
    max_leaves=4,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.integers(-9, 9),
            "x": st.sampled_from([None, 0.0, -1.0, 0.5, 2.25, 1e3, -7.5]),
            "s": st.sampled_from([None, "", "a", "Aa", "ab", "BA"]),
            "my town": st.sampled_from([None, "a", "aab", "it's a", "None"]),
        }
    ),
    min_size=1,
    max_size=6,
)


def frame_of(rows):
    frame = pd.DataFrame(rows).astype({"i": "int64", "x": "float64", "s": "str", "my town": "str"})
    return frame.set_index(np.arange(len(frame)) + 5)


@settings(max_examples=500, deadline=None)
@given(CONDITIONS, ROWS)
def test_a_condition_is_true_in_the_rows_of_which_it_can_be_said(part, rows):
    frame, text = frame_of(rows), f"({part.text}) and i == i"  # which names a column for certain
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = expressions.condition(text, frame)
        otherwise = expressions.condition(f"not ({text})", frame)
        unknown = expressions.condition(f"missing({text})", frame)
    meant = [part.meaning(row) for row in rows]
    assert found.dtype == bool and found.index.equals(frame.index)
    assert found.tolist() == [m is True for m in meant]
    assert otherwise.tolist() == [m is False for m in meant]
    assert unknown.tolist() == [m is None for m in meant]


@settings(max_examples=300, deadline=None)
@given(BOTH | CONDITIONS, ROWS)
def test_the_values_of_an_expression_are_those_of_its_rows_or_it_says_in_how_many_it_has_none(
    part, rows
):
    meant = [part.meaning(row) for row in rows]
    text = f"fill({part.text}, {part.text})"
    if not expressions.columns(expressions.parse(text)):
        assert "says nothing about a row" in refusal(text, expressions.values, frame_of(rows))
    elif unknown := meant.count(None):
        sentence = refusal(text, expressions.values, frame_of(rows))
        assert f"is unknown in {unknown} of the rows" in sentence
    else:
        found = expressions.values(text, frame_of(rows))
        assert found.tolist() == meant


@given(BOTH | CONDITIONS)
def test_an_expression_that_is_written_down_is_the_same_expression(part):
    node = expressions.parse(part.text)
    assert expressions.parse(expressions.written(node)) == node


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a > 1 & s == 'x' | a == 0", [0, 2]),  # as pandas reads it: and, or bind loosely
        ("~(a > 1) & s.notna()", [0, 1]),
        ("not a > 1", [0, 1]),
        ("s == 'x'", [2]),
        ("s != 'x'", [0, 1]),  # what is not known is not another text
        ("not starts_with(s, 'x')", [0, 1]),
        ("x > 1 or a == 3", [2, 3]),  # true, whatever x is
        ("x > 1 and not missing(x)", [2]),
        ("not x > 1", [0]),
        ("missing(x)", [1, 3]),
        ("fill(x, 9) > 1", [1, 2, 3]),
        ("fill(s, 'x') == \"x\"", [2, 3]),
        ("nothing == 'x' or nothing > 3 or a == 0", [0]),  # a column of gaps is of every kind
        ("flag", [0, 2]),
        ("day == 20170602", [1]),
        ("ns - 1 == 4611686018427387904", [1]),
        ("ns * 1000 > 0", [0, 1, 2, 3]),  # beyond 64 bits
    ],
)
def test_rows_of_which_a_condition_is_true(text, rows):
    frame = pd.DataFrame(
        {
            "a": [0, 1, 2, 3],
            "x": [0.5, np.nan, 7, np.nan],
            "s": pd.Series(["", "y", "x", None], dtype="str"),
            "nothing": pd.Series([None] * 4, dtype="str"),
            "flag": [True, False, True, False],
            "day": [20170601, 20170602, 20170603, 20170604],
            # Of these numbers, float64 holds none of the first three apart.
            "ns": [2**62, 2**62 + 1, 2**62 + 2, 2**62 + 2000],
        }
    )
    assert np.flatnonzero(expressions.condition(text, frame)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a", "the expression 'a' is not a condition on rows, such as a > 1 or missing(a)"),
        ("1 > 0", "the expression '1 > 0' is not a condition on rows, such as a > 1 or missing(a)"),
        ("a > 1 and twon == 'x'", "the expression \"a > 1 and twon == 'x'\" names 'twon', which is "
            "not a column; did you mean town?"),
        ("town == x", f"the expression 'town == x' names 'x', {NO_COLUMN}"),
        ("town == 1", "in the expression 'town == 1', == takes two of a kind, and 'town' is a "
            "text, '1' is a number; a text needs quotes"),
        ("a in [1, 'x']", "in the expression \"a in [1, 'x']\", in takes two of a kind, and 'a' is "
            "a number, \"'x'\" is a text; a text needs quotes"),
        ("a < 2 or town * 2 > 3", "in the expression 'a < 2 or town * 2 > 3', * takes a number, "
            "and 'town' is a text"),
        ("not a", "in the expression 'not a', not takes a condition, and 'a' is a number"),
        ("contains(a, 'x')", "in the expression \"contains(a, 'x')\", contains takes a text, "
            "and 'a' is a number"),
        ("startswith(town, 'x')", "the expression \"startswith(town, 'x')\" has \"startswith(town, "
            f"'x')\", which is not one of {KNOWN}; did you mean starts_with?"),
        ("town.str.contains('x.y')", "the expression \"town.str.contains('x.y')\" looks for the "
            "pattern 'x.y', and there are no patterns; write contains(..) to look for the text "
            "itself"),
        ("a = 1", "the expression 'a = 1' cannot be read; look at its parentheses and operators"),
    ],
)  # fmt: skip
def test_what_is_not_a_condition_is_one_sentence(text, sentence):
    assert refusal(text, expressions.condition, TABLE) == f"params.yaml: {sentence}"


def test_a_long_chain_of_comparisons_is_no_work_without_end():
    text = "a"
    for _ in range(60):
        text = f"(0 < {text} < 2)"
    assert "is nested too deeply" in refusal(text, expressions.condition, TABLE)
