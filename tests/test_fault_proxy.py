"""The fault proxy itself, in front of a tiny server that counts what reaches it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from echo_server import UPSTREAM_DATE, EchoServer, echo_server
from fault_proxy import (
    Fault,
    FaultProxy,
    close,
    csrf_refused,
    cut_body,
    cut_json,
    duplicated,
    forbidden,
    hang,
    login_page,
    replace_json,
    reset,
    stale,
    status,
    trickle,
    unauthorized,
)

FILTER = "/flow_runs/filter"


@pytest.fixture(autouse=True)
def no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def upstream() -> Iterator[EchoServer]:
    with echo_server() as server:
        yield server


@pytest.fixture
def proxy(upstream: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.url) as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


class Client:
    """Sends the same request again and again."""

    def __init__(self, proxy: FaultProxy, session: requests.Session) -> None:
        self.proxy = proxy
        self.session = session

    def post(self, path: str = FILTER, body: Any = None, timeout: float = 5) -> requests.Response:
        return self.session.post(self.proxy.url + path, json=body or {"limit": 2}, timeout=timeout)

    def statuses(self, count: int, path: str = FILTER) -> list[int]:
        return [self.post(path).status_code for _ in range(count)]


@pytest.fixture
def client(proxy: FaultProxy, session: requests.Session) -> Client:
    return Client(proxy, session)


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
def test_a_request_reaches_the_server_unchanged(method: str, proxy: FaultProxy, session: requests.Session) -> None:
    address = f"{proxy.url}/flows/?limit=2&name=%C3%A4"
    reply = session.request(method, address, data=b'{"a": 1}')
    assert reply.json() == {
        "n": 1,
        "method": method,
        "path": "/api/flows/?limit=2&name=%C3%A4",
        "sent": '{"a": 1}',
        "host": proxy.url.split("/")[2],
    }


def test_status_headers_and_body_come_back_unchanged(client: Client) -> None:
    reply = client.post("/flow_runs/gone")
    assert (reply.status_code, reply.reason, reply.content) == (404, "Not Found", b'{"detail": "Not Found"}')
    assert reply.headers == {"Date": UPSTREAM_DATE, "X-Seen": "a, b", "Content-Length": "23"}


def test_a_reply_without_body_has_no_length_and_keeps_the_connection(client: Client) -> None:
    reply = client.post("/nothing")
    assert (reply.status_code, reply.content) == (204, b"")
    assert "Content-Length" not in reply.headers
    assert client.statuses(2) == [200, 200]


def test_a_chunked_reply_gets_a_length(client: Client) -> None:
    reply = client.post("/chunked")
    assert reply.json() == {"n": 1}
    assert reply.headers["Content-Length"] == "8"


def test_a_compressed_reply_stays_compressed(client: Client) -> None:
    reply = client.post("/gzip")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.json() == {"n": 1}


@pytest.mark.parametrize(
    ("path", "base"),
    [("", "/api"), ("/", "/api"), ("/api", "/api"), ("/api/", "/api"), ("/prefect/api", "/prefect/api")],
)
def test_the_url_has_the_path_of_the_target(path: str, base: str, upstream: EchoServer) -> None:
    with FaultProxy(upstream.url + path) as proxy:
        assert proxy.url.removeprefix("http://127.0.0.1:").lstrip("0123456789") == base
        assert requests.get(f"{proxy.url}/health", timeout=5).json()["path"] == f"{base}/health"
        assert proxy.requests[0].path == "/health"


@pytest.mark.parametrize("target", ["http://prefect.example.com/api", "https://127.0.0.1:4200/api"])
def test_only_servers_on_this_machine_are_targets(target: str) -> None:
    with pytest.raises(ValueError, match="this machine"):
        FaultProxy(target)


def test_many_requests_share_one_connection_to_the_server(client: Client, upstream: EchoServer) -> None:
    assert set(client.statuses(200)) == {200}
    assert upstream.connections == 1


def test_new_clients_share_the_connection_too(proxy: FaultProxy, upstream: EchoServer) -> None:
    for _ in range(5):
        assert requests.get(f"{proxy.url}/health", timeout=5).ok
    assert upstream.connections == 1


def test_a_connection_that_the_server_closed_is_no_fault(client: Client, upstream: EchoServer) -> None:
    for _ in range(3):
        assert client.post("/brief").ok
        time.sleep(0.05)
    assert upstream.connections == 3


def test_parallel_clients_each_get_their_own_reply(proxy: FaultProxy) -> None:
    answers: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        with requests.Session() as session:
            pages = [session.post(f"{proxy.url}/{number}", data=f"{number}.{n}") for n in range(30)]
            answers[number] = [page.json()["sent"] for page in pages]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: [f"{number}.{n}" for n in range(30)] for number in range(8)}
    assert len(proxy.requests) == 240


def test_a_server_that_hangs_up_looks_the_same_through_the_proxy(client: Client, proxy: FaultProxy) -> None:
    with pytest.raises(requests.ConnectionError):
        client.post("/drop")
    assert proxy.requests[0].status is None


def test_a_server_that_is_down_looks_like_a_lost_connection(
    proxy: FaultProxy, upstream: EchoServer, session: requests.Session
) -> None:
    upstream.shutdown()
    upstream.server_close()
    with pytest.raises(requests.ConnectionError):
        session.get(f"{proxy.url}/health")


def test_requests_are_recorded(proxy: FaultProxy, session: requests.Session) -> None:
    session.post(f"{proxy.url}{FILTER}?a=1&b=", json={"limit": 2}, headers={"X-Test": "yes"})
    session.get(f"{proxy.url}/flows/gone")
    first, second = proxy.requests
    assert (first.method, first.path, first.query) == ("POST", FILTER, {"a": "1", "b": ""})
    assert (first.body, first.headers["X-Test"], first.status) == ({"limit": 2}, "yes", 200)
    assert (second.method, second.path, second.body, second.status) == ("GET", "/flows/gone", None, 404)
    assert first.time < second.time <= time.monotonic()


@pytest.mark.parametrize(
    ("fault", "code", "body"),
    [
        pytest.param(status(429), 429, {"exception_message": "Too Many Requests"}, id="429"),
        pytest.param(status(500), 500, {"exception_message": "database is locked"}, id="500"),
        pytest.param(status(502), 502, {"exception_message": "database is locked"}, id="502"),
        pytest.param(status(503), 503, {"exception_message": "database is locked"}, id="503"),
        pytest.param(status(504, body=[1]), 504, [1], id="body"),
        pytest.param(unauthorized(), 401, {"exception_message": "Unauthorized"}, id="unauthorized"),
        pytest.param(forbidden(), 403, {"detail": "Forbidden"}, id="forbidden"),
        pytest.param(csrf_refused(), 403, {"detail": "Missing CSRF token."}, id="csrf"),
    ],
)
def test_a_refusal_never_reaches_the_server(
    fault: Fault, code: int, body: Any, client: Client, proxy: FaultProxy, upstream: EchoServer
) -> None:
    proxy.inject(fault)
    reply = client.post()
    assert (reply.status_code, reply.json()) == (code, body)
    assert "Retry-After" not in reply.headers
    assert "WWW-Authenticate" not in reply.headers
    assert upstream.asked == []
    assert (proxy.requests[0].status, proxy.requests[0].fault) == (code, fault.name)
    assert client.statuses(1) == [200]


@pytest.mark.parametrize(
    ("retry_after", "header"),
    [
        pytest.param("1", "1", id="seconds"),
        pytest.param(UPSTREAM_DATE, UPSTREAM_DATE, id="http-date"),
        pytest.param(datetime(2025, 1, 6, 10, tzinfo=UTC), UPSTREAM_DATE, id="datetime"),
    ],
)
def test_retry_after_is_sent(retry_after: str | datetime, header: str, client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(429, retry_after=retry_after))
    assert client.post().headers["Retry-After"] == header


def test_a_login_page_is_html_with_status_200(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(login_page())
    reply = client.post()
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<form" in reply.text


@pytest.mark.parametrize("fault", [reset(), close()], ids=lambda fault: fault.name)
@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "kept connection"])
def test_a_lost_connection(warm: bool, fault: Fault, client: Client, proxy: FaultProxy, upstream: EchoServer) -> None:
    proxy.inject(fault, after=int(warm))
    if warm:
        client.post()
    with pytest.raises(requests.ConnectionError):
        client.post()
    assert len(upstream.asked) == int(warm)
    assert proxy.requests[-1].status is None
    assert client.post().ok


@pytest.mark.parametrize(("fault", "seen"), [(reset(), "RST"), (close(), "FIN")], ids=["reset", "close"])
def test_reset_and_close_differ_on_the_wire(fault: Fault, seen: str, proxy: FaultProxy) -> None:
    proxy.inject(fault)
    port = int(proxy.url.split(":")[2].removesuffix("/api"))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert raw.recv(1) == b""
            ended = "FIN"
        except ConnectionResetError:
            ended = "RST"
    assert ended == seen


def test_a_hanging_server_answers_in_the_end(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(hang(3), times=2)
    with pytest.raises(requests.ReadTimeout):
        client.post(timeout=1)
    started = time.monotonic()
    assert client.post().json()["n"] == 2
    assert time.monotonic() - started >= 3


def test_a_trickled_reply_is_slow_and_whole(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(trickle(size=10, pause=0.02))
    started = time.monotonic()
    # no single read takes long: only a limit on the whole request can notice
    reply = client.post(timeout=0.5)
    assert reply.json()["n"] == 1
    assert time.monotonic() - started >= 0.02 * (len(reply.content) // 10)


@pytest.mark.parametrize("path", [FILTER, "/count"])
def test_a_cut_body_is_shorter_than_its_length(path: str, client: Client, proxy: FaultProxy) -> None:
    proxy.inject(cut_body())
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        client.post(path)
    assert proxy.requests[0].status == 200
    assert client.post(path).ok


@pytest.mark.parametrize("fault", [cut_json(), duplicated()], ids=lambda fault: fault.name)
@pytest.mark.parametrize("path", [FILTER, "/gzip", "/count"])
def test_broken_json_in_a_reply_that_looks_whole(path: str, fault: Fault, client: Client, proxy: FaultProxy) -> None:
    proxy.inject(fault, path=path)
    reply = client.post(path)
    assert (reply.status_code, reply.headers["Date"]) == (200, UPSTREAM_DATE)
    assert int(reply.headers["Content-Length"]) == len(reply.content)
    with pytest.raises(requests.JSONDecodeError):
        reply.json()
    whole = client.post(path).content
    # the tiny server numbers its replies: only the end is the same
    assert reply.content.endswith(whole[-5:]) is (fault.name == "duplicated")


def test_a_stale_reply_repeats_an_earlier_one(client: Client, proxy: FaultProxy, upstream: EchoServer) -> None:
    proxy.inject(stale(), times=2)
    numbers = [client.post(body={"offset": offset}).json()["n"] for offset in (0, 1, 0, 0, 0, 1)]
    assert numbers == [1, 2, 1, 1, 3, 4]
    assert [request.fault for request in proxy.requests] == [None, None, "stale", "stale", None, None]
    assert len(upstream.asked) == 4


@pytest.mark.parametrize("path", [FILTER, "/gzip"])
def test_json_is_replaced(path: str, client: Client, proxy: FaultProxy) -> None:
    proxy.inject(replace_json(lambda body: [body["n"], None]))
    reply = client.post(path)
    assert reply.json() == [1, None]
    assert "Content-Encoding" not in reply.headers


def test_a_rule_skips_then_hits_then_is_spent(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), path=FILTER, times=2, after=3)
    assert client.statuses(7) == [200, 200, 200, 503, 503, 200, 200]


def test_a_rule_counts_only_its_own_path(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), path=FILTER, after=1)
    assert client.statuses(3, "/task_runs/filter") == [200, 200, 200]
    assert client.statuses(3) == [200, 503, 200]


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [(None, True), ("/flow_runs/*", True), ("*/filter/", True), ("/flow_runs", False), ("/filter", False)],
)
def test_a_path_may_have_wildcards(pattern: str | None, hit: bool, client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), path=pattern)
    assert client.statuses(1) == [503 if hit else 200]


def test_a_rule_without_times_never_ends(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), times=None)
    assert client.statuses(20) == [503] * 20


def test_a_rule_may_look_at_the_request(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), times=None, when=lambda request: request.body["offset"] == 2)
    replies = [client.post(body={"offset": offset}).status_code for offset in (1, 2, 3, 2)]
    assert replies == [200, 503, 200, 503]


def test_rules_queue_up_and_count_the_same_requests(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(500))
    proxy.inject(status(502))
    proxy.inject(status(503), after=3)
    assert client.statuses(5) == [500, 502, 200, 503, 200]


def test_clear_drops_rules_and_hooks_and_keeps_the_record(client: Client, proxy: FaultProxy) -> None:
    proxy.inject(status(503), times=None)
    proxy.before(FILTER, lambda: pytest.fail("cleared"), after=1)
    assert client.statuses(1) == [503]
    proxy.clear()
    assert client.statuses(2) == [200, 200]
    assert len(proxy.requests) == 3


def random_run(upstream: EchoServer, seed: int, count: int = 60) -> list[str | None]:
    """The faults that ``count`` requests in a row meet."""
    with FaultProxy(upstream.url) as proxy, requests.Session() as session:
        proxy.randomly(seed, 0.3, [status(429), status(503), cut_json()])
        for _ in range(count):
            session.post(proxy.url + FILTER, json={})
        return [request.fault for request in proxy.requests]


def test_random_faults_are_the_same_for_the_same_seed(upstream: EchoServer) -> None:
    first = random_run(upstream, seed=1)
    assert first == random_run(upstream, seed=1)
    assert first != random_run(upstream, seed=2)
    assert set(first) == {None, "status 429", "status 503", "cut json"}
    assert 8 <= len([fault for fault in first if fault]) <= 30


def test_random_faults_do_not_shift_when_another_rule_hits(
    client: Client, proxy: FaultProxy, upstream: EchoServer
) -> None:
    expected = random_run(upstream, seed=5, count=20)
    proxy.inject(status(500), path=FILTER)
    proxy.randomly(5, 0.3, [status(429), status(503), cut_json()], path=FILTER)
    client.statuses(20)
    assert [request.fault for request in proxy.requests][1:] == expected[1:]


def test_a_hook_runs_between_two_pages(client: Client, proxy: FaultProxy, upstream: EchoServer) -> None:
    reached: list[int] = []
    proxy.before(FILTER, lambda: reached.append(len(upstream.asked)), after=2)
    client.statuses(5)
    assert reached == [2]


def test_a_hook_runs_before_a_fault_and_may_use_the_proxy(client: Client, proxy: FaultProxy) -> None:
    def through_the_proxy() -> None:
        assert requests.get(f"{proxy.url}/health", timeout=5).ok
        proxy.inject(status(503), path=FILTER)

    proxy.before(FILTER, through_the_proxy)
    assert client.statuses(2) == [503, 200]
    assert [request.path for request in proxy.requests] == [FILTER, "/health", FILTER]


def fail() -> None:
    raise ConnectionError("the test's own mistake")


def meet_failing_hook(upstream: EchoServer, session: requests.Session, catch: tuple[type[Exception], ...]) -> None:
    with FaultProxy(upstream.url) as proxy:
        proxy.before(None, fail)
        with suppress(*catch):
            session.get(f"{proxy.url}/health")


def test_an_error_in_a_hook_is_raised_at_the_end(upstream: EchoServer, session: requests.Session) -> None:
    with pytest.raises(ConnectionError, match="own mistake"):
        meet_failing_hook(upstream, session, catch=(requests.ConnectionError,))


def test_an_error_in_a_hook_is_told_beside_another_error(upstream: EchoServer, session: requests.Session) -> None:
    with pytest.raises(requests.ConnectionError) as caught:
        meet_failing_hook(upstream, session, catch=())
    assert "own mistake" in caught.value.__notes__[0]


def lose(session: requests.Session, address: str) -> None:
    with pytest.raises(requests.ConnectionError):
        session.get(address, timeout=30)


@pytest.mark.parametrize("linger", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_inside_its_request_is_no_error(
    linger: bool, upstream: EchoServer, proxy: FaultProxy
) -> None:
    port = int(proxy.url.split(":")[2].removesuffix("/api"))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"POST /api/flows HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        # the proxy is to be inside the body by then
        time.sleep(0.05)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(linger), 0))
    assert requests.get(f"{proxy.url}/health", timeout=5).ok
    assert proxy.errors == []
    assert upstream.asked == ["GET /api/health"]


@pytest.mark.parametrize("path", ["/health", "/stuck"], ids=["hanging fault", "hanging server"])
def test_the_end_waits_for_nobody(path: str, upstream: EchoServer, session: requests.Session) -> None:
    with FaultProxy(upstream.url) as proxy:
        proxy.inject(hang(30))
        client = threading.Thread(target=lose, args=(session, proxy.url + path))
        client.start()
        while not upstream.asked:
            time.sleep(0.01)
        ending = time.monotonic()
    assert time.monotonic() - ending < 2
    # an error in the thread, such as a timeout, would fail the test as a warning
    client.join()
