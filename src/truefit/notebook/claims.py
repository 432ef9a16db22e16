"""Claims to check: what tutorials repeat, run as printed, and what is true instead.

In a notebook a claim is a box: consecutive cells tagged ``claim``. The first is markdown and begins
``**Claim 02.1.**``; code runs what the tutorials print; the last output says ``**What is true.**``.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from truefit.project import TruefitError

if TYPE_CHECKING:
    from nbformat import NotebookNode

    Numbered = tuple[int, NotebookNode]

# What a claim and its truth begin with. The rest of that paragraph is its short form; what a box
# says beyond it is shown on the page alone.
CLAIM = re.compile(r"\*\*Claim (\d\d\.\d+)\.\*\*\s*(.*?)\s*(?:\n\s*\n|\Z)", re.DOTALL)
TRUTH = re.compile(r"\*\*What is true\.\*\*\s*(.*?)\s*(?:\n\s*\n|\Z)", re.DOTALL)


class ClaimError(TruefitError, ValueError):
    """A claim box that lacks one of its parts."""


@dataclass(frozen=True)
class Claim:
    """A claim that was put to the test.

    Attributes
    ----------
    number : str
        The notebook's number and the claim's, ``02.1``; it stays for ever.
    claim, truth : str
        What is said, and what is true; one paragraph of markdown each.
    """

    number: str
    claim: str
    truth: str

    @property
    def anchor(self) -> str:
        """The id of the box on its page: ``claim-02-1``."""
        return f"claim-{self.number.replace('.', '-')}"


@dataclass
class Printed:
    """What became of a snippet: the error that it raised, or None."""

    error: Exception | None = None


@contextmanager
def as_printed() -> Iterator[Printed]:
    """Run a snippet as it is printed elsewhere; what it raises is shown, and stops nothing.

    An error and a warning become one line each, without a path or a line number, so that the output
    is the same wherever it runs. As in any block, the value of the last line is not shown unless
    the snippet prints it.

    Yields
    ------
    Printed
        Its ``error`` is what the snippet raised, for a later cell to assert on.

    Examples
    --------
    >>> with as_printed() as ran:
    ...     [1, 2][2]
    IndexError: list index out of range
    >>> type(ran.error)
    <class 'IndexError'>
    """
    ran = Printed()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_, **__: print(_line(category, message))
        try:
            yield ran
        except Exception as error:
            ran.error = error
            print(_line(type(error), error))


def _line(kind: type, message: object) -> str:
    return ": ".join(filter(None, (kind.__name__, " ".join(str(message).split()))))


def groups(cells: "Iterable[Numbered]") -> "Iterator[tuple[str, list[Numbered]]]":
    """The numbered cells in groups that belong together, each with its kind.

    The kind is ``claim``, ``solution``, or nothing for the cells between. A claim that follows
    another directly begins a group of its own.
    """
    begun = 0

    def key(pair: "Numbered") -> tuple[str, int]:
        nonlocal begun
        _, cell = pair
        kind = next((k for k in ("claim", "solution") if k in cell.metadata.get("tags", ())), "")
        begun += kind == "claim" and bool(CLAIM.match(cell.source))
        return kind, begun

    for (kind, _), group in groupby(cells, key):
        yield kind, list(group)


def claims_of(notebook: "NotebookNode") -> list[Claim]:
    """The claims of an executed notebook, in order.

    Raises
    ------
    ClaimError
        If a box has no number, another's number, or no word on what is true; or a claim stands in a
        cell without the tag. The message names the claim, or its cell counted from 1.
    """
    claims: dict[str, Claim] = {}
    for kind, cells in groups(enumerate(notebook.cells, start=1)):
        if kind == "claim":
            claim = claim_of(cells)
            if claim.number in claims:
                raise ClaimError(f"there are two claims {claim.number}; give each a number")
            claims[claim.number] = claim
            continue
        for number, cell in cells:
            if cell.cell_type == "markdown" and (found := CLAIM.match(cell.source)):
                raise ClaimError(f"cell {number} states claim {found[1]}; tag it 'claim'")
    return list(claims.values())


def claim_of(cells: "list[Numbered]") -> Claim:
    """The claim of one box; see `claims_of`."""
    number, first = cells[0]
    found = CLAIM.match(first.source) if first.cell_type == "markdown" else None
    if not found or not found[2]:
        raise ClaimError(
            f"the claim box in cell {number} of the notebook must begin with its number and the "
            "claim, as in '**Claim 02.1.** It is so.'"
        )
    outputs = [output for _, cell in cells for output in cell.get("outputs", [])]
    said = outputs[-1].get("data", {}).get("text/markdown", "") if outputs else ""
    truth = TRUTH.match(said)
    if not truth or not truth[1]:
        raise ClaimError(
            f"the last output of claim {found[1]} must say what is true, as in "
            "say('**What is true.** It is not.')"
        )
    return Claim(found[1], found[2], truth[1])
