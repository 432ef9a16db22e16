"""The one reader of ``params.yaml``: every key is known, typed and checked before anything runs.

The file is read as YAML 1.2, the dialect DVC uses, so ``1e-4`` is a number and ``no`` is a text
for both. A notebook gets typed values, never text to parse again.

Blocks are read one by one: a wrong one stops its own case alone, whoever asks for it is told all
that is wrong with it. A block may have values of its own for the parameters of a step.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from truefit import project
from truefit.case import ABSENT as ABSENT  # notebook 01 takes it from here
from truefit.case import Case, Strict
from truefit.project import InputError
from truefit.task import KINDS

# Names that folders under reports/ and data/ have already.
RESERVED_CASES = {"claims", "gate", "monitoring", "raw"}

# NumPy takes any seed from 0; scikit-learn's must fit in 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(Strict):
    """Parameters of a step.

    Attributes
    ----------
    of_a_case : bool
        Whether the step is about a case, whose block may have values of its own for them.
    """

    of_a_case: ClassVar[bool] = True


class DataPrep(Section):
    """Parameters of 01_data_prep."""

    seed: Seed
    test_share: float = Field(gt=0, lt=1)
    production_share: float = Field(gt=0, lt=1)
    noise_columns: int = Field(ge=100)


class RegressionMaths(Section):
    """Parameters of 02_regression_maths."""

    of_a_case: ClassVar[bool] = False

    seed: Seed
    resamples: int = Field(ge=20)


class Training(Section):
    """Parameters of 03_training."""

    seed: Seed
    folds: int = Field(ge=2)
    inner_folds: int = Field(ge=2)
    trials: int = Field(ge=1)
    fewer_trials: dict[str, Annotated[int, Field(ge=1)]]
    min_category_rows: int = Field(ge=1)
    blend: int = Field(ge=0)
    choose: Literal["best", "simplest"]
    regression: list[str] = Field(min_length=1)
    classification: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _with_dummy(self) -> "Training":
        for task in ("regression", "classification"):
            names = getattr(self, task)
            if "dummy" not in names:
                raise ValueError(f"{task} lacks dummy, which the gate compares the winner with")
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{task} names {name} twice")
        return self


class Space(Strict):
    """The values that a search may give one parameter: a range, or a list."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    integer: bool = False
    choices: list[int | float | str | bool | None | list[int]] | None = Field(
        default=None, min_length=1
    )

    @field_validator("low", "high", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        # Pydantic would say of each type in turn that it is not this one.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        if not isfinite(value):
            raise ValueError(f"{value} is not finite")
        return value

    @field_validator("choices", mode="before")
    @classmethod
    def _plain_values(cls, value: Any) -> Any:
        for choice in value if isinstance(value, list) else ():
            whole = isinstance(choice, list) and all(type(v) is int for v in choice)
            if not whole and not isinstance(choice, int | float | str | None):
                raise ValueError(
                    f"{choice!r} is neither a number, a text, true, false, null nor a list of "
                    "whole numbers"
                )
        return value

    @model_validator(mode="after")
    def _a_range_or_a_list(self) -> "Space":
        ends = (self.low, self.high)
        if self.choices is not None and (ends != (None, None) or self.log or self.integer):
            raise ValueError("give either choices or a range, from low to high")
        if self.choices is None and None in ends:
            raise ValueError("give choices, or both low and high")
        if self.choices is None and self.low >= self.high:
            raise ValueError(f"low is {self.low}, which is not below high, {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, and a logarithmic range must be above 0")
        for name, end in {"low": self.low, "high": self.high}.items():
            if self.integer and end != int(end):
                raise ValueError(f"{name} is {end}, and integer asks for whole numbers")
        return self


class SearchSpaces(Strict):
    """What a search may change, by task, model and parameter."""

    regression: dict[str, dict[str, Space]] = {}
    classification: dict[str, dict[str, Space]] = {}


class Compute(Strict):
    """Where a search runs; the result is the same everywhere."""

    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None

    @model_validator(mode="after")
    def _with_scheduler(self) -> "Compute":
        if (self.engine == "dask") != (self.scheduler is not None):
            raise ValueError("engine dask and a scheduler (such as tcp://host:8786) go together")
        return self


class Evaluation(Section):
    """Parameters of 04_evaluation."""

    seed: Seed
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    worst_rows: int = Field(ge=1)
    repeats: int = Field(ge=2)
    explained_rows: int = Field(ge=1)
    permutations: int = Field(ge=4)


class Export(Section):
    """Parameters of 05_export."""

    seed: Seed
    folds: int = Field(ge=2)
    made_rows: int = Field(ge=0)
    resamples: int = Field(ge=100)
    # The interval of a single prediction is the winner's: what goes further astray is no longer
    # the model that was judged.
    largest_change: float = Field(ge=0, le=0.01)
    largest_loss: float = Field(ge=0, le=0.1)
    tolerance: float = Field(gt=0)


class Serving(Section):
    """Parameters of 06_serving."""

    seed: Seed
    rows: int = Field(ge=1)
    batch: int = Field(ge=1)
    # With fewer, five standard errors of a busy queue are no safe bound.
    arrivals: int = Field(ge=500_000)

    @model_validator(mode="after")
    def _batch_fits(self) -> "Serving":
        if self.batch > self.rows:
            raise ValueError(f"batch is {self.batch}, and must not be above rows, {self.rows}")
        return self


class Rule(Strict):
    """From which effect on something found counts, and when it is red."""

    amber: float = Field(ge=0)
    red: float = Field(ge=0)
    patience: int = Field(ge=1)

    @model_validator(mode="after")
    def _rising(self) -> "Rule":
        if self.red < self.amber:
            raise ValueError(f"red is {self.red}, and must not be below amber, {self.amber}")
        return self


class Rules(Strict):
    """The rules of the monitor, by what they look at."""

    missing: Rule
    unseen: Rule
    out_of_range: Rule
    drift: Rule
    unlike: Rule
    predictions: Rule
    target: Rule
    bias: Rule
    error: Rule
    coverage: Rule
    ranking: Rule


class Monitoring(Section):
    """Parameters of 07_monitoring."""

    seed: Seed
    window_rows: int = Field(ge=20)
    least_rows: int = Field(ge=5)
    false_alarms: float = Field(gt=0, le=0.2)
    resamples: int = Field(ge=100)
    components: int = Field(ge=1)
    log: str | None
    labels: str | None
    every: Literal["hour", "day", "week", "month"]
    rules: Rules


class Maintenance(Section):
    """Parameters of 08_maintenance."""

    seed: Seed
    windows: int = Field(ge=1)
    newest: int = Field(ge=1)
    every: int = Field(ge=1)
    worth: float = Field(ge=0, lt=1)
    folds: int = Field(ge=2)
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)


class Params(Strict):
    """The whole of ``params.yaml``; of the blocks, those that are right."""

    cases: dict[str, Case]
    data_prep: DataPrep
    regression_maths: RegressionMaths
    training: Training
    evaluation: Evaluation
    export: Export
    serving: Serving
    monitoring: Monitoring
    maintenance: Maintenance
    search_spaces: SearchSpaces = SearchSpaces()
    compute: Compute = Compute()
    quick: dict[str, dict[str, Any]] = {}
    _faults: dict[str, str] = PrivateAttr({})
    _own: dict[str, dict[str, dict]] = PrivateAttr({})

    @model_validator(mode="after")
    def _quick_fits(self) -> "Params":
        for step in self.quick:
            if step not in SECTIONS:
                raise ValueError(f"quick: {_unknown(step, SECTIONS, 'step')}")
            self.section(step, quick=True)
        return self

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with each block that is not among ``cases``, in one sentence."""
        return self._faults

    def case(self, name: str) -> Case:
        """The block of one case, its positive class as the table writes it once that was read.

        Raises
        ------
        InputError
            If there is no such block, or it is wrong.
        """
        if name in self._faults:
            raise InputError(self._faults[name])
        if name not in self.cases:
            raise InputError(
                f"{_unknown(name, [*self.cases, *self._faults], 'case')}; add a block under "
                "cases: in params.yaml"
            )
        case, schema = self.cases[name], project.path("data", name, "schema.json")
        with suppress(OSError, ValueError, KeyError):  # there is none yet, or not of this target
            described = json.loads(schema.read_text(encoding="utf-8"))
            return case.as_written(described["columns"][case.target]["categories"])
        return case

    def section(self, name: str, case: str | None = None, *, quick: bool = False) -> Any:
        """A section, such as ``training``, for a case.

        What the case's block says wins over the section, and over both what ``quick:`` says, if
        that is asked for: it is there to be small. Only a list in the block stays, since it says
        what, not how much.
        """
        own = self._own.get(case, {}).get(name, {})
        small = self.quick.get(name, {}) if quick else {}
        small = {k: v for k, v in small.items() if not isinstance(own.get(k), list)}
        at = f"params.yaml: quick: {name}" if quick else f"params.yaml: {name}"
        changed = _merged(_merged(getattr(self, name), own), small)
        return _validated(_section_type(name), changed, at) if own or small else getattr(self, name)


# The model of each step's section, by the name that both have.
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Params.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
# The sections whose keys a block may have, too.
OF_A_CASE = [*(name for name, model in SECTIONS.items() if model.of_a_case), "search_spaces"]


def load(source: Path | None = None) -> Params:
    """Read and check ``params.yaml``.

    Raises
    ------
    InputError
        One sentence that names each key that is wrong outside the blocks, its value and what was
        expected. What is wrong in a block is told to those who ask for it; see `Params.case`.
    """
    source = source or project.root() / "params.yaml"
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{source.name} is not UTF-8 text; save it as such") from None
    raw = _parsed(text, source.name)
    if not isinstance(raw, dict):
        raise InputError(f"{source.name} holds no keys: copy it anew from the project")
    blocks = raw.get("cases")
    if blocks == {}:
        raise InputError(f"{source.name}: cases is empty; add a block for a table")
    apart = {"cases": {}} if isinstance(blocks, dict) else {}
    params = _validated(Params, raw | apart, source.name)
    for key, block in (blocks or {}).items():
        name = str(key)
        wrong, case, own = _block(name, block, params)
        if wrong:
            params._faults[name] = f"{source.name}: {'; '.join(wrong)}"
        else:
            params.cases[name], params._own[name] = case, own
    return params


def _block(name: str, raw: Any, params: Params) -> tuple[list[str], Case | None, dict[str, dict]]:
    """All that is wrong with a block; its case; and what it says of each section."""
    at = f"cases.{name}"
    if not name.isidentifier() or name in RESERVED_CASES:
        return (
            [
                f"{name!r} cannot name a case; use letters, digits and underscores, and none of "
                f"{', '.join(sorted(RESERVED_CASES))}"
            ],
            None,
            {},
        )
    if not isinstance(raw, dict):
        return [f"{at} is {raw!r}, but should be a valid dictionary"], None, {}
    own = {key: raw[key] for key in raw if key in OF_A_CASE}
    kind, rest, foreign = _of_its_kind({k: v for k, v in raw.items() if k not in own})
    case, wrong = _checked(kind, rest, at, foreign)
    for section, values in own.items():
        changed = _merged(getattr(params, section), values)
        wrong += _checked(_section_type(section), changed, f"{at}.{section}")[1]
    return wrong, case, own


class _AnyCase(Case):
    """A block whose task is missing or unknown: what it can be checked for all the same."""

    @field_validator("task")
    @classmethod
    def _unknown_task(cls, task: str) -> str:
        known = " or ".join(map(repr, KINDS))
        raise PydanticCustomError("literal_error", f"Input should be {known}")  # pyrefly: ignore


def _of_its_kind(raw: Mapping) -> tuple[type[Case], dict, list[str]]:
    """The kind of task of a block, its keys that this kind has, and a sentence for each other."""
    task = raw.get("task")
    kind = KINDS.get(task, _AnyCase) if isinstance(task, str) else _AnyCase
    others = {
        key: name
        for name, other in KINDS.items()
        for key in other.model_fields
        if key in raw and key not in kind.model_fields
    }
    said = [f"{k} {'are' if k.endswith('s') else 'is'} for {name}" for k, name in others.items()]
    own = {key: value for key, value in raw.items() if key not in others}
    return kind, own, [] if kind is _AnyCase else said


def section(step: str, **values: Any) -> Any:
    """Check the parameters of one step, as a notebook got them.

    ``section("training", seed=0, folds=5, …)`` gives a ``Training``, or one sentence that names
    the key that is wrong.
    """
    return _validated(_section_type(step), values, step)


def override(step: str, defaults: BaseModel, changes: dict[str, str]) -> dict[str, Any]:
    """The section's values with some changed, each given as text in YAML and checked.

    Examples
    --------
    >>> given = DataPrep(seed=0, test_share=0.2, production_share=0.1, noise_columns=100)
    >>> override("data_prep", given, {"test_share": "0.3"})
    {'seed': 0, 'test_share': 0.3, 'production_share': 0.1, 'noise_columns': 100}
    """
    parsed = {name: _parsed(text, f"{step}: {name}={text!r}") for name, text in changes.items()}
    return _validated(_section_type(step), _merged(defaults, parsed), step).model_dump()


def _merged(base: Any, change: Any) -> Any:
    """A section, or a part of one, with some of its keys changed.

    Keys that are fixed win one by one, however deep; of names that are anybody's, such as those of
    models, each wins as a whole.
    """
    if isinstance(base, BaseModel) and isinstance(change, Mapping):
        own = dict(base)
        return own | {key: _merged(own.get(key), value) for key, value in change.items()}
    return base | change if isinstance(base, dict) and isinstance(change, dict) else change


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


def _validated(model: type[BaseModel], raw: Any, where: str) -> Any:
    found, wrong = _checked(model, raw)
    if wrong:
        raise InputError(f"{where}: {'; '.join(wrong)}")
    return found


def _checked(
    model: type[BaseModel], raw: Any, at: str = "", foreign: Iterable[str] = ()
) -> tuple[Any, list[str]]:
    """What was read, and a sentence for each key that is wrong; one of the two is empty.

    Whether keys are ``foreign`` to a block, which could be of another task, is seen before.
    """
    read, found = None, []
    try:
        read = model.model_validate(raw)
    except ValidationError as error:
        found = error.errors()
    found += [{"type": "value_error", "loc": (), "msg": said} for said in foreign]
    unusable = {str(part) for e in found for part in e["loc"][:1]}
    if issubclass(model, Case) and unusable:
        # Pydantic compares keys only where each by itself is right.
        usable = {k: v for k, v in raw.items() if k in model.model_fields and k not in unusable}
        odd = model.model_construct(**usable).contradictions(unusable)
        found += [{"type": "value_error", "loc": (), "msg": said} for said in odd]
    if not found:
        return read, []
    # A misspelt key is also a missing one; the misspelling says more.
    found.sort(key=lambda e: e["type"] != "extra_forbidden")
    said = [_sentence(e, model, at) for e in found]
    meant = {part.partition("?")[0] for text in said for part in text.split("did you mean ")[1:]}
    pairs = zip(found, said, strict=True)
    return None, [s for e, s in pairs if e["type"] != "missing" or e["loc"][-1] not in meant]


def _sentence(error: dict, model: type[BaseModel], at: str) -> str:
    *parents, last = (str(part) for part in error["loc"]) if error["loc"] else ("",)
    key = ".".join(part for part in (at, *parents, last) if part not in ("", "[key]"))
    if error["type"] == "missing":
        field = model.model_fields.get(last)
        if field and field.description:  # a key of one task alone
            return f"{at}: a {model.model_fields['task'].default} needs {last}: {field.description}"
        return f"the key {key} is missing"
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    value = repr(error["input"])
    value = value if len(value) <= 60 else value[:57] + "…"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, parents)
        known += OF_A_CASE if issubclass(model, Case) and not parents else []
        return _unknown(key, known, "key", last) + f" (its value is {value})"
    asked = error["msg"].partition(" should ")[2].partition(" after validation")[0]
    # Whoever writes YAML knows no classes.
    return f"{key} is {value}, but should {asked.partition(' or instance of ')[0]}"


def _fields_at(model: Any, parents: list[str]) -> list[str]:
    """The names of the fields that are known where an unknown key stands."""
    for part in parents:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        else:  # dict[str, X] or list[X]
            model = model.__args__[-1]
        if isinstance(model, UnionType):  # X | None
            model = model.__args__[0]
    return list(model.model_fields)


def _unknown(name: str, known: Any, what: str, last: str | None = None) -> str:
    close = get_close_matches(last or name, list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{name} is not a known {what}; {hint}"
