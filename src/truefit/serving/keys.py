"""API keys: made here, shown once, kept as checksums."""

import hmac
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

from truefit.project import InputError

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Keys:
    """The keys that a service accepts.

    Parameters
    ----------
    path : Path
        A text file with ``name sha256`` in each line.

    Raises
    ------
    InputError
        If the file cannot be read, or a line of it.
    """

    def __init__(self, path: Path):
        self._checksums = [checksum for _, checksum in _lines(path)]
        if not self._checksums:
            raise InputError(f"{path} has no key; make one with: truefit key NAME --keys {path}")

    def accept(self, key: bytes) -> bool:
        """Whether it is one of them; it takes as long whether it is or not.

        A key has 256 random bits, so its plain checksum tells nobody what it is.
        """
        checksum = sha256(key).hexdigest()
        return sum(hmac.compare_digest(checksum, known) for known in self._checksums) > 0


def make(name: str, path: Path) -> str:
    """Make a key, and add its name and its checksum to a file.

    Raises
    ------
    InputError
        If the name is none or is taken, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name for a key; take up to 64 letters, digits, dots, dashes"
        )
    if path.exists() and name in dict(_lines(path)):
        raise InputError(f"{path} has a key named {name} already; take another name")
    key = secrets.token_urlsafe(32)
    try:
        # Readable by its owner alone, from its first moment on.
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a+b") as file:
            file.seek(0)
            cut = file.read()[-1:] not in (b"", b"\n")  # some editors leave a last line so
            line = f"{name} {sha256(key.encode()).hexdigest()}\n"
            file.write(b"\n" * cut + line.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    return key


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no file of keys: it is not text") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match line.split():
            case [name, checksum] if re.fullmatch("[0-9a-f]{64}", checksum):
                found.append((name, checksum))
            case _:
                raise InputError(
                    f"{path}: line {number} is not a name and a SHA-256 of 64 hexadecimal digits"
                )
    return found
