"""What a server's reply means: its JSON, or the error that says what was asked, what came back and what to do."""

from __future__ import annotations

import json
import re
from typing import Any

from requests import Response

from .credentials import Connection
from .exceptions import AccessRefused, ConfigurationError, NotFound, ServerFailed, ServerUnavailable, UnexpectedReply
from .urls import with_api

# reads change nothing, so trying again is safe. Prefect answers 500 or 503 while SQLite is locked.
RETRIED_STATUS = (408, 429, 500, 502, 503, 504)

PAGE_TITLE = re.compile(r"<title[^>]*>([^<]+)</title>", re.IGNORECASE)


def parsed(response: Response, connection: Connection) -> Any:
    """The body of a good reply.

    Every other reply becomes the error that says what was asked, what came back and what to do.
    """
    asked = f"{response.request.method} {response.request.url}"
    status = response.status_code
    # a good reply is not searched for an excerpt
    came = f"answered {status} {response.reason}: {excerpt(response.text)}" if status != 200 else ""
    if status in (401, 403):
        sent = response.request.headers.get("Authorization")
        raise AccessRefused(f"{asked} {came}. {_sent(sent, connection)}. {_hint(sent, connection)}")
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
            f"{with_api(connection.url)}"
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


def _sent(authorization: str | None, connection: Connection) -> str:
    """What a request that was refused had with it, without the secret itself."""
    if authorization:
        if "authorization" in map(str.lower, connection.headers):
            what = "custom header Authorization"
        elif connection.auth is None:
            what = "user and password of .netrc"
        else:
            what = "auth string" if authorization.startswith("Basic ") else "API key"
        return f"The {what} that was sent is refused"
    held_back = connection.held_back
    kept = f": those of Prefect's settings are for the host {held_back}, and go to no other" if held_back else ""
    return f"Neither an API key nor an auth string was sent{kept}"


def _hint(sent: str | None, connection: Connection) -> str:
    if connection.held_back and not sent:
        return "Set api_key or auth_string in dlt's secrets, or PREFECT_API_URL to this server as well."
    if connection.is_cloud:
        return "Set an API key that may read this workspace: PREFECT_API_KEY, or api_key in dlt's secrets."
    return (
        "Set what the server asks for: PREFECT_API_AUTH_STRING (or auth_string in dlt's secrets) for a "
        "server with basic authentication, PREFECT_API_KEY for one behind Prefect Cloud."
    )


def no_json(response: Response | None, error: BaseException | None) -> bool:
    """Whether a good reply is cut or garbled, which a broken proxy can do unnoticed: the length agrees."""
    if response is None or response.status_code != 200:
        return False
    if "json" not in response.headers.get("Content-Type", ""):
        return False
    try:
        # parsed once: `parsed` takes it from here. Not by dlt's own parser, which makes floats of large integers
        vars(response)["parsed"] = json.loads(response.content)
    except ValueError:
        return True
    return False


def _title(page: str) -> str:
    # no more of it: what is taken for a page may be rows that something gave a wrong type
    found = PAGE_TITLE.search(page)
    return f": {excerpt(found[1])}" if found else ""


def excerpt(body: str) -> str:
    """As much of a reply as a message shows, in one line."""
    flat = " ".join(body.split())
    return flat if len(flat) <= 200 else f"{flat[:200]}…"
