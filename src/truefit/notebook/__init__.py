"""Execute a notebook headlessly, make its bytes the same every time, and render it."""

import sys

# jsonschema's optional format builds about 35 grammars when it is first imported, 1.2 seconds in
# every process that reads a notebook. Without the module jsonschema skips that one format.
sys.modules.setdefault("rfc3987_syntax", None)

from truefit.notebook.run import run, run_aside  # noqa: E402

__all__ = ["run", "run_aside"]
