"""Execute a notebook headlessly, make its bytes the same every time, and render it."""

from truefit.notebook.run import run, run_aside

__all__ = ["run", "run_aside"]
