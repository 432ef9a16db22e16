"""One line of JSON for each thing that happens."""

import contextlib
import sys
import threading
from datetime import UTC, datetime
from time import sleep
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(enc_hook=str)
_lock = threading.Lock()
NOBODY_READS = (OSError, ValueError)  # or the disk is full: no reason to fail a request


def say(event: str, level: str = "info", **fields: Any) -> None:
    """Write an event to stdout, with the time.

    What stands in a request's headers or body is never written; that is up to the callers.
    Requests are so many that their lines wait for others; see `flush_often`.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
    content = _encoder.encode({**line, "event": event, **fields}) + b"\n"
    with contextlib.suppress(*NOBODY_READS), _lock:
        sys.stdout.buffer.write(content)
        if event != "request":
            sys.stdout.buffer.flush()


def flush_often(seconds: float = 0.05) -> None:
    """Let no line wait longer, in a thread that ends with the process."""

    def repeat() -> None:
        while True:
            sleep(seconds)
            with contextlib.suppress(*NOBODY_READS), _lock:
                sys.stdout.buffer.flush()

    threading.Thread(target=repeat, name="flush", daemon=True).start()
