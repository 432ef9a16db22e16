"""What requests and answers may cost, so that no client's wish is more than the memory holds."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from truefit.serving.problems import Problem

SMALL = 65_536  # bytes of a body or of an answer that find room where there is none for large ones
SMALL_ONES = 256  # of them
LARGE_ONES = 2  # bodies of the largest size that may be in memory at once
BLOCK = 1000  # rows of an answer that are written together
encode = msgspec.json.Encoder().encode


class Limits(NamedTuple):
    """What a client may ask for."""

    rows: int = 10_000
    body: int = 32_000_000  # bytes; of an answer as well
    seconds: float = 10.0  # to wait for an answer


class Room:
    """The bytes of bodies and answers in memory, of all requests together.

    A large body waits for its turn before it is read, so that the client keeps it meanwhile. What
    is small, and what is in memory already, does not wait: there is a reserve for it, and beyond
    that it is refused.

    Parameters
    ----------
    most : int
        Bytes.
    reserve : int
        Bytes beside them.
    """

    def __init__(self, most: int, reserve: int = SMALL * SMALL_ONES):
        self.most, self.reserve = most, reserve
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future]] = deque()

    async def take(self, size: int, seconds: float) -> None:
        """Wait until there is room, the first to come first.

        Raises
        ------
        Problem
            503 if there was none for so long.
        """
        if not self._waiting and self.used + size <= self.most:
            self.used += size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await asyncio.wait_for(turn, seconds)
        except TimeoutError:
            self._go_on()
            raise _crowded() from None

    def add(self, size: int) -> None:
        """Count what is there already.

        Raises
        ------
        Problem
            503 if that is too much; then it is not counted.
        """
        if self.used + size > self.most + self.reserve:
            raise _crowded()
        self.used += size

    def give(self, size: int) -> None:
        """Count it no longer."""
        self.used -= size
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if self.used + size > self.most:
                    return
                self.used += size
                turn.set_result(None)
            self._waiting.popleft()


def _crowded() -> Problem:
    return Problem(503, "too many large requests at once; try again")


class Size:
    """The bytes of one answer, counted while it is written.

    Parameters
    ----------
    most : int
    """

    def __init__(self, most: int):
        self.most = self.left = most

    def listed(self, part: Callable[[slice], list], n: int) -> Any:
        """A list as JSON, a `msgspec.Raw`, made and written some rows at a time.

        Parameters
        ----------
        part : callable
            Gives the rows of a slice.
        n : int
            How many there are.

        Raises
        ------
        Problem
            413 as soon as the answer is too large.
        """
        parts = []
        # The bracket that opens it; behind each part comes a comma, or the bracket that closes it.
        self.left -= 1
        for first in range(0, n, BLOCK):
            parts.append(encode(part(slice(first, min(first + BLOCK, n))))[1:-1])
            self.left -= len(parts[-1]) + 1
            if self.left < 0:
                said = f"the answer would be larger than {self.most:,} bytes; send fewer rows"
                raise Problem(413, f"{said} at a time")
        return msgspec.Raw(b"[%b]" % b",".join(parts))


def check_values(body: bytes, rows: int, columns: int) -> None:
    """Refuse a body that would be far larger in memory than it is.

    Three bytes of JSON may be a hundred once they are parsed, so their values are counted before:
    none is without a comma or a bracket. The rows of a request have two for each value at most;
    there is room for some more in each row, which may stand in its texts.

    Parameters
    ----------
    body : bytes
        JSON, or what pretends to be.
    rows, columns : int
        The most rows, and what each has.

    Raises
    ------
    Problem
        413.
    """
    most = (rows + 10) * (2 * columns + 40)
    if len(body) > most and sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise Problem(
            413, f"the body has more commas and brackets than {rows:,} rows should have; send "
            "fewer rows at a time",
        )  # fmt: skip
