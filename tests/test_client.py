"""The client against what a server, a proxy and a network can do: it retries, gives up, refuses, and says why."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock
from comparison import differences
from conftest import IMPATIENT
from echo_server import echo_server
from fault_proxy import (
    Fault,
    FaultProxy,
    Recorded,
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
    unauthorized,
)
from prefect_api import PrefectApi, now, seconds
from requests.exceptions import ProxyError
from warehouses import DuckdbFile

from prefect_runs import (
    AccessRefused,
    ConfigurationError,
    NotFound,
    PrefectCredentials,
    ServerUnavailable,
    UnexpectedReply,
    pace,
)
from prefect_runs.client import PrefectClient
from prefect_runs.prefect_settings import PrefectSettings
from prefect_runs.unanswered import unanswered
from prefect_runs_pipelines import cli
from prefect_runs_pipelines.local.server import LocalServer, local_server
from prefect_runs_pipelines.sync import SyncOptions, SyncReport, sync

FILTER = "/flow_runs/filter"
ATTEMPTS = 3
AUTH = "admin:right"
RETRIED = (408, 429, 500, 502, 503, 504)
NOT_RETRIED = (400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 451)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few attempts and next to no backoff, set as a user sets them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", str(ATTEMPTS))
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.01")
    # a busy machine's server may take seconds: only the tests of timeouts have a short one
    monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "20")


@pytest.fixture(scope="module")
def protected() -> Iterator[LocalServer]:
    settings = {
        **IMPATIENT,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        "PREFECT_SERVER_API_BASE_PATH": "/runs-api",
    }
    with local_server(settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def client_of(url: str, credentials: dict[str, Any] | None = None, **options: Any) -> PrefectClient:
    """A client as a sync makes it, with nothing of this machine's own Prefect settings."""
    return PrefectClient(
        PrefectCredentials(api_url=url, **(credentials or {})).connection(PrefectSettings()), **options
    )


def read(client: PrefectClient) -> list[Any]:
    """Ids of some flow runs, of which there may be none."""
    return [row["id"] for row in client.page(FILTER, {"sort": "ID_DESC"}, limit=5).rows]


class TestRetries:
    @pytest.mark.parametrize(
        "fault",
        [
            *(pytest.param(status(code), id=str(code)) for code in RETRIED),
            pytest.param(reset(), id="reset"),
            pytest.param(close(), id="closed"),
            pytest.param(cut_body(), id="cut body"),
            pytest.param(cut_json(), id="cut JSON with a matching length"),
            pytest.param(duplicated(), id="duplicated body"),
        ],
    )
    def test_one_fault_is_not_noticed(self, proxy: FaultProxy, fault: Fault) -> None:
        proxy.inject(fault, FILTER)
        assert read(client_of(proxy.url)) == read(client_of(proxy.url))
        assert len(proxy.requests) == 3

    def test_one_reply_that_does_not_come_is_not_noticed(
        self, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "6")
        proxy.inject(hang(60), FILTER)
        assert read(client_of(proxy.url)) == read(client_of(proxy.url))
        assert len(proxy.requests) == 3

    @pytest.mark.parametrize("code", RETRIED)
    def test_a_fault_that_stays_is_given_up(self, proxy: FaultProxy, code: int) -> None:
        proxy.inject(status(code), times=None)
        with pytest.raises(ServerUnavailable, match=rf"POST \S+{FILTER} answered {code} .*Try again later"):
            read(client_of(proxy.url))
        assert len(proxy.requests) == ATTEMPTS

    @pytest.mark.parametrize("code", NOT_RETRIED)
    def test_what_trying_again_cannot_change_is_asked_once(self, proxy: FaultProxy, code: int) -> None:
        proxy.inject(status(code, body={"detail": "no"}), times=None)
        with pytest.raises(ConfigurationError, match=rf"answered {code} "):
            read(client_of(proxy.url))
        assert len(proxy.requests) == 1

    @pytest.mark.parametrize("fault", [reset(), close(), cut_body()], ids=lambda fault: fault.name)
    def test_a_connection_that_breaks_every_time_is_given_up(self, proxy: FaultProxy, fault: Fault) -> None:
        proxy.inject(fault, times=None)
        with pytest.raises(ServerUnavailable, match=rf"POST \S+{FILTER} got no answer: .*Is the server up"):
            read(client_of(proxy.url))
        assert len(proxy.requests) == ATTEMPTS

    def test_nothing_listens(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/api"
            with pytest.raises(ServerUnavailable, match=r"got no answer: ConnectionError: .*refused.*Is the server up"):
                read(client_of(url))

    def test_every_request_has_a_timeout(self, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "1.0")
        proxy.inject(hang(60), times=None)
        client = client_of(proxy.url)
        for ask in (lambda: read(client), lambda: client.get("/flows/x"), client.version):
            proxy.requests.clear()
            began = time.monotonic()
            with pytest.raises(ServerUnavailable, match="Timeout"):
                ask()
            assert ATTEMPTS * 1.0 <= time.monotonic() - began < 30
            assert len(proxy.requests) == ATTEMPTS

    def test_the_waits_between_tries_grow(self, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.2")
        monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "4")
        proxy.inject(status(503), times=None)
        with pytest.raises(ServerUnavailable):
            read(client_of(proxy.url))
        first, second, third = waits(proxy.requests)
        assert first >= 0.2
        assert second >= 0.4
        assert third >= 0.8

    @pytest.mark.parametrize("code", [429, 503])
    def test_retry_after_in_seconds(self, proxy: FaultProxy, code: int) -> None:
        proxy.inject(status(code, retry_after="2"), FILTER)
        read(client_of(proxy.url))
        assert 2.0 <= waits(proxy.requests)[0] < 30

    def test_retry_after_as_a_date(self, proxy: FaultProxy) -> None:
        # an HTTP date is cut to whole seconds
        date = datetime.now(UTC) + timedelta(seconds=3)
        proxy.inject(status(429, retry_after=date), FILTER)
        read(client_of(proxy.url))
        assert len(proxy.requests) == 2
        assert date.replace(microsecond=0) <= datetime.now(UTC) < date + timedelta(seconds=30)

    def test_retry_after_in_the_past_or_unreadable_falls_back_to_the_backoff(self, proxy: FaultProxy) -> None:
        proxy.inject(status(429, retry_after="Mon, 06 Jan 2025 10:00:00 GMT"), FILTER)
        proxy.inject(status(429, retry_after="soon"), FILTER)
        read(client_of(proxy.url))
        assert max(waits(proxy.requests)) < 30


class TestReplies:
    @pytest.mark.parametrize("fault", [cut_json(), duplicated()], ids=lambda fault: fault.name)
    def test_broken_json_that_stays_is_refused(self, proxy: FaultProxy, fault: Fault) -> None:
        proxy.inject(fault, times=None)
        with pytest.raises(UnexpectedReply, match=rf"POST \S+{FILTER} answered 200 with \d+ bytes that are no JSON"):
            read(client_of(proxy.url))

    def test_login_page(self, proxy: FaultProxy) -> None:
        proxy.inject(login_page(), times=None)
        client = client_of(proxy.url)
        for ask in (lambda: read(client), client.version, lambda: client.get("/flows/x")):
            proxy.requests.clear()
            with pytest.raises(ConfigurationError, match=r"a page of HTML where JSON was due.*which ends in /api"):
                ask()
            assert len(proxy.requests) == 1

    def test_401(self, proxy: FaultProxy) -> None:
        proxy.inject(unauthorized(), times=None)
        with pytest.raises(AccessRefused, match=r"answered 401 Unauthorized.*PREFECT_API_AUTH_STRING"):
            read(client_of(proxy.url))
        assert len(proxy.requests) == 1

    def test_403(self, proxy: FaultProxy) -> None:
        proxy.inject(forbidden(), times=None)
        with pytest.raises(AccessRefused, match="answered 403 Forbidden"):
            read(client_of(proxy.url))
        assert len(proxy.requests) == 1

    @pytest.mark.parametrize(
        ("credentials", "words"),
        [
            ({}, "Neither an API key nor an auth string was sent. Set what the server asks for"),
            ({"api_key": "pnu_wrong"}, "The API key that was sent is refused. Set what"),
            ({"auth_string": "admin:wrong"}, "The auth string that was sent is refused. Set what"),
            (
                {"custom_headers": {"authorization": "Bearer wrong"}},
                "The custom header Authorization that was sent is refused",
            ),
            ({"custom_headers": {"X-Other": "wrong"}}, "Neither an API key nor an auth string was sent"),
        ],
    )
    def test_401_says_what_was_sent(self, proxy: FaultProxy, credentials: dict[str, Any], words: str) -> None:
        proxy.inject(unauthorized(), times=None)
        with pytest.raises(AccessRefused) as told:
            client_of(proxy.url, credentials).version()
        assert words in str(told.value)
        assert "wrong" not in str(told.value)

    def test_401_says_that_the_key_is_another_servers(self, proxy: FaultProxy) -> None:
        proxy.inject(unauthorized(), times=None)
        theirs = PrefectSettings(api_url="https://prefect.example.com/api", api_key="pnu_theirs")
        with pytest.raises(AccessRefused) as told:
            PrefectClient(PrefectCredentials(api_url=proxy.url).connection(theirs)).version()
        assert "was sent: those of Prefect's settings are for the host prefect.example.com, and go to no" in str(
            told.value
        )
        assert "Set api_key or auth_string in dlt's secrets" in str(told.value)
        assert "pnu_theirs" not in str(told.value)

    def test_the_hint_for_a_cloud_workspace_is_the_key(self, proxy: FaultProxy) -> None:
        account, workspace = "0" * 8 + "-0000-0000-0000-" + "0" * 12, "1" * 8 + "-0000-0000-0000-" + "0" * 12
        proxy.inject(unauthorized(), times=None)
        with pytest.raises(AccessRefused, match="PREFECT_API_KEY"):
            read(client_of(f"{proxy.url}/accounts/{account}/workspaces/{workspace}"))

    def test_404(self, proxy: FaultProxy) -> None:
        with pytest.raises(NotFound, match=r"GET \S+/no/such/route answered 404"):
            client_of(proxy.url).get("/no/such/route")
        assert len(proxy.requests) == 1

    def test_no_api_at_this_url(self, server: LocalServer) -> None:
        with pytest.raises(ConfigurationError, match=r"there is no Prefect API at \S+/other/api.*ends in /api"):
            client_of(server.url.replace("/api", "/other/api")).version()

    @pytest.mark.parametrize("reply", [{"detail": "?"}, None, "text", [1], ["a"], [{"id": 1}], [{"name": "x"}]])
    def test_json_that_is_no_list_of_rows(self, proxy: FaultProxy, reply: Any) -> None:
        proxy.inject(replace_json(lambda _: reply), FILTER)
        with pytest.raises(UnexpectedReply, match=rf"POST \S+{FILTER} answered"):
            read(client_of(proxy.url))

    def test_a_reply_that_is_not_understood_says_what_to_report(self, proxy: FaultProxy) -> None:
        proxy.inject(replace_json(lambda _: {}), FILTER)
        with pytest.raises(UnexpectedReply) as told:
            read(client_of(proxy.url))
        end = "a dict of 0 where a list of rows was due. If it stays so, report it with the version of the server."
        assert str(told.value).endswith(end)

    @pytest.mark.parametrize("version", ["2.20.4", "2.0b1", "1.4.1"])
    def test_a_server_older_than_prefect_3_is_refused(self, proxy: FaultProxy, version: str) -> None:
        proxy.inject(replace_json(lambda _: version), "/admin/version")
        with pytest.raises(ConfigurationError, match=rf"is Prefect {version}, and Prefect 3 is needed: upgrade"):
            client_of(proxy.url).version()

    @pytest.mark.parametrize("version", ["3.0.0rc1", "3.8.8", "4.0.0", "0+unknown", "10.1"])
    def test_any_other_version_is_read(self, proxy: FaultProxy, version: str) -> None:
        proxy.inject(replace_json(lambda _: version), "/admin/version")
        assert client_of(proxy.url).version() == version

    def test_a_stale_reply_is_a_reply(self, proxy: FaultProxy) -> None:
        client = client_of(proxy.url)
        first = read(client)
        proxy.inject(stale(), FILTER)
        assert read(client) == first

    def test_a_page_size_over_the_servers_is_lowered_and_kept(self, proxy: FaultProxy) -> None:
        refusal = status(422, body={"detail": "Invalid limit: must be less than or equal to 50."})
        proxy.inject(refusal, FILTER, when=lambda request: request.body["limit"] > 50, times=None)
        client = client_of(proxy.url)
        for _ in range(2):
            client.page(FILTER, {})
        assert [request.body["limit"] for request in proxy.requests] == [200, 50, 50]

    def test_the_servers_clock_is_read_from_its_replies(self, proxy: FaultProxy) -> None:
        client = client_of(proxy.url)
        read(client)
        assert client.clock is not None
        assert abs(client.clock - now()) < seconds(30)

    def test_a_date_that_cannot_be_read_is_none(self, proxy: FaultProxy) -> None:
        proxy.inject(dated("31/01/2026 12:00"), FILTER)
        client = client_of(proxy.url)
        assert read(client) == []
        assert client.clock is not None
        assert abs(client.clock - now()) < seconds(30)

    def test_no_api_at_a_path_of_its_own(self, server: LocalServer) -> None:
        with pytest.raises(
            ConfigurationError, match=r"there is no Prefect API at (\S+/runs-api).* Did you mean \1/api ?"
        ):
            client_of(server.url.replace("/api", "/runs-api")).version()


class TestPaceAndConnections:
    def test_the_ceiling_counts_retries_and_is_kept_over_threads(
        self, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # one request may meet all faults
        monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "7")
        client = client_of(proxy.url, connections=4, requests_per_minute=600)
        proxy.inject(status(503), FILTER, times=6, when=lambda _: len(proxy.requests) % 2 == 0)
        in_threads(8, lambda: [read(client) for _ in range(3)])
        assert len(proxy.requests) == client.requests_sent == 24 + 6
        times = sorted(request.time for request in proxy.requests)
        # 600 a minute is one each 0.1 s; on a busy machine the first may be late
        assert times[-1] - times[0] >= 29 * 0.1 - 0.6

    def test_the_ceiling_spaces_requests_evenly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        monkeypatch.setattr(pace, "time", clock)
        paced = pace.Pace(600)
        for _ in range(5):
            paced.wait()
        # never two at the same time, not even after a pause
        clock.seconds += 10
        for _ in range(5):
            paced.wait()
        assert clock.woken == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 10.4, 10.5, 10.6, 10.7, 10.8])

    def test_at_most_so_many_requests_at_the_same_time(self, proxy: FaultProxy) -> None:
        client = client_of(proxy.url, connections=3)
        assert busiest(proxy, lambda: in_threads(12, lambda: read(client))) <= 3

    def test_requests_for_a_csrf_token_count_too(self, proxy: FaultProxy) -> None:
        proxy.inject(status(200, body={"token": "a token"}), "/csrf-token", times=None)
        proxy.inject(csrf_refused(), FILTER, when=lambda asked: "Prefect-Csrf-Token" not in asked.headers, times=None)
        client = client_of(proxy.url, connections=1)
        assert busiest(proxy, lambda: in_threads(6, lambda: read(client))) == 1
        assert "/csrf-token" in [request.path for request in proxy.requests]

    def test_a_sync_keeps_to_its_connections(self, proxy: FaultProxy, api: PrefectApi, tmp_path: Path) -> None:
        since = now() - seconds(0.5)
        for _ in range(6):
            api.task_run("COMPLETED", flow_run_id=api.flow_run("COMPLETED"))
        most = busiest(proxy, lambda: synced(proxy.url, tmp_path, since, settings={"connections": 2}))
        assert most == 2


class TestCredentials:
    def test_custom_headers_arrive(self, proxy: FaultProxy) -> None:
        headers = {"CF-Access-Client-Id": "an id", "X-Other": "b"}
        client = client_of(proxy.url, {"custom_headers": headers, "api_key": "pnu_a"})
        read(client)
        client.version()
        for request in proxy.requests:
            assert headers.items() <= request.headers.items()
            assert request.headers["Authorization"] == "Bearer pnu_a"

    def test_csrf_token_is_fetched_once_and_again_when_it_expired(self, proxy: FaultProxy) -> None:
        token = status(200, body={"token": "a token", "client": "c"})
        proxy.inject(token, "/csrf-token", times=None)
        proxy.inject(csrf_refused(), FILTER)
        client = client_of(proxy.url)
        for _ in range(2):
            read(client)
        assert [request.path for request in proxy.requests] == [FILTER, "/csrf-token", FILTER, FILTER]
        _, asked, *authorized = proxy.requests
        for request in authorized:
            assert request.headers["Prefect-Csrf-Token"] == "a token"
            assert request.headers["Prefect-Csrf-Client"] == asked.query["client"]
        proxy.inject(csrf_refused("Invalid CSRF token or client identifier."), FILTER)
        read(client)
        assert [request.status for request in proxy.requests[-3:]] == [403, 200, 200]

    def test_csrf_refused_for_good(self, proxy: FaultProxy) -> None:
        proxy.inject(status(200, body={"token": "a token"}), "/csrf-token", times=None)
        proxy.inject(csrf_refused(), FILTER, times=None)
        with pytest.raises(AccessRefused, match="CSRF"):
            read(client_of(proxy.url))
        assert len(proxy.requests) == 3

    @pytest.mark.parametrize("token", [[], {}, "a token", {"token": 1}, None], ids=str)
    def test_a_csrf_token_of_another_form(self, proxy: FaultProxy, token: Any) -> None:
        proxy.inject(status(200, body=token), "/csrf-token")
        proxy.inject(csrf_refused(), FILTER)
        with pytest.raises(UnexpectedReply, match=r"GET \S+/csrf-token answered a .* without a token"):
            read(client_of(proxy.url))


class TestRedirects:
    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, proxy: FaultProxy, code: int) -> None:
        with echo_server() as elsewhere:
            # the name differs from the proxy's address, as another host's does
            other = f"http://localhost:{elsewhere.server_address[1]}"
            location = f"{other}/login?token=secret_in_the_query"
            proxy.inject(redirect(code, location), times=None)
            client = client_of(proxy.url, {"custom_headers": {"X-Secret": "s"}, "api_key": "pnu_a"})
            for ask in (lambda: read(client), client.version, lambda: client.get("/flows/x")):
                with pytest.raises(ConfigurationError, match=rf"answered {code} .*{other}/login") as caught:
                    ask()
                assert "secret_in_the_query" not in str(caught.value)
            assert elsewhere.asked == []
        assert len(proxy.requests) == 3


class TestProxies:
    @pytest.mark.parametrize(
        "url",
        [
            "http://me:s3cret#x@gate:3128",
            "http://me:x@gate:s3cret",
            "http://",
            "socks5://me:s3cret@gate:1",
            "http://.:1",
            "http://me:s3cret@",
            "http://me:s3cret€@gate:1",
        ],
    )
    def test_a_proxy_that_cannot_be_used(self, proxy: FaultProxy, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("HTTP_PROXY", url)
        with pytest.raises(ConfigurationError, match="HTTP_PROXY") as told:
            client_of(proxy.url).version()
        assert "s3cret" not in str(told.value)

    def test_a_proxy_that_refuses_its_user(self) -> None:
        refused = ProxyError("Tunnel connection failed: 407 Proxy Authentication Required")
        assert isinstance(unanswered("GET https://host/api", refused), ConfigurationError)
        assert isinstance(unanswered("GET https://host/api", ProxyError("refused")), ServerUnavailable)


class TestPrivateCertificates:
    @pytest.fixture
    def tls_url(self, proxy: FaultProxy, certificates: Path) -> Iterator[str]:
        with tls_in_front_of(proxy.url, certificates) as url:
            yield url

    def test_trusted_with_ca_file(self, tls_url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # the environment's bundle must not win over what is configured for this server
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "other.pem"))
        client = client_of(tls_url, {"ca_file": str(certificates / "ca.pem")})
        assert client.version()
        assert isinstance(read(client), list)

    def test_refused_without(self, tls_url: str, proxy: FaultProxy) -> None:
        with pytest.raises(ConfigurationError, match=r"certificate.*ca_file"):
            read(client_of(tls_url))
        assert proxy.requests == []

    def test_refused_with_another_ca(self, tls_url: str, certificates: Path, proxy: FaultProxy) -> None:
        with pytest.raises(ConfigurationError, match=r"certificate.*ca_file"):
            read(client_of(tls_url, {"ca_file": str(certificates / "other.pem")}))
        assert proxy.requests == []

    @pytest.mark.parametrize(
        "broken", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
    )
    def test_a_ca_file_that_holds_no_certificate(self, tls_url: str, broken: str, tmp_path: Path) -> None:
        ca_file = tmp_path / "ca.pem"
        ca_file.write_text(broken)
        with pytest.raises(ConfigurationError, match=r"certificates to trust cannot be read.*Set ca_file"):
            client_of(tls_url, {"ca_file": str(ca_file)}).version()

    def test_a_bundle_that_is_not_there(self, tls_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/ca.pem")
        with pytest.raises(ConfigurationError, match=r"/nonexistent/ca\.pem.*REQUESTS_CA_BUNDLE"):
            client_of(tls_url).version()

    @pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
    def test_any_certificate_when_told_so(self, tls_url: str) -> None:
        assert client_of(tls_url, {"verify_tls": False}).version()


class TestProtectedServer:
    """A server with CSRF protection and Basic authentication, both of its own making, and a path of its own."""

    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "30")
        monkeypatch.setenv("PREFECT_HOME", "/nonexistent")
        monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)

    def test_a_whole_sync_with_csrf_protection_and_the_right_auth_string(
        self, protected: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        since = now() - seconds(0.5)
        api = authorized_api(protected.url, AUTH)
        for state in ("COMPLETED", "RUNNING"):
            api.task_run(state, flow_run_id=api.flow_run(state))
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", AUTH)
        report = synced(protected.url, tmp_path, since)
        assert report.new["flow_runs"] == report.new["task_runs"] == 2
        assert differences(api, DuckdbFile(tmp_path), since) == []
        api.close()

    @pytest.mark.parametrize("auth", ["admin:wrong", None])
    def test_a_wrong_auth_string(
        self,
        protected: LocalServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        auth: str | None,
    ) -> None:
        if auth:
            monkeypatch.setenv("PREFECT_API_AUTH_STRING", auth)
        monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
        monkeypatch.chdir(tmp_path)
        assert cli.main(["sync", "--api-url", protected.url]) == 2
        error = capsys.readouterr().err
        assert "answered 401 Unauthorized" in error
        assert "PREFECT_API_AUTH_STRING" in error
        assert "wrong" not in error
        assert "Traceback" not in error


def waits(requests: list[Recorded]) -> list[float]:
    """Seconds between one request and the next."""
    times = [request.time for request in requests]
    return [later - earlier for earlier, later in pairwise(times)]


def in_threads(number: int, action: Callable[[], object]) -> None:
    """Do the same in several threads at the same time."""
    with ThreadPoolExecutor(number) as pool:
        for future in [pool.submit(action) for _ in range(number)]:
            future.result()


def busiest(proxy: FaultProxy, action: Callable[[], object]) -> int:
    """The largest number of requests that were under way at one moment of `action`."""
    counts: list[int] = []

    def count() -> None:
        time.sleep(0.05)
        counts.append(sum(request.status is None for request in proxy.requests))

    proxy.before(None, count, times=None)
    action()
    return max(counts)


def synced(url: str, folder: Path, since: datetime, **options: Any) -> SyncReport:
    """One sync into a new warehouse."""
    return sync(
        SyncOptions(
            api_url=url,
            workspace="test",
            database=str(folder / "copy.duckdb"),
            pipelines_dir=str(folder / "pipelines"),
            start_date=since.isoformat(),
            **options,
        )
    )


def authorized_api(url: str, auth: str) -> PrefectApi:
    """The tests' own access to a server with Basic authentication and CSRF protection."""
    api = PrefectApi(url)
    user, _, password = auth.partition(":")
    api._session.auth = (user, password)
    token = api.call("GET", "/csrf-token", client="tests")["token"]
    api._session.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})
    return api


def dated(date: str) -> Fault:
    """An empty page with a `Date` of its own."""

    def act(exchange: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
        exchange.request.status = 200
        exchange.send_bytes(head.encode())

    return Fault("dated", act)


def redirect(code: int, location: str) -> Fault:
    """A redirect, as a gateway answers that wants a login first."""

    def act(exchange: Any) -> None:
        head = f"HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        exchange.request.status = code
        exchange.send_bytes(head.encode())

    return Fault(f"redirect {code}", act)


def make_certificates(folder: Path) -> None:
    """A certificate authority (`ca.pem`), a server's certificate signed by it, and another authority."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    openssl("req", *key, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")


@contextmanager
def tls_in_front_of(url: str, certificates: Path) -> Iterator[str]:
    """An https URL behind which is `url`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    host, _, rest = url.removeprefix("http://").partition(":")
    port, _, path = rest.partition("/")
    threads: list[threading.Thread] = []
    ends: list[socket.socket] = []

    def run(target: Callable[..., None], *arguments: Any) -> None:
        threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        threads[-1].start()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            run(serve, plain)

    def serve(plain: socket.socket) -> None:
        try:
            client = context.wrap_socket(plain, server_side=True)
        except OSError:
            # the client did not trust the certificate
            plain.close()
            return
        upstream = socket.create_connection((host, int(port)))
        ends.extend([client, upstream])
        run(copy_bytes, upstream, client)
        copy_bytes(client, upstream)

    def copy_bytes(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(accept, listener)
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/{path}"
        listener.shutdown(socket.SHUT_RDWR)
    for end in ends:
        with suppress(OSError):
            # wakes whoever reads from it
            end.shutdown(socket.SHUT_RDWR)
        end.close()
    for thread in threads:
        thread.join(5)
