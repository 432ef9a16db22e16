"""Execute a notebook headlessly, make its bytes the same every time, and render it."""

from truefit.notebook.run import run, run_aside
from truefit.steps import (
    STEPS,
    WITHOUT_CASE,
    all_runs,
    claims_of_run,
    label_of,
    notebook_of,
    page_of,
)

__all__ = [
    "STEPS",
    "WITHOUT_CASE",
    "all_runs",
    "claims_of_run",
    "label_of",
    "notebook_of",
    "page_of",
    "run",
    "run_aside",
]
