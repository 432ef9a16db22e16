"""The one reader of ``params.yaml``: every key is known, typed and checked before anything runs.

The file is read as YAML 1.2, the dialect DVC uses, so ``1e-4`` is a number and ``no`` is a text
for both. A notebook gets typed values, never text to parse again.
"""

from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from truefit import project
from truefit.project import InputError

# Names that folders under reports/ and data/ have already.
RESERVED_CASES = {"claims", "gate", "raw"}

# NumPy takes any seed from 0; scikit-learn's must fit in 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DropRule(_Strict):
    """Rows that are not to be learned from, and why."""

    when: str
    reason: str


class BlankRule(_Strict):
    """Values known to be wrong: they become missing, and why."""

    column: str
    when: str
    reason: str


class Order(_Strict):
    """Columns whose text values have an order, lowest first."""

    order: list[str] = Field(min_length=2)
    columns: list[str] = Field(min_length=1)


class Limit(_Strict):
    """What the gate asks of one metric: the worse end of its interval must keep the limit."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> "Limit":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


class Case(_Strict):
    """One table and what is to be learned from it: a block under ``cases:``.

    Only ``table``, ``target`` and ``task`` have no default.
    """

    table: str
    target: str
    task: Literal["regression", "classification"]
    title: str = ""
    about: str = ""
    source: str = ""
    caution: str = ""
    positive: str | None = None
    id: str | None = None
    time: str | None = None
    production_from: int | float | str | None = None
    log_target: bool = False
    separator: str = Field(default=",", min_length=1, max_length=1)
    missing: list[str] = []
    absent: list[str] = []
    codes: list[str] = []
    ordinal: list[Order] = []
    drop_rows: list[DropRule] = []
    drop_repeats: str | None = None
    blank: list[BlankRule] = []
    drop_columns: dict[str, str] = {}
    units: dict[str, str] = {}
    map: list[str] = Field(default=[], max_length=2)
    gate: list[Limit] = []

    @field_validator("production_from", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        # Pydantic would say of each type in turn that it is not this one. A date without quotes
        # would stop DVC, and a table holds texts.
        if isinstance(value, date):
            raise ValueError(f"{value} needs quotes, because YAML takes it for more than a text")
        if isinstance(value, bool | dict | list):
            raise ValueError(f"{value!r} is neither a number nor a text")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Case":
        if self.task == "classification" and self.positive is None:
            raise ValueError("a classification needs positive: the class to be detected")
        if self.task == "classification" and self.log_target:
            raise ValueError("log_target is for regression")
        if self.task == "regression" and self.positive is not None:
            raise ValueError("positive is for classification")
        if (self.time is None) != (self.production_from is None):
            raise ValueError("time and production_from go together")
        if len(self.map) == 1:
            raise ValueError("map takes two columns: east-west first, north-south second")
        return self

    def unit(self, column: str) -> str:
        """The column's unit in words, empty if it has none."""
        return self.units.get(column, "")

    def label(self, column: str) -> str:
        """The column with its unit, for an axis."""
        return f"{column}, {self.unit(column)}" if self.unit(column) else column

    def order_of(self, column: str) -> list[str] | None:
        """The column's values from lowest to highest, or None if they have no order.

        A house that has none of a thing stands below every quality of it.
        """
        for rule in self.ordinal:
            if column in rule.columns:
                return [ABSENT, *rule.order] if column in self.absent else rule.order
        return None


class DataPrep(_Strict):
    """Parameters of 01_data_prep."""

    seed: Seed
    test_share: float = Field(gt=0, lt=1)
    production_share: float = Field(gt=0, lt=1)
    noise_columns: int = Field(ge=100)


class RegressionMaths(_Strict):
    """Parameters of 02_regression_maths."""

    seed: Seed
    resamples: int = Field(ge=20)


class Training(_Strict):
    """Parameters of 03_training."""

    seed: Seed
    folds: int = Field(ge=2)
    min_category_rows: int = Field(ge=1)
    regression: list[str] = Field(min_length=1)
    classification: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _with_dummy(self) -> "Training":
        for task in ("regression", "classification"):
            if "dummy" not in getattr(self, task):
                raise ValueError(f"{task} lacks dummy, which the gate compares the winner with")
        return self


class Evaluation(_Strict):
    """Parameters of 04_evaluation."""

    seed: Seed
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    worst_rows: int = Field(ge=1)


class Export(_Strict):
    """Parameters of 05_export."""

    tolerance: float = Field(gt=0)


class Params(_Strict):
    """The whole of ``params.yaml``."""

    cases: dict[str, Case] = Field(min_length=1)
    data_prep: DataPrep
    regression_maths: RegressionMaths
    training: Training
    evaluation: Evaluation
    export: Export

    def case(self, name: str) -> Case:
        """The block of one case; an unknown name is an ``InputError`` that lists the known ones."""
        if name not in self.cases:
            raise InputError(
                f"{_unknown(name, self.cases, 'case')}; add a block under cases: in params.yaml"
            )
        return self.cases[name]


# What a cell says when a thing is absent, rather than unknown. See Case.absent.
ABSENT = "absent"


def load(source: Path | None = None) -> Params:
    """Read and check ``params.yaml``.

    Raises
    ------
    InputError
        One sentence that names the key, its value and what was expected.
    """
    source = source or project.root() / "params.yaml"
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{source.name} is not UTF-8 text; save it as such") from None
    raw = _parsed(text, source.name)
    if not isinstance(raw, dict):
        raise InputError(f"{source.name} holds no keys: copy it anew from the project")
    params = _validated(Params, raw, source.name)
    for name in params.cases:
        if not name.isidentifier() or name in RESERVED_CASES:
            raise InputError(
                f"{source.name}: {name!r} cannot name a case; use letters, digits and "
                f"underscores, and none of {', '.join(sorted(RESERVED_CASES))}"
            )
    return params


def section(step: str, **values: Any) -> Any:
    """Check the parameters of one step, as a notebook got them.

    ``section("training", seed=0, folds=5, …)`` gives a ``Training``, or one sentence that names
    the key that is wrong.
    """
    return _validated(_section_type(step), values, step)


def override(step: str, defaults: BaseModel, changes: dict[str, str]) -> dict[str, Any]:
    """The section's values with some changed, each given as text in YAML and checked."""
    parsed = {name: _parsed(text, f"{step}: {name}={text!r}") for name, text in changes.items()}
    return _validated(_section_type(step), defaults.model_dump() | parsed, step).model_dump()


def _parsed(text: str, where: str) -> Any:
    """What a text means as YAML 1.2."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        several = "\n" in text and error.problem_mark
        line = f", line {error.problem_mark.line + 1}" if several else ""
        raise InputError(f"{where}{line}: {str(error.problem).splitlines()[0]}") from None
    except (YAMLError, ValueError) as error:  # of a lone "-_", the reader tries to make a number
        raise InputError(f"{where}: {str(error).splitlines()[0]}") from None


def _section_type(step: str) -> type[BaseModel]:
    return Params.model_fields[step].annotation


def _validated(model: type[BaseModel], raw: dict, where: str) -> Any:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        # A misspelt key is also a missing one; the misspelling says more.
        first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        more = f" (and {len(others)} more)" if others else ""
        raise InputError(f"{where}: {_sentence(first, model)}{more}") from None


def _sentence(error: dict, model: type[BaseModel]) -> str:
    *parents, last = (str(part) for part in error["loc"]) if error["loc"] else ("",)
    key = ".".join(part for part in (*parents, last) if part != "[key]")
    value = repr(error["input"])
    value = value if len(value) <= 60 else value[:57] + "…"
    if error["type"] == "extra_forbidden":
        return _unknown(key, _fields_at(model, parents), "key", last) + f" (its value is {value})"
    if error["type"] == "missing":
        return f"the key {key} is missing"
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    asked = error["msg"].partition(" should ")[2].partition(" after validation")[0]
    return f"{key} is {value}, but should {asked}"


def _fields_at(model: Any, parents: list[str]) -> list[str]:
    """The names of the fields that are known where an unknown key stands."""
    for part in parents:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        else:  # dict[str, X] or list[X]
            model = model.__args__[-1]
    return list(model.model_fields)


def _unknown(name: str, known: Any, what: str, last: str | None = None) -> str:
    close = get_close_matches(last or name, list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{name} is not a known {what}; {hint}"
