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

from msgspec import UNSET
from msgspec.structs import replace
from starlette.routing import Route, Router

from truefit.project import InputError
from truefit.serving import openapi, schemas, v2
from truefit.serving.challenger import CHALLENGER, CHAMPION
from truefit.serving.keys import Keys
from truefit.serving.limits import LARGE_ONES, SMALL, Limits, Room, Size, encode
from truefit.serving.metrics import Metrics
from truefit.serving.names import Names
from truefit.serving.problems import Problem, shown
from truefit.serving.request_log import Entry, RequestLog, now
from truefit.serving.served import Answers, Served, contributions
from truefit.serving.store import Store
from truefit.serving.trial import Trial, Turn, key_of, nobody

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
DRAIN = "truefit.drain"  # of a scope: what to await until the answer has left the service


class Reply(NamedTuple):
    """An answer."""

    body: bytes
    kind: bytes = JSON
    status: int = 200
    headers: tuple = (FRESH,)


class Call:
    """One request: what was sent, and what is known of it for the log."""

    __slots__ = ("scope", "receive", "headers", "id", "api", "case", "rows", "version",
                 "_body", "size", "held")  # fmt: skip

    def __init__(self, scope: dict, receive: Callable, api: str):
        self.scope, self.receive, self.api = scope, receive, api
        self.headers = dict(scope["headers"])  # by name in lower case
        self.id, self.case, self.rows, self.version = "", "", None, None
        self._body, self.size = b"", 0
        self.held = 0  # bytes of the room that it takes up

    def keep(self, body: bytes) -> None:
        """Keep the body until it is read."""
        self._body, self.size = body, len(body)

    def body(self) -> bytes:
        """The body, once: who reads it is the last to hold it."""
        body, self._body = self._body, b""
        return body


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
    names : Names, optional
        By which it may be asked.
    private : bool
        Whether pages, documents and metrics need a key, too.
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
        names: Names | None = None,
        private: bool = False,
    ):
        self.store, self.metrics, self.limits = store, metrics, limits
        self._say, self.log, self.keys, self.trial = say, log, keys, trial
        self._names, self.private = names or Names(), private
        self.draining = False
        self._room = Room(LARGE_ONES * limits.body)
        self._described: tuple[tuple, Reply, Reply] | None = None
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
            self._names.check(call.headers, scope["method"])
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
        try:
            await self._send(reply, call, send)
            self._count(reply.status, call, perf_counter() - started)
            if call.held > SMALL and (drain := scope.get(DRAIN)):
                await drain()  # the answer is in memory for as long as nobody reads it
        finally:
            self._room.give(call.held)

    def _count(self, status: int, call: Call, seconds: float) -> None:
        self.metrics.answered(call.case, call.api, status, seconds)
        self._say(
            "request", request_id=call.id, method=call.scope["method"], path=call.scope["path"],
            status=status, seconds=round(seconds, 6), case=call.case or None,
            rows=call.rows, version=call.version,
        )  # fmt: skip

    def _request_id(self, call: Call) -> str:
        sent = call.headers.get(b"x-request-id")
        if sent and REQUEST_ID.fullmatch(sent):
            return sent.decode()
        return f"{self._id_start}-{self._ids()}"

    def _check_key(self, call: Call) -> None:
        kind, _, key = call.headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() != b"bearer" or not self.keys.accept(key.strip()):
            problem = Problem(401, "send a key that is known: Authorization: Bearer KEY")
            problem.headers.append((b"www-authenticate", b"Bearer"))
            raise problem

    def _problem(self, problem: Problem, call: Call) -> Reply:
        said = problem.document(call.id)
        if call.api == "v2":  # its clients look here
            said.error = problem.detail
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

    async def _read(self, call: Call) -> None:
        """Keep the whole body, within the limits of size, time and room."""
        most, room = self.limits.body, self._room
        _check_kind(call)
        declared = int(call.headers.get(b"content-length", 0))
        if declared > most:
            raise _too_large(most)
        parts, size, more = [], 0, True
        while more:
            message = await call.receive()
            if message["type"] == "http.disconnect":  # the server lets nobody take too long
                raise Problem(408, "the body did not come whole, or not in time")
            parts.append(message["body"])
            size, more = size + len(parts[-1]), message["more_body"]
            if size > most:
                raise _too_large(most)
            if size > SMALL and call.held <= SMALL:
                wanted = (declared or most) - call.held
                await room.take(wanted, self.limits.seconds / 2)
                call.held += wanted
            elif size > call.held:
                room.add(size - call.held)
                call.held = size
        room.give(call.held - size)
        call.held = size
        call.keep(parts[0] if len(parts) == 1 else b"".join(parts))

    async def _run(self, call: Call, work: Callable[[], bytes], *, quick: bool) -> Reply:
        """What some work answers, in the thread of large ones unless it is quick."""
        if quick:
            body = work()
        else:
            try:
                async with asyncio.timeout(self.limits.seconds):
                    loop = asyncio.get_running_loop()
                    body = await loop.run_in_executor(self._thread, work)
            except TimeoutError:
                call.body()
                raise Problem(
                    503, "the answer takes too long; send fewer rows, or try later"
                ) from None
        self._room.give(call.held)
        call.held = 0
        self._room.add(len(body))
        call.held = len(body)
        return Reply(body)

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
            self.trial.shadow(turn, columns, entry, call.size)
        elif entry:
            self.log.add(entry)

    # The own API

    async def predict(self, call: Call) -> Reply:
        """Predictions for one record or many."""
        served = self._served(call)
        await self._read(call)

        def work() -> bytes:
            columns, n, ids = served.records.read(call.body(), self.limits.rows)
            by, answers, role = self._answer(call, served, columns, n, ids)
            rows = Size(self.limits.body).listed(partial(by.predictions, answers, ids), n)
            return encode(by.answer_type(**_heading(call, by, role), predictions=rows))

        return await self._run(call, work, quick=_is_small(call, served))

    async def explain(self, call: Call) -> Reply:
        """What moved the prediction for one record."""
        served = self._served(call)
        await self._read(call)

        def work() -> bytes:
            columns, n, ids = served.records.read(call.body(), self.limits.rows)
            if n > 1:
                raise Problem(422, f"one record is explained at a time, and these are {n}")
            served.answer(columns, n)  # refuses what cannot be scored
            row = {c.name: v for c, (v,) in zip(served.bundle.inputs, columns, strict=True)}
            by, found, role = served, None, None
            if self.trial and (pair := self.trial.pair(served)):
                key = key_of(served, columns, ids, _sent_id(call))
                by, found = self.trial.explained(pair, columns, row, key)
                call.version = by.version
                role = CHAMPION if by is served else CHALLENGER
            found = found or contributions(served, row)
            moved = found["contributions"]
            listed = Size(self.limits.body).listed(moved.__getitem__, len(moved))
            found = found | {"contributions": listed}
            return encode(schemas.Explanation(**_heading(call, by, role), **found))

        return await self._run(call, work, quick=False)

    async def cases(self, call: Call) -> Reply:
        """What is served."""
        about = [
            schemas.Summary(
                case=name, title=s.manifest.title, task=s.manifest.task,
                target=s.manifest.target.name, version=s.version,
            )
            for name, s in self.store.current.items()
        ]  # fmt: skip
        return Reply(encode(schemas.Cases(cases=about)))

    async def case(self, call: Call) -> Reply:
        """What a client must know to send a record."""
        served = self._served(call)
        previous = self.store.previous.get(call.case)
        said = replace(served.description, previous=previous and previous.version)
        return Reply(encode(said))

    async def comparison(self, call: Call) -> Reply:
        """How champion and challenger compare on the requests so far."""
        served = self._served(call)
        if self.trial:
            found = self.trial.said(served)
        else:
            why = "the service was started without --shadow and without --canary"
            found = {"mode": None, "share": None} | nobody(served, why)
        return Reply(encode(schemas.Comparison(case=call.case, request_id=call.id, **found)))

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
        return Reply(encode(schemas.RolledBack(case=call.case, version=back.version)))

    # The Open Inference Protocol

    async def infer(self, call: Call) -> Reply:
        """Predictions for tensors."""
        served = self._served(call)
        await self._read(call)

        def work() -> bytes:
            request, columns, n = v2.read(call.body(), served, self.limits.rows)
            by, answers, role = self._answer(call, served, columns, n, None, request.id)
            size = Size(self.limits.body)
            return encode(v2.response(request, by, answers, call.id, role, size))

        return await self._run(call, work, quick=_is_small(call, served))

    async def server_metadata(self, call: Call) -> Reply:
        """Name, version and extensions, of which there are none."""
        server = schemas.Server(name="truefit", version=version("truefit"), extensions=[])
        return Reply(encode(server))

    async def model_metadata(self, call: Call) -> Reply:
        """What a model takes and gives."""
        return Reply(encode(v2.metadata(self._served(call))))

    async def model_ready(self, call: Call) -> Reply:
        """Whether a model answers."""
        served = self._served(call)
        return Reply(encode(schemas.ModelReady(name=served.manifest.case, ready=True)))

    # Operations

    async def live(self, call: Call) -> Reply:
        """The process answers."""
        return Reply(encode(schemas.Live(live=True)))

    async def ready(self, call: Call) -> Reply:
        """It may be sent requests."""
        if self.draining:
            raise Problem(503, "the service is about to stop")
        return Reply(encode(schemas.Ready(ready=True)))

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

    def _descriptions(self) -> tuple[Reply, Reply]:
        """The API for programs and for people, written once for each set of versions."""
        current = self.store.current
        versions = tuple((case, served.version) for case, served in current.items())
        if self._described is None or self._described[0] != versions:
            document = openapi.document(
                [served.description for served in current.values()],
                keys=bool(self.keys), private=self.private, max_rows=self.limits.rows,
            )  # fmt: skip
            # The page has its style in it, so its policy names it.
            policy = POLICY[1].replace(b"style-src 'self'", b"style-src 'unsafe-inline'")
            page = Reply(openapi.page(document).encode(), HTML, 200, ((POLICY[0], policy),))
            self._described = versions, Reply(encode(document)), page
        return self._described[1:]

    async def openapi(self, call: Call) -> Reply:
        """The API for programs."""
        return self._descriptions()[0]

    async def docs(self, call: Call) -> Reply:
        """The API for people."""
        return self._descriptions()[1]

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

    s, v1, v2_, health = service, {"api": "v1"}, {"api": "v2"}, {"open": True}
    free = {"open": not service.private}
    models = ["/v2/models/{case}", "/v2/models/{case}/versions/{version}"]
    routes = [
        # The busiest first: they are tried in this order.
        route("/v1/cases/{case}/predict", s.predict, "POST", **v1),
        *(route(m + "/infer", s.infer, "POST", **v2_) for m in models),
        route("/health/live", s.live, **health),
        route("/health/ready", s.ready, **health),
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
    missing = Endpoint(service, service.nothing, None, **free)
    return Router(routes, redirect_slashes=False, default=missing)


def _heading(call: Call, by: Served, role: str | None) -> dict:
    """The fields of `schemas.Heading`."""
    return {
        "case": call.case, "version": by.version, "request_id": call.id,
        "model_role": role or UNSET,
    }  # fmt: skip


def _is_small(call: Call, served: Served) -> bool:
    """Whether a body is answered quicker than a thread is asked to."""
    return call.size < FEW_ROWS * 20 * len(served.bundle.inputs)


def _check_kind(call: Call) -> None:
    """Raise a Problem unless a body is JSON, and says so.

    No page of another site can send that without asking first. Clients of the inference protocol
    leave it out, and may, as they are no browsers, which always say where a page lies.
    """
    kind = call.headers.get(b"content-type", b"")
    browser = b"origin" in call.headers or b"sec-fetch-site" in call.headers
    may_lack = call.api == "v2" and not browser
    if kind.partition(b";")[0].strip().lower() != JSON and (kind or not may_lack):
        is_ = f"is {shown(kind.decode('latin-1'))}" if kind else "the request does not say so"
        raise Problem(415, f"the body must be application/json, and {is_}")
    if call.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "the body must not be compressed")


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body is larger than {most:,} bytes; send fewer rows at a time")


def _sent_id(call: Call) -> str | None:
    """The request id that the client sent, if it is one."""
    sent = call.headers.get(b"x-request-id", b"").decode("latin-1")
    return call.id if sent == call.id else None


def _where(error: Exception) -> str:
    """The line of code that failed, for the log."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
