"""What a client did wrong, as one sentence and a status."""

from http import HTTPStatus
from typing import Any

from truefit.serving import schemas


class Problem(Exception):  # noqa: N818 - it is RFC 9457's word, and not every one is an error
    """An answer that is no prediction; see RFC 9457.

    Parameters
    ----------
    status : int
        Of HTTP.
    detail : str
        What is wrong, where, and what to do; it says nothing of the inside.
    where : optional members
        ``row`` (the first is 1) and ``column``, where one is to blame.
    """

    def __init__(self, status: int, detail: str, **where: int | str | None):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.where: dict[str, Any] = {k: v for k, v in where.items() if v is not None}
        self.headers: list[tuple[bytes, bytes]] = []

    def document(self, request_id: str) -> schemas.Fault:
        """The problem document."""
        return schemas.Fault(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            request_id=request_id,
            **self.where,
        )


def shown(value: object, most: int = 60) -> str:
    """A client's own text or number, short enough for a sentence."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()  # half of a surrogate pair cannot be sent
    return text if len(text) <= most else text[: most - 1] + "…"
