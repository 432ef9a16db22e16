"""The service as an ASGI application."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from itertools import count
from secrets import token_hex
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from starlette.routing import Route, Router

from truefit.project import InputError
from truefit.serving import openapi, v2
from truefit.serving.challenger import CHALLENGER, CHAMPION
from truefit.serving.keys import Keys
from truefit.serving.metrics import Metrics
from truefit.serving.problems import Problem, shown
from truefit.serving.request_log import Entry, RequestLog, now
from truefit.serving.served import Answers, Served, contributions
from truefit.serving.store import Store
from truefit.serving.trial import Trial, Turn, key_of, nobody

SMALL = 65_536  # bytes of a body that always finds room
FEW_ROWS = 50  # up to which the model runs where it is called: a thread costs more
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
JSON, PROBLEM = b"application/json", b"application/problem+json"
HTML = b"text/html; charset=utf-8"
SCRIPT, SCRIPTS = b"text/javascript; charset=utf-8", ("page", "shared", "comparison")
SAFE = (b"x-content-type-options", b"nosniff")
FRESH = (b"cache-control", b"no-store")
# What a page may load: what this service has, and nothing that is written into the page.
POLICY = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
PAGE = files("truefit.serving") / "page"
encode = msgspec.json.Encoder().encode


class Limits(NamedTuple):
    """What a client may ask for."""

    rows: int = 10_000
    body: int = 16_000_000  # bytes
    seconds: float = 10.0  # to wait for an answer
    waiting: int = 8  # bodies of the largest size that may be in memory at once


class Reply(NamedTuple):
    """An answer."""

    body: bytes
    kind: bytes = JSON
    status: int = 200
    headers: tuple = (FRESH,)


class Call:
    """One request: what was sent, and what is known of it for the log."""

    __slots__ = ("scope", "receive", "id", "api", "case", "rows", "version", "held")

    def __init__(self, scope: dict, receive: Callable, api: str):
        self.scope, self.receive, self.api = scope, receive, api
        self.id, self.case, self.rows, self.version = "", "", None, None
        self.held = 0  # bytes of its body in memory

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, by its name in lower case."""
        for known, value in self.scope["headers"]:
            if known == name:
                return value
        return None


Handler = Callable[[Call], Awaitable[Reply]]


class Service:
    """The handlers, and what they share.

    Parameters
    ----------
    store : Store
        The bundles.
    metrics : Metrics
    limits : Limits
    say : callable
        Is told of each request, as an event and its fields; see `truefit.serving.logs`.
    log : RequestLog, optional
        None keeps no requests.
    keys : Keys, optional
        None lets everyone in.
    trial : Trial, optional
        None leaves challengers alone.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        limits: Limits,
        say: Callable[..., None],
        log: RequestLog | None = None,
        keys: Keys | None = None,
        trial: Trial | None = None,
    ):
        self.store, self.metrics, self.limits = store, metrics, limits
        self._say, self.log, self.keys, self.trial = say, log, keys, trial
        self.draining = False
        self._bodies = 0  # bytes in memory
        self._ids = partial(next, count())
        self._id_start = token_hex(6)
        # One thread: a second would only wait for the first one's processor.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    # What every request goes through

    async def answer(self, handler: Handler, call: Call, send: Callable, open: bool) -> None:
        """Answer a request by its handler; count it, log it, turn problems into answers.

        ``open`` tells whether it may be asked without a key.
        """
        started, scope = perf_counter(), call.scope
        call.id = self._request_id(call)
        self.metrics.in_flight += 1
        try:
            if self.keys and not open:
                self._check_key(call)
            reply = await handler(call)
        except Problem as problem:
            reply = self._problem(problem, call)
        except Exception as error:
            said = {"request_id": call.id, "path": scope["path"], "where": _where(error)}
            # Not its text, which may quote the body.
            self._say("failed", level="error", error=type(error).__name__, **said)
            problem = Problem(500, "the service failed; the request id is in its log")
            reply = self._problem(problem, call)
        finally:
            self.metrics.in_flight -= 1
            self._bodies -= call.held
        await self._send(reply, call, send)
        seconds = perf_counter() - started
        self.metrics.answered(call.case, call.api, reply.status, seconds)
        self._say(
            "request", request_id=call.id, method=scope["method"], path=scope["path"],
            status=reply.status, seconds=round(seconds, 6), case=call.case or None,
            rows=call.rows, version=call.version,
        )  # fmt: skip

    def _request_id(self, call: Call) -> str:
        sent = call.header(b"x-request-id")
        if sent and REQUEST_ID.fullmatch(sent):
            return sent.decode()
        return f"{self._id_start}-{self._ids()}"

    def _check_key(self, call: Call) -> None:
        kind, _, key = (call.header(b"authorization") or b"").partition(b" ")
        if kind.lower() != b"bearer" or not self.keys.accept(key.strip()):
            problem = Problem(401, "send a key that is known: Authorization: Bearer KEY")
            problem.headers.append((b"www-authenticate", b"Bearer"))
            raise problem

    def _problem(self, problem: Problem, call: Call) -> Reply:
        said = problem.document(call.id)
        if call.api == "v2":  # its clients look here
            said["error"] = problem.detail
        if problem.status == 503:
            problem.headers.append((b"retry-after", b"1"))
        return Reply(encode(said), PROBLEM, problem.status, (FRESH, *problem.headers))

    async def _send(self, reply: Reply, call: Call, send: Callable) -> None:
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", str(len(reply.body)).encode()),
            (b"x-request-id", call.id.encode()),
            SAFE,
            *reply.headers,
        ]
        if self.draining:  # the next request goes to another instance
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if call.scope["method"] == "HEAD" else reply.body
        await send({"type": "http.response.body", "body": body})

    # What is sent

    def _served(self, call: Call) -> Served:
        name = call.scope["path_params"]["case"]
        served = self.store.current.get(name)
        if served is None:
            known = ", ".join(self.store.current)
            raise Problem(404, f"there is no case {shown(name)}; there are {known}")
        asked = call.scope["path_params"].get("version")
        if asked not in (None, served.version):
            raise Problem(404, f"{name} has no version {shown(asked)}; it has {served.version}")
        call.case, call.version = name, served.version
        return served

    async def _body(self, call: Call) -> bytes:
        """The whole body, within the limits of size and time."""
        most = self.limits.body
        kind = call.header(b"content-type")
        if kind and kind.partition(b";")[0].strip().lower() != JSON:
            raise Problem(415, f"the body must be application/json, and is {shown(_text(kind))}")
        if (coding := call.header(b"content-encoding")) and coding.lower() != b"identity":
            raise Problem(415, "the body must not be compressed")
        if int(call.header(b"content-length") or 0) > most:
            raise _too_large(most)
        parts, size, more = [], 0, True
        while more:
            message = await call.receive()
            if message["type"] == "http.disconnect":  # the server lets nobody take too long
                raise Problem(408, "the body did not come whole, or not in time")
            parts.append(message["body"])
            size, more = size + len(parts[-1]), message["more_body"]
            self._bodies += size - call.held
            call.held = size
            if size > most:
                raise _too_large(most)
            if self._bodies > self.limits.waiting * most and size > SMALL:
                raise Problem(503, "too many large requests at once; try again")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _run(self, work: Callable, few: bool) -> Any:
        """The result of some work, in the thread of large ones unless it is small."""
        if few:
            return work()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise Problem(503, "the answer takes too long; send fewer rows, or try later") from None

    def _answer(
        self, call: Call, served: Served, columns: list, n: int, ids: Any, name: str | None = None
    ) -> tuple[Served, Answers, str | None]:
        """The model that answers, its answers, and its role if there is a challenger."""
        if self.trial and (turn := self._turn(call, served, columns, n, ids, name)):
            self._note(call, served, columns, turn.answers, ids, turn)
            return turn.served, turn.answers, turn.role
        answers = served.answer(columns, n)
        self._note(call, served, columns, answers, ids)
        return served, answers, None

    def _turn(
        self, call: Call, served: Served, columns: list, n: int, ids: Any, name: str | None
    ) -> Turn | None:
        pair = self.trial.pair(served)
        if pair is None or "version" in call.scope["path_params"]:  # who names one gets that one
            return None
        some = self.trial.share < 1  # of all there is nothing to choose
        key = key_of(served, columns, ids, name or _sent_id(call)) if some else b""
        turn = self.trial.answer(pair, columns, n, key)
        call.version = turn.served.version
        return turn

    def _note(
        self, call: Call, served: Served, columns: list, answers: Answers, ids: Any,
        turn: Turn | None = None,
    ) -> None:  # fmt: skip
        call.rows = len(answers.scores)
        role = turn.role if turn else CHAMPION
        self.metrics.predicted(served, answers, role)
        entry = None
        if self.log:
            inputs = {c.name: v for c, v in zip(served.bundle.inputs, columns, strict=True)}
            named = {served.manifest.id: ids} if ids else None
            entry = Entry(call.case, now(), call.id, call.version, call.rows, named, inputs,
                          answers.outputs, role)  # fmt: skip
        if turn and turn.drawn:
            self.trial.shadow(turn, columns, entry, call.held)
        elif entry:
            self.log.add(entry)

    # The own API

    async def predict(self, call: Call) -> Reply:
        """Predictions for one record or many."""
        served, body = self._served(call), await self._body(call)

        def work() -> bytes:
            columns, n, ids = served.records.read(body, self.limits.rows)
            by, answers, role = self._answer(call, served, columns, n, ids)
            said = {"case": call.case, "version": by.version, "request_id": call.id}
            if role:
                said["model_role"] = role
            return encode(said | {"predictions": by.predictions(answers, ids)})

        return Reply(await self._run(work, _is_small(body, served)))

    async def explain(self, call: Call) -> Reply:
        """What moved the prediction for one record."""
        served, body = self._served(call), await self._body(call)

        def work() -> bytes:
            columns, n, ids = served.records.read(body, self.limits.rows)
            if n > 1:
                raise Problem(422, f"one record is explained at a time, and these are {n}")
            served.answer(columns, n)  # refuses what cannot be scored
            row = {c.name: v for c, (v,) in zip(served.bundle.inputs, columns, strict=True)}
            said = {"case": call.case, "version": served.version, "request_id": call.id}
            if self.trial and (pair := self.trial.pair(served)):
                key = key_of(served, columns, ids, _sent_id(call))
                by, found = self.trial.explained(pair, columns, row, key)
                call.version = by.version
                role = CHAMPION if by is served else CHALLENGER
                return encode(said | {"version": by.version, "model_role": role} | found)
            return encode(said | contributions(served, row))

        return Reply(await self._run(work, few=False))

    async def cases(self, call: Call) -> Reply:
        """What is served."""
        about = [
            {"case": name, "title": s.manifest.title, "task": s.manifest.task,
             "target": s.manifest.target.name, "version": s.version}
            for name, s in self.store.current.items()
        ]  # fmt: skip
        return Reply(encode({"cases": about}))

    async def case(self, call: Call) -> Reply:
        """What a client must know to send a record."""
        served = self._served(call)
        previous = self.store.previous.get(call.case)
        said = served.description | {"previous": previous and previous.version}
        return Reply(encode(said))

    async def comparison(self, call: Call) -> Reply:
        """How champion and challenger compare on the requests so far."""
        served = self._served(call)
        if self.trial:
            found = self.trial.said(served)
        else:
            why = "the service was started without --shadow and without --canary"
            found = {"mode": None, "share": None} | nobody(served, why)
        return Reply(encode({"case": call.case, "request_id": call.id} | found))

    async def rollback(self, call: Call) -> Reply:
        """Serve the bundle before the current one again."""
        if not self.keys:
            raise Problem(403, "only a service that was started with --keys can be told to")
        self._served(call)
        try:
            back = self.store.roll_back(call.case)
        except InputError as error:
            raise Problem(409, str(error)) from None
        self.metrics.serve(self.store.current)
        call.version = back.version
        return Reply(encode({"case": call.case, "version": back.version}))

    # The Open Inference Protocol

    async def infer(self, call: Call) -> Reply:
        """Predictions for tensors."""
        served, body = self._served(call), await self._body(call)

        def work() -> bytes:
            request, columns, n = v2.read(body, served, self.limits.rows)
            by, answers, role = self._answer(call, served, columns, n, None, request.id)
            return encode(v2.response(request, by, answers, call.id, role))

        return Reply(await self._run(work, _is_small(body, served)))

    async def server_metadata(self, call: Call) -> Reply:
        """Name, version and extensions, of which there are none."""
        return Reply(encode({"name": "truefit", "version": version("truefit"), "extensions": []}))

    async def model_metadata(self, call: Call) -> Reply:
        """What a model takes and gives."""
        return Reply(encode(v2.metadata(self._served(call))))

    async def model_ready(self, call: Call) -> Reply:
        """Whether a model answers."""
        served = self._served(call)
        return Reply(encode({"name": served.manifest.case, "ready": True}))

    # Operations

    async def live(self, call: Call) -> Reply:
        """The process answers."""
        return Reply(encode({"live": True}))

    async def ready(self, call: Call) -> Reply:
        """It may be sent requests."""
        if self.draining:
            raise Problem(503, "the service is about to stop")
        return Reply(encode({"ready": True}))

    async def metrics_text(self, call: Call) -> Reply:
        """For Prometheus."""
        self.metrics.serve(self.store.current, self.store.pairs)
        return Reply(self.metrics.text(), b"text/plain; version=0.0.4; charset=utf-8")

    # Pages

    def file(self, name: str, kind: bytes) -> Handler:
        """A handler that answers with a file of the page."""
        reply = Reply((PAGE / name).read_bytes(), kind, 200, (POLICY,))

        async def handler(call: Call) -> Reply:
            return reply

        return handler

    def _document(self) -> dict:
        described = [served.description for served in self.store.current.values()]
        return openapi.document(described, keys=bool(self.keys), max_rows=self.limits.rows)

    async def openapi(self, call: Call) -> Reply:
        """The API for programs."""
        return Reply(encode(self._document()))

    async def docs(self, call: Call) -> Reply:
        """The API for people; its style is in the page, so the policy names it."""
        policy = POLICY[1].replace(b"style-src 'self'", b"style-src 'unsafe-inline'")
        page = openapi.page(self._document()).encode()
        return Reply(page, HTML, 200, ((POLICY[0], policy),))

    async def nothing(self, call: Call) -> Reply:
        """For a path that no route takes."""
        path = shown(call.scope["path"])
        raise Problem(404, f"there is nothing at {path}; /docs lists what there is")


class Endpoint:
    """An ASGI application: one handler of a service.

    Parameters
    ----------
    service : Service
    handler : coroutine function from Call to Reply
    method : str, optional
        GET, which HEAD goes with, or POST; None takes any.
    api : str
        ``v1``, ``v2`` or ``other``, for the metrics.
    open : bool
        Whether it may be called without a key.
    """

    def __init__(
        self,
        service: Service,
        handler: Handler,
        method: str | None = "GET",
        api: str = "other",
        open: bool = False,
    ):
        self.service, self.handler, self.api, self.open = service, handler, api, open
        self.methods = ("GET", "HEAD") if method == "GET" else (method,)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        call = Call(scope, receive, self.api)
        taken = self.methods[0] is None or scope["method"] in self.methods
        handler = self.handler if taken else self._wrong_method
        await self.service.answer(handler, call, send, self.open)

    async def _wrong_method(self, call: Call) -> Reply:
        allowed = " and ".join(self.methods)
        problem = Problem(405, f"{shown(call.scope['path'])} takes {allowed} alone")
        problem.headers.append((b"allow", ", ".join(self.methods).encode()))
        raise problem


def create_app(service: Service) -> Router:
    """The routes of a service, as an ASGI application."""

    def route(path: str, handler: Handler, method: str = "GET", **more: Any) -> Route:
        return Route(path, Endpoint(service, handler, method, **more))

    s, v1, v2_, free = service, {"api": "v1"}, {"api": "v2"}, {"open": True}
    models = ["/v2/models/{case}", "/v2/models/{case}/versions/{version}"]
    routes = [
        # The busiest first: they are tried in this order.
        route("/v1/cases/{case}/predict", s.predict, "POST", **v1),
        *(route(m + "/infer", s.infer, "POST", **v2_) for m in models),
        route("/health/live", s.live, **free),
        route("/health/ready", s.ready, **free),
        route("/metrics", s.metrics_text, **free),
        route("/v1/cases", s.cases, **v1),
        route("/v1/cases/{case}", s.case, **v1),
        route("/v1/cases/{case}/explain", s.explain, "POST", **v1),
        route("/v1/cases/{case}/rollback", s.rollback, "POST", **v1),
        route("/v1/cases/{case}/comparison", s.comparison, **v1),
        route("/v2", s.server_metadata, **v2_),
        route("/v2/health/live", s.live, **v2_, **free),
        route("/v2/health/ready", s.ready, **v2_, **free),
        *(route(m + "/ready", s.model_ready, **v2_) for m in models),
        *(route(m, s.model_metadata, **v2_) for m in models),
        route("/", s.file("index.html", HTML), **free),
        route("/page.css", s.file("page.css", b"text/css; charset=utf-8"), **free),
        *(route(f"/{name}.js", s.file(f"{name}.js", SCRIPT), **free) for name in SCRIPTS),
        route("/comparison", s.file("comparison.html", HTML), **free),
        route("/docs", s.docs, **free),
        route("/openapi.json", s.openapi, **free),
    ]
    # Without Starlette's own middleware, so that every answer is made, counted and logged here.
    missing = Endpoint(service, service.nothing, None, open=True)
    return Router(routes, redirect_slashes=False, default=missing)


def _is_small(body: bytes, served: Served) -> bool:
    """Whether a body is answered quicker than a thread is asked to."""
    return len(body) < FEW_ROWS * 20 * len(served.bundle.inputs)


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body is larger than {most:,} bytes; send fewer rows at a time")


def _sent_id(call: Call) -> str | None:
    """The request id that the client sent, if it is one."""
    return call.id if (call.header(b"x-request-id") or b"").decode("latin-1") == call.id else None


def _text(header: bytes) -> str:
    return header.decode("latin-1")


def _where(error: Exception) -> str:
    """The line of code that failed, for the log."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
