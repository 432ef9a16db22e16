"""Write down each file that the processes of a stage open to read.

Python imports it at its start, where ``PYTHONPATH`` has this folder.
"""

import os
import sys

folder, stage = os.environ.get("TRUEFIT_OPENED"), os.environ.get("DVC_STAGE")
if folder and stage:
    seen = set()
    record = os.open(f"{folder}/{stage}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and arguments[0] not in seen:
            path, mode, flags = arguments
            if not (mode or "r").startswith(("w", "x", "a")) and not flags & os.O_WRONLY:
                seen.add(path)
                os.write(record, f"{os.path.abspath(path)}\n".encode())

    sys.addaudithook(note)
