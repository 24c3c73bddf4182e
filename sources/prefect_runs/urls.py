"""URLs of Prefect servers: what a user copied from anywhere, the API root that it means, and its workspace's name."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from .exceptions import ConfigurationError

_CLOUD_FORM = "https://api.prefect.cloud/api/accounts/<account id>/workspaces/<workspace id>"

# first path segment of the pages of both user interfaces of 3.x, and of the API's own documentation
_UI_PAGE = re.compile(
    "artifacts|automations|blocks|concurrency-limits(-v2)?|dashboard|deployments|docs|events|flow-runs|flows|"
    "login|notifications|runs|settings|variables|work-pools|work-queues"
)

_LOOPBACK = frozenset({"0.0.0.0", "127.0.0.1", "::1", "localhost"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

_CLOUD_HOST = re.compile(r"(?:api|app)\.(?P<domain>(?:[\w-]+\.)?prefect\.(?:cloud|dev))")
# the API's path is plural, the browser's singular
_WORKSPACE_PATH = re.compile(r"(?P<prefix>.*)/accounts?/(?P<account>[\w-]+)/workspaces?/(?P<workspace>[\w-]+)(?:/.*)?")
_API_PATH = re.compile(r"(?P<api>(?:/.*)?/api)(?:/docs|/redoc|/openapi\.json|/health)?")
# what a message shows of a URL
_PLACE = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\])(?P<port>:\d{1,5})?(?P<path>/[\w./%~+,=:\[\]-]*)?")
_HIDDEN = "what is set as the API's URL (not shown, for it looks like no URL)"
# keys of Prefect Cloud, and tokens of what stands in front of a server
_KEY = re.compile(r"\bpn[a-z]{1,3}_\w+|\beyJ[\w-]+\.[\w.-]+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def api_url(text: str) -> str:
    """The API root that a URL of the API or of the user interface means; user info, query and fragment go.

    Args:
        text: What the user configured or copied from the browser.

    Raises:
        ConfigurationError: The URL means no API root; the message proposes one that does.
    """
    parts = _split(text)
    cloud = _CLOUD_HOST.fullmatch(parts.hostname or "")
    path = re.sub(r"/+", "/", parts.path).rstrip("/")
    if cloud:
        return _cloud_url(f"https://api.{cloud['domain']}/api", path, text)
    return _origin(parts) + _api_path(path, _origin(parts))


def _cloud_url(root: str, path: str, text: str) -> str:
    match = _WORKSPACE_PATH.fullmatch(path)
    if not match:
        raise ConfigurationError(f"{shown(text)} names no Prefect Cloud workspace: set {_CLOUD_FORM}")
    return f"{root}/accounts/{match['account']}/workspaces/{match['workspace']}"


def _api_path(path: str, origin: str) -> str:
    """The path of the API on a host which is not Prefect Cloud's."""
    workspace = _WORKSPACE_PATH.fullmatch(path)
    if workspace and workspace["prefix"].endswith("/api"):
        return f"{workspace['prefix']}/accounts/{workspace['account']}/workspaces/{workspace['workspace']}"
    if match := _API_PATH.fullmatch(path):
        return match["api"]
    segments = path.split("/")[1:]
    if not segments or _UI_PAGE.fullmatch(segments[0]):
        return "/api"
    known = (i for i, segment in enumerate(segments) if segment == "api" or _UI_PAGE.fullmatch(segment))
    kept = next(known, None)
    visible = shown(f"{origin}{path}")
    if kept is None and visible == f"{origin}{path}":
        # where PREFECT_SERVER_API_BASE_PATH, or what stands in front of the server, puts the API
        return path
    proposal = "/".join([origin, *segments[: kept or 0], "api"])
    raise ConfigurationError(f"{visible} is not the URL of a Prefect API: did you mean {shown(proposal)} ?")


def _split(text: str) -> SplitResult:
    """The parts of an ``http`` or ``https`` URL with a host.

    Raises:
        ConfigurationError: It is something else. No message holds user info.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ConfigurationError(f"{shown(text)} has no scheme: did you mean {_with_scheme(text)} ?")
    if scheme.lower() not in _DEFAULT_PORTS:
        raise ConfigurationError(f"{shown(text)} is not an http:// or https:// URL")
    try:
        parts = urlsplit(f"{scheme.lower()}://{rest}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    # an unescaped "/", "#" or "?" in a password ends the host early: what follows must not become a path
    misread = "@" in rest and host and ("@" not in parts.netloc or "@" in parts.path)
    if not host or re.search(r"\s", host) or misread:
        hint = "; percent-encode the signs / # ? @ in a user name or password" if "@" in rest else ""
        raise ConfigurationError(f"{shown(text)} is not a URL with a host and a valid port{hint}")
    return parts


def _with_scheme(text: str) -> str:
    """What a message proposes in the place of a text without a scheme."""
    visible = shown(text)
    if visible == _HIDDEN or "***" in visible:
        return "http://HOST:4200/api or https://HOST/api"
    scheme = "https" if _CLOUD_HOST.match(visible) else "http"
    try:
        return api_url(f"{scheme}://{visible}")
    except ConfigurationError:
        return f"{scheme}://{visible}"


def shown(text: str) -> str:
    """A URL as a message may show it: without user info, query and fragment, even when it is malformed.

    A text that looks like no URL is not shown: it may be a key that was set in the URL's place.
    """
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    place = re.split(r"[?#]", (rest if separator else text).rpartition("@")[2])[0]
    found = _PLACE.fullmatch(place)
    if not found or not (re.fullmatch(r"[\w+.-]+", scheme) if separator else _is_host(found)):
        return _HIDDEN if text else ""
    return (scheme + separator if separator else "") + _KEY.sub("***", place)


def _is_host(place: re.Match[str]) -> bool:
    """Whether a text without a scheme must be a place, and not a key or a user with a password."""
    known = re.fullmatch(rf"localhost|[\d.]+|\[.*\]|{_CLOUD_HOST.pattern}", place["host"])
    return bool(known) or place["port"] in (":4200", ":443", ":80") or (place["path"] or "").startswith("/api")


def with_api(url: str) -> str:
    """The question whether `/api` was forgotten at the end of an API root, for an error; empty where it is there."""
    return "" if urlsplit(url).path.endswith("/api") or is_workspace(url) else f" Did you mean {url}/api ?"


def _origin(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def user_info(text: str | None) -> str | None:
    """``user:password`` of a URL, decoded; a user alone has an empty password, as HTTP clients take it."""
    if not text:
        return None
    found, separator, _ = _split(text).netloc.rpartition("@")
    user, _, password = found.partition(":")
    return f"{unquote(user)}:{unquote(password)}" if separator and found.strip(":") else None


def host_of(text: str) -> str:
    """The host of a URL, by one name for all of this machine's."""
    try:
        host = urlsplit(api_url(text)).hostname or ""
    except ConfigurationError:
        return "(not understood)"
    return "localhost" if host in _LOOPBACK else host


def by_one_name(url: str) -> str:
    """An API root with one name for this machine, which has several."""
    host = urlsplit(url).hostname or ""
    return url.replace(f"//{host}", "//127.0.0.1", 1).replace("//[::1]", "//127.0.0.1") if host in _LOOPBACK else url


def is_workspace(url: str) -> bool:
    """Whether an API root is that of a workspace, which self-hosted servers do not have."""
    return _WORKSPACE_PATH.fullmatch(urlsplit(url).path) is not None


def workspace_name(url: str) -> str:
    """Short name of what an API root serves: ``host:port``, or for Prefect Cloud the host and two short ids.

    Args:
        url: What ``api_url`` returns.
    """
    parts = urlsplit(url)
    prefix = parts.path
    ids: list[str] = []
    if match := _WORKSPACE_PATH.fullmatch(parts.path):
        prefix = match["prefix"]
        ids = [_short(match["account"]), _short(match["workspace"])]
    return "/".join([parts.netloc + prefix.removesuffix("/api"), *ids])


def _short(name: str) -> str:
    # the first block of both ids tells workspaces apart as well as the whole does, and fits a column
    return name[:8] if _UUID.fullmatch(name) else name
