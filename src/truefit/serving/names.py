"""By which names a service may be asked, and by whose pages.

A browser lets any page send requests to 127.0.0.1. The page cannot read the answers, but the
service would act on what it is sent, and keep it. And a page may give the address of the service
to a name of its own (DNS rebinding), and then read the answers, too. What it cannot do is hide its
own name, which stands in the request as Host; or that it lies elsewhere, which a browser says in
Sec-Fetch-Site. Addresses in numbers are nobody's name, so they are always taken.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from truefit.project import InputError
from truefit.serving.problems import Problem, shown

NAME = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
OWN = (b"same-origin", b"none")  # a page of this service, or no page at all


class Names:
    """The names that a service goes by.

    Parameters
    ----------
    names : iterable of str
        Beside ``localhost`` and all addresses in numbers. One with a dot in front stands for all
        names that end so.

    Raises
    ------
    InputError
        If one is no name of a host.
    """

    def __init__(self, names: Iterable[str] = ()):
        known = {name.lower() for name in names}
        for name in known:
            if not NAME.fullmatch(name):
                raise InputError(
                    f"--host-name {name}: that is no name of a host; give it without scheme and "
                    "port, such as model.example.com, or .example.com for all names that end so"
                )
        self._names = frozenset(known | {"localhost"})
        self._ends = tuple(name for name in known if name.startswith("."))
        self._knows = lru_cache(maxsize=64)(self._is_known)

    def check(self, headers: dict[bytes, bytes], method: str) -> None:
        """Refuse a request to another name, and one that another site's page sends.

        Parameters
        ----------
        headers : dict
            By name in lower case.
        method : str

        Raises
        ------
        Problem
            421 or 403. A request without a Host is no browser's.
        """
        host = headers.get(b"host")
        if host is not None and not self._knows(host):
            name = shown(host.decode("latin-1"))
            raise Problem(
                421, f"this service does not go by the name {name}; if it should, start it with "
                "--host-name",
            )  # fmt: skip
        site = headers.get(b"sec-fetch-site", b"none")
        if method not in ("GET", "HEAD") and site not in OWN:
            raise Problem(403, "a page of another site sent this request; only this one's may")

    def _is_known(self, host: bytes) -> bool:
        found = HOST.fullmatch(host.decode("latin-1").lower())
        if not found:
            return False
        name = found["name"].removesuffix(".")
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names or name.endswith(self._ends)
        return True
