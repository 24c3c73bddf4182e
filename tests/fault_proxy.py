"""A proxy in front of a real Prefect server that breaks replies on demand.

    with FaultProxy("http://127.0.0.1:4200") as proxy:
        proxy.inject(status(429, retry_after="1"), path="/flow_runs/filter", times=2, after=3)
        proxy.before("/flow_runs/filter", delete_a_run, after=1)
        ...  # let the client talk to proxy.url
        assert [request.status for request in proxy.requests] == [200, 200, 200, 429, 429, 200]

A request that no rule hits goes through unchanged: same headers (``Host`` too, so links that the server
builds lead back to the proxy), same status, same bytes, the server's own ``Date``. WebSockets, HEAD and
requests with a chunked body are not forwarded.

The faults, each made by a function of this module:

    status          an error status that never reached the server, e.g. 429 with Retry-After, or 503
    unauthorized, forbidden, csrf_refused   401 and 403 as Prefect words them
    login_page      200 with an HTML page, as a single sign-on gateway answers
    reset, close    the connection is torn down (RST) or closed (FIN) without a reply
    hang, trickle   the reply comes late, or a few bytes at a time
    cut_body        the connection closes before Content-Length is reached
    cut_json, duplicated   a reply that looks whole and holds no valid JSON
    stale           an earlier reply to the same request once more
    replace_json    the server's reply, changed by a function
"""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import socketserver
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import format_datetime, formatdate
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException, responses
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# what belongs to one connection and not to the message (RFC 9110, 7.6.1); lengths are set anew
CONNECTION_HEADERS = {
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
BODILESS = {204, 304}
# pages of a few hundred kB over thousands of requests: keep enough for `stale`, not all of them
REMEMBERED_BYTES = 64 * 1024 * 1024
JOIN_SECONDS = 10.0
LOCKED = "database is locked"

Headers = list[tuple[str, str]]


class Gone(Exception):
    """The client, the server or the proxy itself went away: the request ends without a (whole) reply."""


@dataclass
class Recorded:
    """One request as it arrived, and what was answered.

    Attributes:
        path: the part behind the API's address, e.g. ``/flow_runs/filter``.
        query: name to value; the last value of a repeated name.
        body: the parsed JSON; None when there is none.
        headers: as the client wrote them.
        time: seconds on the monotonic clock, for the distance between two requests.
        status: what was answered; None while, or because, no reply was given.
        fault: the name of the fault that hit the request, if one did.
    """

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    time: float
    target: str = field(repr=False)
    raw: bytes = field(repr=False)
    status: int | None = None
    fault: str | None = None

    def matches(self, pattern: str | None) -> bool:
        """Whether the path fits ``pattern``: shell wildcards; None fits all; a closing slash is ignored."""
        return pattern is None or fnmatchcase(self.path.rstrip("/"), pattern.rstrip("/"))


When = Callable[[Recorded], bool]


@dataclass(frozen=True)
class Reply:
    """A whole reply: the server's, or one made up here."""

    status: int
    reason: str
    headers: Headers
    body: bytes

    def plain(self) -> Reply:
        """The same reply without compression, so that its body can be changed."""
        encodings = {value.lower() for name, value in self.headers if name.lower() == "content-encoding"}
        if not encodings:
            return self
        if encodings != {"gzip"}:
            raise ValueError(f"the server's reply has an encoding the proxy cannot undo: {sorted(encodings)}")
        headers = [(name, value) for name, value in self.headers if name.lower() != "content-encoding"]
        return replace(self, headers=headers, body=gzip.decompress(self.body))

    def head(self, length: int, last: bool) -> bytes:
        """Status line and headers that announce a body of ``length`` bytes."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status not in BODILESS:
            lines.append(f"Content-Length: {length}")
        if last:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def made_up(code: int, body: bytes, content_type: str = "application/json", **extra: str) -> Reply:
    """A reply that the server never gave, dated now."""
    headers = [("Date", formatdate(usegmt=True)), ("Content-Type", content_type)]
    headers += [(name.replace("_", "-"), value) for name, value in extra.items()]
    return Reply(code, responses.get(code, ""), headers, body)


class Exchange:
    """One request in the hands of a fault: ask the server, send (part of) a reply, break the connection."""

    def __init__(self, request: Recorded, proxy: FaultProxy, handler: _Handler) -> None:
        self.request = request
        self._proxy = proxy
        self._handler = handler

    def forward(self) -> Reply:
        """The server's reply to this request."""
        reply = self._proxy.upstream.ask(self.request, self._handler.headers.items())
        self._proxy.memory.keep(self.request, reply)
        return reply

    def earlier(self) -> Reply | None:
        """The server's latest reply to the same request, from before."""
        return self._proxy.memory.find(self.request)

    def send(self, reply: Reply) -> None:
        """Send a whole reply."""
        self.start(reply, len(reply.body), then=reply.body)

    def start(self, reply: Reply, length: int, then: bytes = b"") -> None:
        """Send the head of a reply that announces ``length`` bytes, and the bytes ``then`` behind it."""
        # before the bytes leave: a test may look as soon as its client has them
        self.request.status = reply.status
        # one packet instead of two
        self.send_bytes(reply.head(length, last=self._handler.close_connection) + then)

    def send_bytes(self, part: bytes) -> None:
        """Send bytes as they are."""
        try:
            self._handler.connection.sendall(part)
        except OSError as error:
            raise Gone("the client hung up") from error

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the end of the proxy."""
        if self._proxy.closing.wait(seconds):
            raise Gone("the proxy is closing")

    def close(self) -> None:
        """Close the connection (FIN) behind what was sent."""
        self._handler.close_connection = True

    def reset(self) -> None:
        """Tear the connection down (RST)."""
        self._handler.close_connection = True
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # detached, because the server would say FIN (shutdown) before it closes the socket
        os.close(connection.detach())


@dataclass(frozen=True)
class Fault:
    """Something that can go wrong with one request; rules skip requests it is not ``possible`` for."""

    name: str
    act: Callable[[Exchange], None]
    possible: Callable[[Exchange], bool] = lambda _: True


def _answers(name: str, make: Callable[[], Reply]) -> Fault:
    """A fault that answers without asking the server; the reply is made when it is sent, for its ``Date``."""
    return Fault(name, lambda exchange: exchange.send(make()))


def _changes(name: str, change: Callable[[bytes], bytes]) -> Fault:
    """A fault that changes the server's body and announces the length of what is sent."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward().plain()
        exchange.send(replace(reply, body=change(reply.body)))

    return Fault(name, act)


def status(code: int, retry_after: str | datetime | None = None, body: Any = None) -> Fault:
    """An error status without asking the server.

    Args:
        code: 429, 500, 502, 503, …
        retry_after: the ``Retry-After`` header: seconds or an HTTP date as text, or a datetime in UTC.
        body: JSON; by default ``{"exception_message": "database is locked"}`` (429: ``"Too Many Requests"``).
    """
    message = responses.get(code, "") if code < 500 else LOCKED
    content = json.dumps({"exception_message": message} if body is None else body).encode()
    if isinstance(retry_after, datetime):
        retry_after = format_datetime(retry_after, usegmt=True)
    extra = {} if retry_after is None else {"Retry_After": retry_after}
    return _answers(f"status {code}", lambda: made_up(code, content, **extra))


def unauthorized() -> Fault:
    """401 as a server with ``PREFECT_API_AUTH_STRING`` answers: JSON, no ``WWW-Authenticate``."""
    content = json.dumps({"exception_message": "Unauthorized"}).encode()
    return _answers("unauthorized", lambda: made_up(401, content))


def forbidden() -> Fault:
    """403 as for a key without the right role."""
    content = json.dumps({"detail": "Forbidden"}).encode()
    return _answers("forbidden", lambda: made_up(403, content))


def csrf_refused(detail: str = "Missing CSRF token.") -> Fault:
    """403 as a server with CSRF protection answers a POST without a token (or ``detail``: a bad one)."""
    content = json.dumps({"detail": detail}).encode()
    return _answers("csrf refused", lambda: made_up(403, content))


def login_page() -> Fault:
    """200 with an HTML login form, as a gateway in front of the server answers when a session is over."""
    page = b'<!DOCTYPE html><html><body><form action="/login"><input name="user"></form></body></html>'
    return _answers("login page", lambda: made_up(200, page, "text/html; charset=utf-8"))


def reset() -> Fault:
    """The connection is reset (RST) before the server is asked."""
    return Fault("reset", Exchange.reset)


def close() -> Fault:
    """The connection is closed (FIN) without a reply, before the server is asked."""
    return Fault("close", Exchange.close)


def hang(seconds: float) -> Fault:
    """The server is asked at once; its reply is sent ``seconds`` later."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.wait(seconds)
        exchange.send(reply)

    return Fault("hang", act)


def trickle(size: int = 8, pause: float = 0.05) -> Fault:
    """The head comes at once, the body ``size`` bytes every ``pause`` seconds."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.start(reply, len(reply.body))
        for start in range(0, len(reply.body), size):
            exchange.wait(pause)
            exchange.send_bytes(reply.body[start : start + size])

    return Fault("trickle", act)


def cut_body() -> Fault:
    """Half of the body is sent, then the connection closes: less than ``Content-Length`` says."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.close()
        # at least one byte is announced, so that an empty body falls short too
        exchange.start(reply, max(len(reply.body), 1), then=reply.body[: len(reply.body) // 2])

    return Fault("cut body", act)


def cut_json() -> Fault:
    """The body ends in the middle and ``Content-Length`` agrees: only the JSON shows that something lacks."""
    return _changes("cut json", _cut)


def _cut(body: bytes) -> bytes:
    """The first half of ``body``, or less where that would be JSON again (the ``1`` of ``12``)."""
    end = len(body) // 2
    while _is_json(body[:end]):
        end -= 1
    return body[:end]


def duplicated() -> Fault:
    """The body comes twice, a line break between: ``5`` twice would else be a fine ``55``."""
    return _changes("duplicated", lambda body: body + b"\n" + body)


def replace_json(function: Callable[[Any], Any]) -> Fault:
    """The server's reply with ``function(parsed body)`` for a body."""
    return _changes("replace json", lambda body: json.dumps(function(json.loads(body))).encode())


def stale() -> Fault:
    """The latest earlier reply to the same method, path, query and body, ``Date`` and all: a bad cache.

    Passes by requests that the server never answered before: they do not count for ``times`` and ``after``.
    """

    def act(exchange: Exchange) -> None:
        exchange.send(exchange.earlier() or exchange.forward())

    return Fault("stale", act, possible=lambda exchange: exchange.earlier() is not None)


@dataclass
class _Turn:
    """Counts matching requests: passes the first ``after`` by, then lets ``times`` through (None: all)."""

    path: str | None
    when: When | None
    after: int
    times: int | None
    seen: int = 0
    taken: int = 0

    def comes(self, request: Recorded) -> bool:
        """Count the request if it matches; True if it is one to take."""
        if not request.matches(self.path) or (self.when is not None and not self.when(request)):
            return False
        self.seen += 1
        return self.seen > self.after and (self.times is None or self.taken < self.times)


class _Rule(Protocol):
    def offer(self, exchange: Exchange) -> Fault | None:
        """The fault for this request, if any; called once for every request."""

    def take(self) -> None:
        """The offer was taken."""


@dataclass
class _Counted:
    fault: Fault
    turn: _Turn

    def offer(self, exchange: Exchange) -> Fault | None:
        if self.fault.possible(exchange) and self.turn.comes(exchange.request):
            return self.fault
        return None

    def take(self) -> None:
        self.turn.taken += 1


@dataclass
class _Random:
    generator: random.Random
    probability: float
    faults: Sequence[Fault]
    turn: _Turn

    def offer(self, exchange: Exchange) -> Fault | None:
        if not self.turn.comes(exchange.request):
            return None
        # both are drawn for every request, so what one request gets never shifts what the next ones get
        hit, fault = self.generator.random() < self.probability, self.generator.choice(self.faults)
        return fault if hit and fault.possible(exchange) else None

    def take(self) -> None:
        self.turn.taken += 1


@dataclass
class _Hook:
    function: Callable[[], object]
    turn: _Turn

    def due(self, request: Recorded) -> bool:
        due = self.turn.comes(request)
        self.turn.taken += due
        return due


class FaultProxy:
    """A proxy on a free loopback port, for the length of a ``with`` block.

    Attributes:
        url: the API's address through the proxy, with the target's path (``/api`` when it has none) or `base`.
        requests: every request in order of arrival, faulty ones included; a test may empty it.
        errors: what functions given to the proxy raised; the first is raised when the block ends.

    Args:
        target: address of the server on this machine, with or without its ``/api``.
        base: path at which the proxy shows the API, where it is not the target's.
    """

    def __init__(self, target: str, base: str | None = None) -> None:
        parts = urlsplit(target)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK:
            raise ValueError(f"the target must be an http address of this machine, not {target!r}")
        of_target = parts.path.rstrip("/") or "/api"
        self.base = base or of_target
        self.requests: list[Recorded] = []
        self.errors: list[Exception] = []
        self.closing = threading.Event()
        self.memory = _Memory()
        self.upstream = _Upstream(parts.hostname, parts.port or 80, self.base, of_target)
        self._rules: list[_Rule] = []
        self._hooks: list[_Hook] = []
        # reentrant: a `when` may look at the proxy
        self._lock = threading.RLock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{self.base}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        # first, so that no handler is left waiting for the server
        self.upstream.close()
        self._server.server_close()
        if not self.errors:
            return
        if error is None:
            raise self.errors[0]
        error.add_note(f"a function given to the fault proxy failed: {self.errors[0]!r}")

    def inject(
        self,
        fault: Fault,
        path: str | None = None,
        times: int | None = 1,
        after: int = 0,
        when: When | None = None,
    ) -> None:
        """Let ``fault`` hit requests.

        Every rule counts every matching request; where several could hit one, the first injected does and the
        others hit a later one.

        Args:
            fault: what happens.
            path: of the request, behind the API's address; ``*`` is a wildcard; None is every path.
            times: how many requests are hit; None is all of them.
            after: how many matching requests pass first.
            when: a further condition.
        """
        with self._lock:
            self._rules.append(_Counted(fault, _Turn(path, when, after, times)))

    def randomly(
        self,
        seed: int,
        probability: float,
        faults: Sequence[Fault],
        path: str | None = None,
        when: When | None = None,
    ) -> None:
        """Hit each matching request with ``probability`` by one of ``faults``.

        What the n-th matching request to arrive gets depends on the seed and on n alone (a client that sends
        requests in parallel may send another one as its n-th).
        """
        with self._lock:
            turn = _Turn(path, when, after=0, times=None)
            self._rules.append(_Random(random.Random(seed), probability, list(faults), turn))

    def before(
        self,
        path: str | None,
        function: Callable[[], object],
        after: int = 0,
        times: int | None = 1,
        when: When | None = None,
    ) -> None:
        """Call ``function`` when a matching request has arrived, before it is forwarded or hit by a fault.

        The request waits for the function, other requests do not; the function may use the proxy itself.
        Arguments as for ``inject``.
        """
        with self._lock:
            self._hooks.append(_Hook(function, _Turn(path, when, after, times)))

    def clear(self) -> None:
        """Drop all rules and hooks; what was recorded stays."""
        with self._lock:
            self._rules.clear()
            self._hooks.clear()

    def handle(self, exchange: Exchange) -> None:
        """Record a request, call its hooks, then forward it or let a fault have it."""
        with self._lock:
            self.requests.append(exchange.request)
            due = [hook for hook in self._hooks if hook.due(exchange.request)]
        for hook in due:
            hook.function()
        fault = self._choose(exchange)
        if fault is None:
            exchange.send(exchange.forward())
            return
        exchange.request.fault = fault.name
        fault.act(exchange)

    def _choose(self, exchange: Exchange) -> Fault | None:
        chosen: Fault | None = None
        with self._lock:
            for rule in self._rules:
                fault = rule.offer(exchange)
                if fault is not None and chosen is None:
                    chosen = fault
                    rule.take()
        return chosen


class _Server(socketserver.ThreadingTCPServer):
    """Accepts clients, one daemon thread each, and ends them all when it is closed.

    Not ``http.server.HTTPServer``, which looks its own name up in the DNS.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # the base class forgets its daemon threads; these are joined in server_close
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._open[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: errors of test code are in ``proxy.errors``, the rest are clients that hung up."""

    def server_close(self) -> None:
        super().server_close()
        for thread, connection in list(self._open.items()):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(JOIN_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests from one client's connection, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def answer(self) -> None:
        proxy = self.server.proxy
        try:
            proxy.handle(Exchange(self._recorded(proxy.base), proxy, self))
        except Gone:
            self.close_connection = True
        except Exception as error:
            proxy.errors.append(error)
            raise

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer

    def _recorded(self, base: str) -> Recorded:
        raw = self._body()
        parts = urlsplit(self.path)
        inside = parts.path == base or parts.path.startswith(f"{base}/")
        return Recorded(
            method=self.command,
            path=parts.path.removeprefix(base) if inside else parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            body=_parsed(raw),
            headers=dict(self.headers.items()),
            time=time.monotonic(),
            target=self.path,
            raw=raw,
        )

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise NotImplementedError("the fault proxy takes no request with a chunked body")
        length = int(self.headers.get("Content-Length", 0))
        try:
            raw = self.rfile.read(length)
        except OSError as error:
            raise Gone("the client hung up inside its request") from error
        if len(raw) < length:
            raise Gone("the client hung up inside its request")
        return raw

    def log_message(self, format: str, *args: Any) -> None:
        """No log: a test asks ``proxy.requests``."""


class _Upstream:
    """Connections to the real server, used again from one request to the next, whichever thread it is on."""

    def __init__(self, host: str, port: int, base: str, of_target: str) -> None:
        self._address = (host, port)
        self._base = base
        self._of_target = of_target
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._busy: set[HTTPConnection] = set()
        self._closed = False

    def ask(self, request: Recorded, headers: Iterable[tuple[str, str]]) -> Reply:
        """The server's reply; raises Gone when there is none."""
        kept = [(name, value) for name, value in headers if name.lower() not in CONNECTION_HEADERS]
        try:
            return self._ask_once(self._take(), request, kept)
        except _Expired:
            return self._ask_once(self._take(fresh=True), request, kept)

    def close(self) -> None:
        """Close what is idle and wake whoever waits for a reply; they close theirs."""
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _take(self, fresh: bool = False) -> HTTPConnection:
        with self._lock:
            if self._closed:
                raise Gone("the proxy is closing")
            reuse = self._idle and not fresh
            connection = self._idle.pop() if reuse else HTTPConnection(*self._address)
            self._busy.add(connection)
            return connection

    def _give_back(self, connection: HTTPConnection, sound: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if sound and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()

    def _ask_once(self, connection: HTTPConnection, request: Recorded, headers: Headers) -> Reply:
        reused = connection.sock is not None
        sound = False
        try:
            target = request.target.removeprefix(self._base)
            _send(connection, request, headers, self._of_target + target if target != request.target else target)
            with connection.getresponse() as response:
                body = response.read()
                kept = [pair for pair in response.getheaders() if pair[0].lower() not in CONNECTION_HEADERS]
                sound = True
                return Reply(response.status, response.reason, kept, body)
        except ConnectionError as error:
            # a server closes connections that were idle for some seconds: not a fault that was asked for
            raise (_Expired if reused else Gone)("the server hung up") from error
        except (OSError, HTTPException) as error:
            raise Gone("the server hung up") from error
        finally:
            self._give_back(connection, sound)


class _Expired(Gone):
    """A connection that had been used before was closed by the server."""


def _send(connection: HTTPConnection, request: Recorded, headers: Headers, target: str) -> None:
    connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if request.raw or request.method != "GET":
        connection.putheader("Content-Length", str(len(request.raw)))
    connection.endheaders(request.raw or None)


class _Memory:
    """The server's latest reply to each different request, up to ``REMEMBERED_BYTES`` in all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: OrderedDict[tuple[str, str, bytes], Reply] = OrderedDict()
        self._size = 0

    def keep(self, request: Recorded, reply: Reply) -> None:
        """Remember a good reply; the ones not asked for the longest are forgotten."""
        if reply.status != 200:
            return
        key = (request.method, request.target, request.raw)
        with self._lock:
            before = self._replies.pop(key, None)
            self._replies[key] = reply
            self._size += len(reply.body) - (len(before.body) if before else 0)
            while self._size > REMEMBERED_BYTES:
                self._size -= len(self._replies.popitem(last=False)[1].body)

    def find(self, request: Recorded) -> Reply | None:
        """The remembered reply to the same request."""
        with self._lock:
            return self._replies.get((request.method, request.target, request.raw))


def _parsed(raw: bytes) -> Any:
    """The JSON in ``raw``; None when it is empty or something else."""
    with suppress(ValueError):
        return json.loads(raw)
    return None


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True
