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
    ConfigurationError,
    UnexpectedReply,
    described,
)
from .pace import Pace
from .paging import Body, Page, Row
from .replies import RETRIED_STATUS, excerpt, no_json, parsed
from .unanswered import ERRORS, check_proxy, unanswered
from .urls import with_api

# a redirect is not followed, for the custom headers would go to whatever host it names
NO_REDIRECT: dict[str, Any] = {"allow_redirects": False}
# the 422 for a page size over the server's setting: "Invalid limit: must be less than or equal to 200."
ALLOWED_LIMIT = re.compile(r"must be less than or equal to (\d+)")

# what this package never read; a server built from source may call itself 0+unknown
OLD_VERSION = re.compile(r"[12]\.\d.*")


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
        self.date: datetime | None = None
        """That `Date`; None where none could be read."""
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
            rows = self.rows(parsed(response, self.connection), f"POST {self._url(path)}")
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
                f"The URL of a self-hosted server mostly ends in /api.{with_api(self.connection.url)}"
            )
        reply = parsed(response, self.connection)
        if not isinstance(reply, str):
            raise ConfigurationError(
                f"GET {self._url(path)} answered {excerpt(json.dumps(reply))}, which is no Prefect version. "
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
        reply = parsed(response, self.connection)
        settings = reply.get("server") if isinstance(reply, dict) else None
        return settings if isinstance(settings, dict) else {}

    def _settle(self, session: requests.Session) -> None:
        """Take from the environment once what `requests` would look for anew at every request."""
        url = self.connection.url
        found = session.merge_environment_settings(url, {}, None, None, None)
        session.proxies = dict(found["proxies"])
        for proxy in session.proxies.values():
            check_proxy(proxy)
        session.verify = found["verify"] if self.connection.verify is True else self.connection.verify
        session.auth = get_netrc_auth(url)
        session.trust_env = False

    def _answer(self, method: str, path: str, send: Callable[[RESTClient], Response]) -> Any:
        return parsed(self._send(method, path, send), self.connection)

    def _send(self, method: str, path: str, send: Callable[[RESTClient], Response], once: bool = False) -> Response:
        try:
            with self._slots:
                response = send(self._rest(once))
                if response.status_code == 403 and "csrf" in response.text.lower():
                    self._fetch_csrf_token()
                    response = send(self._rest(once))
        except ERRORS as error:
            raise unanswered(f"{method} {self._url(path)}", error) from None
        date = from_http_date(response.headers.get("Date", ""))
        if date:
            self.date, self.clock = date, server_time(date, datetime.now(UTC))
        elif self.clock is None:
            self.clock = datetime.now(UTC)
        return response

    def _fetch_csrf_token(self) -> None:
        # a server with CSRF protection refuses even reads by POST without a token; tokens last an hour
        client = str(uuid.uuid4())
        reply = parsed(self._rest().get("/csrf-token", {"client": client}, **NO_REDIRECT), self.connection)
        token = reply.get("token") if isinstance(reply, dict) else None
        if not isinstance(token, str):
            raise UnexpectedReply(f"GET {self._url('/csrf-token')} answered {described(reply)} without a token")
        self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}

    def _rest(self, once: bool = False) -> RESTClient:
        # one for each thread; `once` is one that takes a 500 for an answer
        made: dict[bool, RESTClient] = vars(self._local).setdefault("made", {})
        if once not in made:
            retrying = RetryingClient(
                raise_for_status=False,
                status_codes=[code for code in RETRIED_STATUS if not (once and code == 500)],
                retry_condition=no_json,
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
