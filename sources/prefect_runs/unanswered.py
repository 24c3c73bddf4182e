"""Why a request got no reply, as the error that says what was asked and what to do."""

from __future__ import annotations

from urllib.parse import unquote

import requests
from requests.exceptions import InvalidProxyURL, InvalidSchema, InvalidURL, ProxyError, SSLError
from urllib3.exceptions import LocationValueError

from .exceptions import ConfigurationError, PrefectRunsError, ServerUnavailable
from .replies import excerpt

# what `requests` and urllib3 raise when a request is sent
ERRORS = (requests.RequestException, LocationValueError, OSError)

CA_SETTINGS = "ca_file (or PREFECT_API_SSL_CERT_FILE, or REQUESTS_CA_BUNDLE)"
PROXY_SETTINGS = (
    "Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; in its user name and password percent-encode all but letters and "
    "digits."
)
# of OpenSSL, for a file that holds no certificate or half of one, and of `requests`, for one that is not there
NO_CERTIFICATES = ("NO_CERTIFICATE_OR_CRL_FOUND", "PEM lib", "TLS CA certificate bundle")


def unanswered(asked: str, error: Exception) -> PrefectRunsError:
    """The error to raise for one of `ERRORS`.

    Args:
        asked: method and URL of the request.
    """
    said = _said(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return ConfigurationError(
            f"{asked}: the server's certificate is not trusted ({said}). "
            "Set ca_file (or PREFECT_API_SSL_CERT_FILE) to the certificates of its authority."
        )
    if any(sign in said for sign in NO_CERTIFICATES) or (isinstance(error, SSLError) and "Permission denied" in said):
        return ConfigurationError(
            f"{asked} could not be sent, for the certificates to trust cannot be read ({said}). "
            f"Set {CA_SETTINGS} to a file of certificates in PEM form, or leave it unset."
        )
    if isinstance(error, ProxyError) and " 407 " in said:
        return ConfigurationError(
            f"{asked} could not be sent, for the proxy refuses its user or password ({said}). {PROXY_SETTINGS}"
        )
    if isinstance(error, InvalidProxyURL | InvalidSchema | InvalidURL | LocationValueError):
        # what was said may hold a part of the proxy's password
        return ConfigurationError(
            f"{asked} could not be sent ({type(error).__name__}): its URL, or the one of the proxy, cannot be used. "
            f"{PROXY_SETTINGS} A SOCKS proxy needs the package PySocks."
        )
    return ServerUnavailable(f"{asked} got no answer: {said}. Is the server up, and the URL right?")


def check_proxy(url: str) -> None:
    """Refuse the URL of a proxy on which the HTTP library stumbles in ways that tell nothing.

    Raises:
        ConfigurationError: it has a user and no host, or a sign that no header can hold; no message shows it.
    """
    user_info, separator, place = url.rpartition("@")
    if separator and (not place.strip("/") or not _is_latin(unquote(user_info))):
        raise ConfigurationError(f"the URL of the proxy cannot be used. {PROXY_SETTINGS}")


def _is_latin(text: str) -> bool:
    return all(ord(sign) < 256 for sign in text)


def _said(error: Exception) -> str:
    reason = str(getattr(error.args[0], "reason", "") if error.args else "") or str(error)
    return f"{type(error).__name__}: {excerpt(reason)}"
