"""Write down each file that the processes of a stage open to read.

Python imports it at its start, where ``PYTHONPATH`` has this folder. A process may learn later that
it belongs to a stage, or be forked for another one, so each is asked at each file.
"""

import os
import sys
from importlib.machinery import PathFinder

folder = os.environ.get("TRUEFIT_OPENED")
seen = set()


def note(path):
    """Write down a file, if it is one: of a folder only what is in it is read."""
    stage, path = os.environ.get("DVC_STAGE"), os.path.abspath(path)
    if stage and (stage, path) not in seen and os.path.isfile(path):
        record = os.open(f"{folder}/{stage}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(record, f"{path}\n".encode())
        os.close(record)
    seen.add((stage, path))


def hear(event, arguments):
    """What Python opens."""
    if event == "open" and isinstance(arguments[0], str):
        path, mode, flags = arguments
        if not (mode or "r").startswith(("w", "x", "a")) and not flags & os.O_WRONLY:
            note(path)


class Parquet:
    """pyarrow opens files where Python does not hear it, so its reader says which."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Of the module with the reader alone."""
        if name != "pyarrow.parquet.core":
            return None
        spec = PathFinder.find_spec(name, path, target)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            read = module.read_table
            module.read_table = lambda source, *a, **k: note(source) or read(source, *a, **k)

        spec.loader.exec_module = exec_module
        return spec


if folder:
    sys.addaudithook(hear)
    sys.meta_path.insert(0, Parquet)
