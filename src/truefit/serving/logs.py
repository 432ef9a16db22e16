"""One line of JSON for each thing that happens."""

import sys
import threading
from datetime import UTC, datetime
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(enc_hook=str)
_lock = threading.Lock()


def say(event: str, level: str = "info", **fields: Any) -> None:
    """Write an event to stdout, with the time.

    What stands in a request's headers or body is never written; that is up to the callers.
    """
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
    content = _encoder.encode(line | {"event": event} | fields) + b"\n"
    try:
        with _lock:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
    except (OSError, ValueError):
        pass  # nobody reads, or the disk is full: no reason to fail a request
