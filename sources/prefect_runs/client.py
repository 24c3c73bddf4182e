"""One Prefect server: asks it, retries, keeps to the request ceiling, and refuses replies it does not understand."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration
from dlt.sources.helpers.requests import Client as RetryingClient
from dlt.sources.helpers.rest_client.client import RESTClient
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth

from .clock import from_http_date, server_time
from .credentials import Connection
from .exceptions import (
    AccessRefused,
    ConfigurationError,
    NotFound,
    ServerFailed,
    ServerUnavailable,
    UnexpectedReply,
    described,
)
from .pace import Pace
from .paging import Body, Page, Row

# reads change nothing, so trying again is safe. Prefect answers 500 or 503 while SQLite is locked.
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
# a redirect is not followed, for the custom headers would go to whatever host it names
NO_REDIRECT: dict[str, Any] = {"allow_redirects": False}
# the 422 for a page size over the server's setting: "Invalid limit: must be less than or equal to 200."
ALLOWED_LIMIT = re.compile(r"must be less than or equal to (\d+)")

# what this package never read; a server built from source may call itself 0+unknown
OLD_VERSION = re.compile(r"[12]\.\d.*")

PAGE_TITLE = re.compile(r"<title[^>]*>([^<]+)</title>", re.IGNORECASE)


class CountingAdapter(HTTPAdapter):
    """Counts every request that is sent, retries included, and holds each back to the pace."""

    def __init__(self, pace: Pace, connections: int) -> None:
        super().__init__(pool_maxsize=connections)
        self.sent = 0
        self._pace = pace
        self._lock = threading.Lock()

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send one request when its turn has come."""
        self._pace.wait()
        with self._lock:
            self.sent += 1
        return super().send(request, *args, **kwargs)


@dataclass(frozen=True)
class Patience:
    """How long to wait for one reply, and how often to ask for it."""

    seconds: float
    attempts: int


class PrefectClient:
    """Reads from one Prefect API. Safe to use from several threads.

    Args:
        connection: where the API is and how it is reached.
        connections: requests at the same time, at most.
        requests_per_minute: ceiling on requests, retries included; None for no ceiling.
        page_size: rows to ask for a page; lowered when the server allows fewer.
        patience: with slow replies and errors; by default what dlt's ``[runtime]`` section says.
    """

    def __init__(
        self,
        connection: Connection,
        connections: int = 4,
        requests_per_minute: int | None = None,
        page_size: int = 200,
        patience: Patience | None = None,
    ) -> None:
        self.connection = connection
        self.connections = connections
        self.page_size = page_size
        self.clock: datetime | None = None
        """The server's time at its last reply (UTC), from the `Date` header; see `clock.server_time`."""
        self._adapter = CountingAdapter(Pace(requests_per_minute), connections)
        self._runtime = resolve_configuration(RuntimeConfiguration())
        if patience:
            self._runtime.request_timeout = patience.seconds
            self._runtime.request_max_attempts = patience.attempts
        self._local = threading.local()
        # flow runs and task runs are read in turns, each with threads of its own
        self._slots = threading.BoundedSemaphore(connections)
        self._csrf: dict[str, str] = {}

    @property
    def requests_sent(self) -> int:
        """Requests sent so far, retries included."""
        return self._adapter.sent

    def get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """The JSON that a GET answers. Errors as in `post`."""
        return self._answer("GET", path, lambda rest: rest.get(path, params, headers=self._csrf, **NO_REDIRECT))

    def post(self, path: str, body: Body) -> Any:
        """The JSON that a POST of `body` answers.

        Raises:
            AccessRefused: 401 or 403.
            NotFound: 404.
            ConfigurationError: another 4xx, or a page of HTML where JSON was due.
            ServerUnavailable: no answer, or 408, 429 or 5xx to every try; for a 500 it is ServerFailed.
            UnexpectedReply: no JSON.
        """
        return self._answer("POST", path, lambda rest: rest.post(path, body, headers=self._csrf, **NO_REDIRECT))

    def page(self, path: str, body: Body, limit: int | None = None, once: bool = False) -> Page:
        """A page of rows from a `/filter` route; the page size follows what the server allows.

        Args:
            once: do not ask again after a 500.
        """
        while True:
            size = min(limit or self.page_size, self.page_size)
            response = self._send(
                "POST",
                path,
                lambda rest, size=size: rest.post(  # type: ignore[misc]
                    path, {**body, "limit": size}, headers=self._csrf, **NO_REDIRECT
                ),
                once,
            )
            allowed = ALLOWED_LIMIT.search(response.text) if response.status_code == 422 else None
            if allowed and 2 <= int(allowed[1]) < size:
                self.page_size = int(allowed[1])
                continue
            rows = self.rows(self._json(response), f"POST {self._url(path)}")
            return Page(rows, full=len(rows) >= size)

    def rows(self, reply: Any, asked: str) -> list[Row]:
        """`reply` as a list of rows with an id.

        Raises:
            UnexpectedReply: it is something else.
        """
        if not isinstance(reply, list) or not all(isinstance(row, dict) for row in reply):
            raise UnexpectedReply(f"{asked} answered {described(reply)} where a list of rows was due")
        for row in reply:
            if not isinstance(row.get("id"), str):
                raise UnexpectedReply(f"{asked} answered a row without an id: {described(row)}")
        return reply

    def version(self) -> str | None:
        """The server's version, or None where it does not tell (Prefect Cloud).

        Raises:
            ConfigurationError: there is no Prefect API, or one of a server older than Prefect 3.
        """
        path = "/admin/version"
        response = self._send("GET", path, lambda rest: rest.get(path, **NO_REDIRECT))
        if response.status_code in (403, 404) and self.connection.is_cloud:
            return None
        if response.status_code == 404:
            raise ConfigurationError(
                f"there is no Prefect API at {self.connection.url}: GET {self._url(path)} answered 404. "
                "The URL of a self-hosted server ends in /api."
            )
        reply = self._json(response)
        if not isinstance(reply, str):
            raise ConfigurationError(
                f"GET {self._url(path)} answered {_excerpt(json.dumps(reply))}, which is no Prefect version. "
                "Is this the URL of a Prefect API?"
            )
        if OLD_VERSION.fullmatch(reply):
            raise ConfigurationError(
                f"the server at {self.connection.url} is Prefect {reply}, and Prefect 3 is needed: upgrade the server, "
                "or set the URL of another one"
            )
        return reply

    def server_settings(self) -> dict[str, Any]:
        """The `server` part of a self-hosted server's settings; empty where it does not tell."""
        path = "/admin/settings"
        response = self._send("GET", path, lambda rest: rest.get(path, **NO_REDIRECT))
        if response.status_code in (403, 404):
            return {}
        reply = self._json(response)
        settings = reply.get("server") if isinstance(reply, dict) else None
        return settings if isinstance(settings, dict) else {}

    def _settle(self, session: requests.Session) -> None:
        """Take from the environment once what `requests` would look for anew at every request."""
        url = self.connection.url
        found = session.merge_environment_settings(url, {}, None, None, None)
        session.proxies = dict(found["proxies"])
        session.verify = found["verify"] if self.connection.verify is True else self.connection.verify
        session.auth = get_netrc_auth(url)
        session.trust_env = False

    def _answer(self, method: str, path: str, send: Callable[[RESTClient], Response]) -> Any:
        return self._json(self._send(method, path, send))

    def _send(self, method: str, path: str, send: Callable[[RESTClient], Response], once: bool = False) -> Response:
        try:
            with self._slots:
                response = send(self._rest(once))
                if response.status_code == 403 and "csrf" in response.text.lower():
                    self._fetch_csrf_token()
                    response = send(self._rest(once))
        except requests.RequestException as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ConfigurationError(
                    f"{method} {self._url(path)}: the server's certificate is not trusted ({self._reason(error)}). "
                    "Set ca_file (or PREFECT_API_SSL_CERT_FILE) to the certificates of its authority."
                ) from None
            raise ServerUnavailable(
                f"{method} {self._url(path)} got no answer: {self._reason(error)}. Is the server up, and the URL right?"
            ) from None
        if "Date" in response.headers:
            self.clock = server_time(from_http_date(response.headers["Date"]), datetime.now(UTC))
        elif self.clock is None:
            self.clock = datetime.now(UTC)
        return response

    def _reason(self, error: requests.RequestException) -> str:
        reason = str(getattr(error.args[0], "reason", "") if error.args else "") or str(error)
        return f"{type(error).__name__}: {_excerpt(reason)}"

    def _fetch_csrf_token(self) -> None:
        # a server with CSRF protection refuses even reads by POST without a token; tokens last an hour
        client = str(uuid.uuid4())
        reply = self._json(self._rest().get("/csrf-token", {"client": client}, **NO_REDIRECT))
        self._csrf = {"Prefect-Csrf-Token": str(reply["token"]), "Prefect-Csrf-Client": client}

    def _rest(self, once: bool = False) -> RESTClient:
        # one for each thread; `once` is one that takes a 500 for an answer
        made: dict[bool, RESTClient] = vars(self._local).setdefault("made", {})
        if once not in made:
            retrying = RetryingClient(
                raise_for_status=False,
                status_codes=[code for code in RETRIED_STATUS if not (once and code == 500)],
                retry_condition=_no_json,
            )
            retrying.update_from_config(self._runtime)
            session = retrying.session
            self._settle(session)
            session.mount("http://", self._adapter)
            session.mount("https://", self._adapter)
            made[once] = RESTClient(
                self.connection.url, auth=self.connection.auth, session=session, config=self._runtime
            )
        return made[once]

    def _url(self, path: str) -> str:
        return f"{self.connection.url}{path}"

    def _json(self, response: Response) -> Any:
        """The body of a good reply.

        Every other reply becomes the error that says what was asked, what came back and what to do.
        """
        asked = f"{response.request.method} {response.request.url}"
        came = f"answered {response.status_code} {response.reason}: {_excerpt(response.text)}"
        status = response.status_code
        if status in (401, 403):
            sent = response.request.headers.get("Authorization")
            raise AccessRefused(f"{asked} {came}. {self._sent(sent)}. {self._credentials_hint(sent)}")
        if status in RETRIED_STATUS or status >= 500:
            kind = ServerFailed if status == 500 else ServerUnavailable
            raise kind(f"{asked} {came}, after several tries. Try again later.")
        if 300 <= status < 400:
            location = response.headers.get("Location", "").partition("?")[0]
            raise ConfigurationError(
                f"{asked} answered {status} {response.reason}, a redirect to {location or 'nowhere'}, which is not "
                "followed. Set the URL of the API itself, and check what stands in front of the server."
            )
        if "html" in response.headers.get("Content-Type", ""):
            raise ConfigurationError(
                f"{asked} answered {status} with a page of HTML where JSON was due{_title(response.text)}. "
                "This is a login page or a user interface; set the URL of the API, which ends in /api "
                "(on Cloud in /api/accounts/…/workspaces/…), and check what stands in front of the server."
            )
        if status == 404:
            raise NotFound(f"{asked} {came}. Is this the URL of a Prefect 3 API?")
        if status >= 400:
            raise ConfigurationError(f"{asked} {came}. Is this the URL of a Prefect 3 API?")
        try:
            return vars(response)["parsed"] if "parsed" in vars(response) else json.loads(response.content)
        except ValueError as error:
            raise UnexpectedReply(
                f"{asked} answered {status} with {len(response.content)} bytes that are no JSON ({error}). "
                "Nothing of this sync's read was kept; try again."
            ) from None

    def _sent(self, authorization: str | None) -> str:
        """What a request that was refused had with it, without the secret itself."""
        if authorization:
            if "authorization" in map(str.lower, self.connection.headers):
                what = "custom header Authorization"
            elif self.connection.auth is None:
                what = "user and password of .netrc"
            else:
                what = "auth string" if authorization.startswith("Basic ") else "API key"
            return f"The {what} that was sent is refused"
        held_back = self.connection.held_back
        kept = f": those of Prefect's settings are for the host {held_back}, and go to no other" if held_back else ""
        return f"Neither an API key nor an auth string was sent{kept}"

    def _credentials_hint(self, sent: str | None) -> str:
        if self.connection.held_back and not sent:
            return "Set api_key or auth_string in dlt's secrets, or PREFECT_API_URL to this server as well."
        if self.connection.is_cloud:
            return "Set an API key that may read this workspace: PREFECT_API_KEY, or api_key in dlt's secrets."
        return (
            "Set what the server asks for: PREFECT_API_AUTH_STRING (or auth_string in dlt's secrets) for a "
            "server with basic authentication, PREFECT_API_KEY for one behind Prefect Cloud."
        )


def _no_json(response: Response | None, error: BaseException | None) -> bool:
    """Whether a good reply is cut or garbled, which a broken proxy can do unnoticed: the length agrees."""
    if response is None or response.status_code != 200:
        return False
    if "json" not in response.headers.get("Content-Type", ""):
        return False
    try:
        # parsed once: `_json` takes it from here. Not by dlt's own parser, which makes floats of large integers
        vars(response)["parsed"] = json.loads(response.content)
    except ValueError:
        return True
    return False


def _title(page: str) -> str:
    # no more of it: what is taken for a page may be rows that something gave a wrong type
    found = PAGE_TITLE.search(page)
    return f": {_excerpt(found[1])}" if found else ""


def _excerpt(body: str) -> str:
    flat = " ".join(body.split())
    return flat if len(flat) <= 200 else f"{flat[:200]}…"
