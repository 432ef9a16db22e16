"""The process: command line in, exit code out, and an orderly end."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from truefit.library_internals import keep_connection
from truefit.project import InputError
from truefit.serving.app import DRAIN, Service, create_app
from truefit.serving.keys import Keys
from truefit.serving.limits import Limits
from truefit.serving.logs import flush_often, say
from truefit.serving.metrics import Metrics
from truefit.serving.names import Names
from truefit.serving.request_log import RequestLog
from truefit.serving.store import Store
from truefit.serving.trial import Mode, Trial

M_ARENA_MAX = -8  # of glibc's malloc.h
HEAD = 65_536  # bytes of a request's first line and headers
UPGRADE = (b"connection", b"upgrade", b"http2-settings")
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@dataclass
class Options:
    """What a person may choose; see ``truefit serve --help``."""

    models: Path
    host: str = "127.0.0.1"
    port: int = 8000
    host_name: tuple[str, ...] = ()  # by which it may be asked, beside addresses and localhost
    keys: Path | None = None
    private: bool = False  # nothing but its health without a key
    log: Path | None = None
    mask: tuple[str, ...] = ()
    keep_days: int = 30
    max_rows: int = 10_000
    max_body: int = 32  # megabytes, of an answer as well
    timeout: float = 10.0  # seconds
    drain: float = 5.0  # seconds
    watch: float = 1.0  # seconds
    shadow: float | None = None  # share of the requests that a challenger scores too
    canary: float | None = None  # share of the requests that a challenger answers


def serve(options: Options) -> None:
    """Serve until a signal says to stop; return when what was in flight is finished.

    Raises
    ------
    InputError
        If a bundle, the keys or the log cannot be used, the address is taken, options contradict
        each other, or a name is none.
    """
    mode, share = _trial(options)
    if options.private and not options.keys:
        raise InputError("--private lets in only who has a key; name their file with --keys")
    _share_memory()
    flush_often()
    metrics = Metrics()
    keys = Keys(options.keys) if options.keys else None
    store = Store(
        options.models, say, lambda case: metrics.refused.labels(case).inc(), challengers=bool(mode)
    )
    _check_mask(store, options.mask)
    listening = _listen(options.host, options.port)
    names = Names((*options.host_name, *_own_name(options.host)))
    log = None
    if options.log:
        log = RequestLog(options.log, metrics.lost.inc, say, options.mask, options.keep_days)
    metrics.serve(store.current)
    trial = Trial(mode, share, store, metrics, say, log) if mode else None
    limits = Limits(options.max_rows, options.max_body * 1_000_000, options.timeout)
    service = Service(store, metrics, limits, say, log, keys, trial, names, options.private)
    if options.watch:
        store.watch(options.watch)
    server = Server(service, options)
    gc.freeze()  # what is here stays
    gc.set_threshold(100_000)  # the rows of a large request have no cycles to look for
    try:
        server.run(sockets=[listening])
    finally:
        store.close()
        if trial:
            trial.close()
        if log:
            log.close()
        say("stopped")


def _trial(options: Options) -> tuple[Mode | None, float]:
    """What challengers are for, and their share of the requests."""
    shares: dict[Mode, float | None] = {"shadow": options.shadow, "canary": options.canary}
    given = [(mode, share) for mode, share in shares.items() if share is not None]
    if len(given) > 1:
        raise InputError("--shadow and --canary are two ways to use a challenger; give one of them")
    return given[0] if given else (None, 0.0)


def _own_name(host: str) -> list[str]:
    """The name that a service listens by, unless it is an address in numbers."""
    with contextlib.suppress(ValueError):
        ip_address(host)
        return []
    return [host]


def _share_memory() -> None:
    """Let all threads take memory from one pool; each would keep one of its own (glibc alone)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _check_mask(store: Store, mask: tuple[str, ...]) -> None:
    bundles = [served.bundle for served in store.current.values()]
    known = {c.name for b in bundles for c in b.inputs} | {b.manifest.id for b in bundles}
    for column in mask:
        if column not in known:
            raise InputError(f"--mask {column}: no model takes a column of that name")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # two may bind one port, and only one of them may listen
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host} port {port}: {why}") from None
    return listening


class Server(uvicorn.Server):
    """uvicorn, which first lets requests go elsewhere when it is told to stop."""

    def __init__(self, service: Service, options: Options):
        self._service, self._drain = service, options.drain
        log_to_json()
        seconds = options.timeout
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http=type("Http", (Protocol,), {"seconds": seconds}),
                ws="none",
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=2048,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(seconds) + 1,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        host, port = sockets[0].getsockname()[:2]
        cases = {case: served.version for case, served in self._service.store.current.items()}
        say("listening", host=host, port=port, cases=cases, **self._trial())

    def _trial(self) -> dict:
        """The part that challengers play, for the log."""
        trial = self._service.trial
        return {trial.mode: trial.share} if trial else {}

    def handle_exit(self, sig: int, frame: object) -> None:
        """The first signal empties the service, a second one ends it."""
        if self._service.draining or not self.started:
            self.should_exit = True
            return
        self._service.draining = True
        self._loop.call_soon_threadsafe(self._end_soon)

    def _end_soon(self) -> None:
        say("stopping", seconds=self._drain)
        self._loop.call_later(self._drain, setattr, self, "should_exit", True)


class Protocol(HttpToolsProtocol):
    """uvicorn's, with limits on how long a request may come, and on how large its head may be.

    An answer may take as long to be read. Who asks for another protocol is answered in this one.
    """

    seconds = 10.0  # from its first byte to its last

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        keep_connection(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")

    def _stay(self, rest: bytes) -> None:
        """Take a request whose head asks for another protocol as if it did not.

        The parser would drop its body. Java's client asks so by default.
        """
        method, asked = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.send_400_response("This is no proxy.")
            return
        kept = (name + b": " + value for name, value in self.headers if name not in UPGRADE)
        head = [method + b" " + self.url + b" HTTP/" + asked, *kept, b"", rest]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(head))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[DRAIN] = self.flow.drain  # pyrefly: ignore[bad-typed-dict-key]
        self._timer.cancel()
        self._start_timer()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name + value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._timer.cancel()
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reading.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if not (cycle and cycle.scope is self.scope and cycle.response_started):
            self.transport.write(TOO_SLOW)
        self.transport.close()

    def _count(self, part: bytes) -> None:
        self._head += len(part)
        if self._head > HEAD:
            raise ValueError("the head of the request is too large")


class _JsonHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), level=record.levelname.lower(), logger=record.name)


def log_to_json() -> None:
    """Send the warnings of libraries the way of the service's own events."""
    root = logging.getLogger()
    root.handlers = [_JsonHandler()]
    root.setLevel(logging.WARNING)
