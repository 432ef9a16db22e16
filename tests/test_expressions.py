"""Expressions compute what NumPy computes in float32, and nothing else can be written in one."""

import re
import warnings

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
COMPARISONS = ["<", "<=", ">", ">=", "=="]
LEAVES = st.sampled_from(["a", "b", "c", "2", "0.5", "1e3", "0"])


def grown(inner):
    """Longer expressions out of shorter ones."""
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(COMPARISONS), inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, st.sampled_from(["sqrt", "log1p", "missing"]), inner),
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

    def __neg__(self):
        return Number(-self.value)

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
    ],
)
def test_examples_with_known_values(text, expected):
    found = value(text, a=[1, 0, 1, np.nan], b=[2, 0, 0, 3])
    assert np.array_equal(found, np.array(expected, dtype=np.float32), equal_nan=True)


KNOWN = "columns, numbers, + - * /, comparisons and minimum, maximum, sqrt, log1p, missing, fill"


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
        ("'a'", "'a'"),
        ("b'a'", "b'a'"),
        ("f'{a}'", "f'{a}'"),
        ("a ** 2", "a ** 2"),
        ("a // 2", "a // 2"),
        ("a % 2", "a % 2"),
        ("a @ b", "a @ b"),
        ("a and b", "a and b"),
        ("not a", "not a"),
        ("~a", "~a"),
        ("a != b", "a != b"),
        ("a is b", "a is b"),
        ("1 is 1", "1 is 1"),
        ("a in b", "a in b"),
        ("1 < a < 2", "1 < a < 2"),
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


@given(st.text() | st.text("ab()+-*/<>=.,0123456789 e\"'[]{}:\\\n_fil", max_size=40))
def test_any_text_is_an_expression_or_one_sentence(text):
    try:
        node = expressions.parse(text)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        values = {name: np.ones(3, np.float32) for name in expressions.columns(node)}
        found = expressions.evaluate(node, values)
        assert found.dtype == np.float32 and found.shape in {(), (3,)}


TABLE = pd.DataFrame(
    {"y": [1.0, 2], "key": [1, 2], "a": [3.0, np.nan], "b": [True, False], "town": ["x", "y"]}
)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("new", "y * 2", "the feature 'new' reads 'y', which is not to be learned from"),
        ("new", "a + key", "the feature 'new' reads 'key', which is not to be learned from"),
        ("new", "key + y", "the feature 'new' reads 'key', which is not to be learned from"),
        ("new", "c * 2", "the expression 'c * 2' names 'c', which is not a column"),
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
