"""Where the Prefect server is, and how to be let in.

dlt's configuration comes first; what it leaves open is taken from where Prefect's own client would take it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from dlt.common import logger
from dlt.common.configuration.specs import CredentialsConfiguration, configspec
from dlt.common.typing import SecretSentinel, TSecretStrValue
from requests import PreparedRequest
from requests.auth import AuthBase

from .exceptions import ConfigurationError
from .prefect_settings import PrefectSettings, read_prefect_settings
from .urls import api_url, host_of, is_workspace, shown, user_info, workspace_name

DEFAULT_URL = "http://127.0.0.1:4200/api"
# what `dlt init` writes for a value that the user is to fill in
PLACEHOLDER = "<configure me>"

# prefect/client/base.py drops these with a warning, for it sets them itself
PROTECTED_HEADERS = frozenset({"user-agent", "prefect-csrf-token", "prefect-csrf-client"})

# checked here because the HTTP library shows a header that it refuses, secret or not, in its exception
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")

TSecretHeaders = Annotated[dict[str, str], SecretSentinel]


class PrefectAuth(AuthBase):
    """Sets ``Authorization`` and the custom headers when a request is sent.

    Custom headers go this way, and not through the client's headers, because dlt logs those at DEBUG level.
    As in Prefect's client, a custom ``Authorization`` beats the key.
    """

    def __init__(self, authorization: str | None, headers: Mapping[str, str]) -> None:
        self._authorization = authorization
        self._headers = dict(headers)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request with its headers set."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        request.headers.update(self._headers)
        return request

    def __repr__(self) -> str:
        scheme = self._authorization.partition(" ")[0] if self._authorization else "without a key"
        return f"<PrefectAuth {scheme}>"


@dataclass(frozen=True, repr=False)
class Connection:
    """A server and everything a client needs to talk to it; its repr shows no secret.

    Attributes:
        url: API root without user info and without a trailing slash.
        auth: What lets requests in, custom headers included; ``None`` for an open server.
        headers: The custom headers, already part of ``auth``.
        verify: What ``requests`` calls ``verify``: a flag, or the path of the certificates to trust.
        workspace: Short name of the server or Cloud workspace, made from the URL.
        held_back: The host that Prefect's own key, auth string or headers are for, where it is another one.
    """

    url: str
    auth: AuthBase | None
    headers: dict[str, str]
    verify: bool | str
    workspace: str
    held_back: str | None = None

    @property
    def is_cloud(self) -> bool:
        """Whether the URL is that of a workspace, which self-hosted servers do not have."""
        return is_workspace(self.url)

    def __repr__(self) -> str:
        return (
            f"Connection(url={self.url!r}, auth={self.auth!r}, headers={sorted(self.headers)!r}, "
            f"verify={self.verify!r}, workspace={self.workspace!r})"
        )


@configspec
class PrefectCredentials(CredentialsConfiguration):
    """How to reach a Prefect server; every field may stay unset, and a URL alone stands for all of them.

    Attributes:
        api_url: URL of the API, or of any page of the user interface. Keep passwords out of it:
            dlt records this value in its traces.
        api_key: Prefect Cloud API key.
        auth_string: ``user:password`` of a self-hosted server; beats the key.
        custom_headers: Headers for a proxy in front of the server, such as Cloudflare Access's.
        ca_file: Certificates to trust, PEM.
        verify_tls: ``False`` accepts every certificate.
    """

    api_url: str | None = None
    api_key: TSecretStrValue | None = None
    auth_string: TSecretStrValue | None = None
    custom_headers: TSecretHeaders | None = None
    ca_file: str | None = None
    verify_tls: bool | None = None

    def parse_native_representation(self, native_value: Any) -> None:
        """Accept ``credentials="http://127.0.0.1:4200/api"``.

        Raises:
            ValueError: The value is no text; dlt then goes on field by field.
        """
        if not isinstance(native_value, str):
            raise ValueError(f"credentials are a URL or a table of fields, not {type(native_value).__name__}")
        self.api_url = native_value

    def __str__(self) -> str:
        return f"PrefectCredentials(api_url={shown(_set(self.api_url) or '')!r})"

    __repr__ = __str__

    def connection(self, prefect: PrefectSettings | None = None) -> Connection:
        """What these credentials and Prefect's own settings come to.

        Args:
            prefect: Prefect's settings; read from this process's environment and folders by default.

        Raises:
            ConfigurationError: The URL, a header, a file or Prefect's settings cannot be used as they are.
        """
        prefect = prefect if prefect is not None else _prefect_settings_here()
        own_url = _set(self.api_url)
        url = api_url(own_url or _set(prefect.api_url) or DEFAULT_URL)
        prefect, held_back = _for_host(url, prefect) if own_url else (prefect, None)
        headers = _usable_headers(prefect.custom_headers if self.custom_headers is None else self.custom_headers)
        authorization = self._authorization(prefect)
        return Connection(
            url=url,
            auth=PrefectAuth(authorization, headers) if authorization or headers else None,
            headers=headers,
            verify=self._verify(prefect, url),
            workspace=workspace_name(url),
            held_back=held_back,
        )

    def _authorization(self, prefect: PrefectSettings) -> str | None:
        """Value of the header: dlt's before Prefect's, then user info of the URL, auth string, key.

        The three belong together: a key in dlt's configuration is not beaten by an auth string in Prefect's.
        """
        own_url = _set(self.api_url)
        prefect_url = None if own_url else _set(prefect.api_url)
        return (
            _basic(user_info(own_url) or _set(self.auth_string))
            or _bearer(_set(self.api_key))
            or _basic(user_info(prefect_url) or _set(prefect.api_auth_string))
            or _bearer(_set(prefect.api_key))
        )

    def _verify(self, prefect: PrefectSettings, url: str) -> bool | str:
        # a CA file in dlt's configuration asks for a check, whatever Prefect's settings skip
        own_ca_file = _set(self.ca_file)
        asked = self.verify_tls or own_ca_file
        if self.verify_tls is False or (not asked and prefect.tls_insecure_skip_verify):
            return False
        ca_file = own_ca_file or _set(prefect.ssl_cert_file)
        if ca_file and url.startswith("https:") and not os.path.exists(ca_file):
            raise ConfigurationError(f"the certificate file {ca_file} does not exist: correct or unset ca_file")
        return ca_file or True


def _prefect_settings_here() -> PrefectSettings:
    # not Path.home(): it raises for a user without a home folder, as containers have
    return read_prefect_settings(os.environ, Path.cwd(), Path(os.path.expanduser("~")))


def _set(value: str | None) -> str | None:
    """The text, or ``None`` for a blank and for what ``dlt init`` left to be filled in."""
    # a secret that was read from a file often ends in a line break; other blanks may belong to a password
    text = (value or "").strip("\r\n")
    return None if text.strip() in ("", PLACEHOLDER) else text


def _for_host(url: str, prefect: PrefectSettings) -> tuple[PrefectSettings, str | None]:
    """Prefect's settings as far as they may be used for a URL which is not theirs, and the host they are kept for.

    A key goes to the host it was configured for and to no other. Without a URL beside it, it was configured
    for whatever dlt's configuration names.
    """
    theirs = _set(prefect.api_url)
    if not theirs or host_of(url) == host_of(theirs):
        return prefect, None
    usable = replace(prefect, api_key=None, api_auth_string=None, custom_headers={}, tls_insecure_skip_verify=False)
    if not (prefect.api_key or prefect.api_auth_string or prefect.custom_headers):
        return usable, None
    logger.warning(
        f"Prefect's settings are for the host {host_of(theirs)}: their key, auth string and headers "
        f"are not sent to {host_of(url)}. What {host_of(url)} asks for belongs into dlt's secrets."
    )
    return usable, host_of(theirs)


def _basic(auth_string: str | None) -> str | None:
    if not auth_string:
        return None
    return "Basic " + base64.b64encode(auth_string.encode()).decode("ascii")


def _bearer(key: str | None) -> str | None:
    if not key:
        return None
    key = key.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigurationError("the API key holds a space, a line break or another sign that no key has")
    return f"Bearer {key}"


def _usable_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The custom headers without those that Prefect's client refuses as well."""
    if not isinstance(headers, Mapping):
        raise ConfigurationError("custom_headers is not a table of names and texts")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError("a custom header has a name that HTTP does not allow")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(f"the custom header {name} is not a text of one line in Latin letters")
    protected = sorted(name for name in headers if name.lower() in PROTECTED_HEADERS)
    if protected:
        logger.warning(f"custom headers that the client sets itself are ignored: {', '.join(protected)}")
    return {name: value.strip() for name, value in headers.items() if name not in protected}
