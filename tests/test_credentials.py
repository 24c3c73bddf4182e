"""Where the server is and how it is reached: URLs, credentials, and Prefect's own settings."""

from __future__ import annotations

import base64
import json
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from dlt.common.configuration.resolve import resolve_configuration
from requests.auth import AuthBase

from prefect_runs import credentials as credentials_module
from prefect_runs.credentials import DEFAULT_URL, Connection, PrefectCredentials
from prefect_runs.exceptions import ConfigurationError
from prefect_runs.prefect_settings import BUILT_IN_PROFILES, TOML_KEYS, PrefectSettings, read_prefect_settings
from prefect_runs.urls import api_url, workspace_name
from prefect_runs_pipelines.local.server import server_python

ACCOUNT = "0fc4d3e1-7b2a-4c55-9d08-3a1b2c3d4e5f"
WORKSPACE = "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d"
CLOUD_URL = f"https://api.prefect.cloud/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}"
CLOUD_PAGE = f"https://app.prefect.cloud/account/{ACCOUNT}/workspace/{WORKSPACE}"
NOTHING = PrefectSettings()
SECRET = "hunter2-s3cr3t"
VARIABLES = frozenset(TOML_KEYS)


def basic(user_and_password: str) -> str:
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()


def sent_headers(connection: Connection) -> Mapping[str, str]:
    """What a request carries before the session adds its own; names match in any case."""
    return requests.Request("GET", connection.url, auth=connection.auth).prepare().headers


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings that are logged while the test runs."""
    logged: list[str] = []

    class Logger:
        warning = staticmethod(logged.append)

    monkeypatch.setattr(credentials_module, "logger", Logger)
    return logged


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        pytest.param(CLOUD_URL, CLOUD_URL, id="cloud API"),
        pytest.param(f"{CLOUD_URL}/", CLOUD_URL, id="cloud API with a slash"),
        pytest.param(f"{CLOUD_URL}/docs", CLOUD_URL, id="cloud API docs"),
        pytest.param(CLOUD_URL.replace("https", "http"), CLOUD_URL, id="cloud never in clear text"),
        pytest.param(CLOUD_PAGE, CLOUD_URL, id="cloud workspace page"),
        pytest.param(f"{CLOUD_PAGE}/runs/flow-run/1?tab=logs#x", CLOUD_URL, id="cloud run page"),
        pytest.param("http://host:4200", "http://host:4200/api", id="bare host"),
        pytest.param(" http://host:4200/ \n", "http://host:4200/api", id="bare host with slash and blanks"),
        pytest.param("http://host:4200/dashboard", "http://host:4200/api", id="dashboard"),
        pytest.param("http://host:4200/runs?state=x", "http://host:4200/api", id="runs page"),
        pytest.param("http://host:4200/flow-runs/flow-run/1", "http://host:4200/api", id="flow run page"),
        pytest.param("http://host:4200/deployments/deployment/1", "http://host:4200/api", id="deployment"),
        pytest.param("http://host:4200/work-pools/work-pool/a/queue/b", "http://host:4200/api", id="queue"),
        pytest.param("http://host:4200/api", "http://host:4200/api", id="API"),
        pytest.param("http://host:4200//api/", "http://host:4200/api", id="API with slashes"),
        pytest.param("http://host:4200/api/docs#/Flows", "http://host:4200/api", id="API docs"),
        pytest.param("http://host:4200/docs", "http://host:4200/api", id="docs at the root"),
        pytest.param("https://host/prefect/api", "https://host/prefect/api", id="path prefix"),
        pytest.param("https://host/prefect-api/v1/", "https://host/prefect-api/v1", id="API at a path of its own"),
        pytest.param("https://host/prefect/api/docs", "https://host/prefect/api", id="docs behind a prefix"),
        pytest.param("HTTPS://Host:443/api", "https://host/api", id="default port and capitals"),
        pytest.param("http://[::1]:4200/api", "http://[::1]:4200/api", id="IPv6"),
        pytest.param("https://u:p%40@host/api", "https://host/api", id="user info"),
        pytest.param(
            f"https://gate/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}/flows",
            f"https://gate/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}",
            id="cloud behind a proxy",
        ),
    ],
)
def test_a_url_of_the_api_or_a_page_means_the_api_root(given: str, meant: str) -> None:
    assert api_url(given) == meant


CLOUD_FORM = "https://api.prefect.cloud/api/accounts/<account id>/workspaces/<workspace id>"


@pytest.mark.parametrize(
    ("given", "proposed"),
    [
        pytest.param("https://app.prefect.cloud", CLOUD_FORM, id="cloud page without workspace"),
        pytest.param("https://api.prefect.cloud/api", CLOUD_FORM, id="cloud API without workspace"),
        pytest.param(f"https://app.prefect.cloud/account/{ACCOUNT}", CLOUD_FORM, id="cloud account alone"),
        pytest.param(
            "https://api.prefect.cloud/api/accounts/[ACCOUNT-ID]/workspaces/[WORKSPACE-ID]",
            CLOUD_FORM,
            id="documentation's placeholders",
        ),
        pytest.param("https://host/prefect/dashboard", "https://host/prefect/api", id="page behind a prefix"),
        pytest.param("http://host:4200/api/flows/filter", "http://host:4200/api", id="route"),
        pytest.param("localhost:4200/api", "http://localhost:4200/api", id="no scheme"),
        pytest.param("localhost:4200", "http://localhost:4200/api", id="no scheme, no path"),
        pytest.param(CLOUD_URL.removeprefix("https://"), CLOUD_URL, id="cloud without scheme"),
        pytest.param("ftp://host/api", "http:// or https://", id="another scheme"),
        pytest.param("http:///api", "with a host", id="no host"),
        pytest.param("http://my host/api", "with a host", id="blank in the host"),
        pytest.param("http://host:4200x/api", "valid port", id="port is no number"),
        pytest.param("http://[::1/api", "with a host", id="bracket left open"),
    ],
)
def test_a_url_that_means_no_api_is_refused_with_the_right_one(given: str, proposed: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        api_url(given)
    assert proposed in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://me:{SECRET}@host/prefect/dashboard", id="wrong path"),
        pytest.param(f"https://me:pa/{SECRET}@host/api", id="slash in the password"),
        pytest.param(f"https://me:pa#{SECRET}@host/api", id="hash in the password"),
        pytest.param(f"https://me:12#{SECRET}@host/api", id="password like a port"),
        pytest.param(f"https://me:12?{SECRET}@host/api", id="question mark in the password"),
        pytest.param(f"https://me:p@x/{SECRET}@host/api", id="at sign and slash in the password"),
        pytest.param(f"https://me:{SECRET}@@host:x/api", id="at sign in the password"),
        pytest.param(f"https:/me:{SECRET}@host/api", id="one slash"),
        pytest.param(f"me:{SECRET}@host/api", id="no scheme"),
        pytest.param(f"ftp://me:{SECRET}@host/api", id="another scheme"),
        pytest.param(f"https://host/prefect/runs?token={SECRET}", id="token in the query"),
        pytest.param(f"https://api.prefect.cloud/api?token={SECRET}", id="token in a cloud query"),
        pytest.param(SECRET, id="key in the URL's place"),
        pytest.param(f"pnu_{SECRET.replace('-', '')}.x:80", id="key with a port"),
        pytest.param(f"admin:{SECRET}", id="auth string in the URL's place"),
        pytest.param(f"{SECRET}:1234", id="secret with a number"),
        pytest.param(f"live.{SECRET}", id="key with a dot"),
        pytest.param(f"http://admin:{SECRET}", id="auth string behind a scheme"),
        pytest.param(f'{{"api_url": "http://host/api", "api_key": "{SECRET}"}}', id="all credentials as JSON"),
        pytest.param(f"http://host/dashboard api_key={SECRET}", id="two settings in one"),
    ],
)
def test_a_refused_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PrefectCredentials(api_url=url).connection(NOTHING)
    assert SECRET not in repr(refused.value)
    assert SECRET not in repr(PrefectCredentials(api_url=url))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        pytest.param("http://host:4200/api", "host:4200", id="port"),
        pytest.param("https://host/api", "host", id="default port"),
        pytest.param("https://host/team/prefect/api", "host/team/prefect", id="path prefix"),
        pytest.param(CLOUD_URL, "api.prefect.cloud/0fc4d3e1/9a8b7c6d", id="cloud"),
        pytest.param(
            "https://gate/eu/api/accounts/acme/workspaces/prod", "gate/eu/acme/prod", id="cloud behind a proxy"
        ),
    ],
)
def test_the_workspace_is_named_after_the_url(url: str, name: str) -> None:
    assert workspace_name(url) == name
    assert PrefectCredentials(api_url=url).connection(NOTHING).workspace == name


def test_without_any_setting_the_local_server_is_read_openly() -> None:
    connection = PrefectCredentials().connection(NOTHING)
    assert connection == Connection(DEFAULT_URL, None, {}, True, "127.0.0.1:4200")
    assert not connection.is_cloud


def test_placeholders_of_dlt_init_and_blanks_count_as_unset() -> None:
    blank = PrefectCredentials(
        api_url="<configure me>", api_key="<configure me>", auth_string=" ", ca_file="<configure me>"
    )
    assert blank.connection(NOTHING) == PrefectCredentials().connection(NOTHING)


@pytest.mark.parametrize(
    ("own", "prefect", "authorization"),
    [
        pytest.param({"api_key": "k"}, {}, "Bearer k", id="key"),
        pytest.param({"api_key": "k\n"}, {}, "Bearer k", id="key from a file"),
        pytest.param({"auth_string": "u:p \n"}, {}, basic("u:p "), id="auth string that ends in a blank"),
        pytest.param({"auth_string": "u:pä"}, {}, basic("u:pä"), id="auth string"),
        pytest.param({"api_key": "k", "auth_string": "u:p"}, {}, basic("u:p"), id="auth string beats key"),
        pytest.param({"api_url": "http://u%40:p%3A@h/api"}, {}, basic("u@:p:"), id="user info"),
        pytest.param({"api_url": "http://u@h/api"}, {}, basic("u:"), id="user info without password"),
        pytest.param({}, {"api_key": "k"}, "Bearer k", id="Prefect's key"),
        pytest.param({}, {"api_key": "k", "api_auth_string": "u:p"}, basic("u:p"), id="Prefect's auth string"),
        pytest.param({}, {"api_url": "http://u:p@h"}, basic("u:p"), id="Prefect's user info"),
        pytest.param({"api_key": "k"}, {"api_key": "other"}, "Bearer k", id="dlt's key beats Prefect's"),
        pytest.param({"api_key": "k"}, {"api_auth_string": "u:p"}, "Bearer k", id="dlt's key beats auth string"),
        pytest.param({"api_key": "<configure me>"}, {"api_key": "k"}, "Bearer k", id="placeholder is filled"),
        pytest.param({"api_url": "http://h/api"}, {"api_key": "k"}, "Bearer k", id="key of no URL is used"),
        pytest.param(
            {"api_key": "k", "custom_headers": {"authorization": "Token t"}}, {}, "Token t", id="custom header"
        ),
    ],
)
def test_authorization_is_dlts_before_prefects(
    own: dict[str, Any], prefect: dict[str, str], authorization: str
) -> None:
    connection = PrefectCredentials(**own).connection(PrefectSettings(**prefect))
    assert sent_headers(connection)["Authorization"] == authorization
    assert "@" not in connection.url


def test_credentials_of_one_server_are_not_sent_to_another(warnings: list[str]) -> None:
    prefect = PrefectSettings(CLOUD_URL, SECRET, custom_headers={"X-Token": SECRET}, tls_insecure_skip_verify=True)
    connection = PrefectCredentials(api_url="https://prefect.example.com/api").connection(prefect)
    assert connection.auth is None
    assert connection.verify is True
    assert "api.prefect.cloud" in warnings[0]
    assert SECRET not in warnings[0]


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        pytest.param(CLOUD_PAGE, "https://api.prefect.cloud/api/accounts/a/workspaces/b", id="cloud workspaces"),
        pytest.param("http://localhost:4201", "http://127.0.0.1:4200/api", id="names of this machine"),
    ],
)
def test_credentials_are_sent_to_another_url_of_their_host(own: str, theirs: str) -> None:
    connection = PrefectCredentials(api_url=own).connection(PrefectSettings(theirs, "k"))
    assert sent_headers(connection)["Authorization"] == "Bearer k"


def test_custom_headers_are_set_when_a_request_is_sent() -> None:
    connection = PrefectCredentials(custom_headers={"X-Gate": "open"}).connection(NOTHING)
    assert isinstance(connection.auth, AuthBase)
    assert sent_headers(connection) == {"X-Gate": "open"}
    assert connection.headers == {"X-Gate": "open"}


def test_dlts_custom_headers_stand_for_prefects() -> None:
    prefect = PrefectSettings(custom_headers={"X-Theirs": "1"})
    assert PrefectCredentials().connection(prefect).headers == {"X-Theirs": "1"}
    assert PrefectCredentials(custom_headers={"X-Own": "2"}).connection(prefect).headers == {"X-Own": "2"}
    assert PrefectCredentials(custom_headers={}).connection(prefect).auth is None


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "Prefect-Csrf-Token", "PREFECT-CSRF-CLIENT"])
def test_headers_that_prefects_client_refuses_are_ignored_with_a_warning(name: str, warnings: list[str]) -> None:
    connection = PrefectCredentials(custom_headers={name: SECRET, "X-Gate": "open"}).connection(NOTHING)
    assert connection.headers == {"X-Gate": "open"}
    assert name in warnings[0]
    assert SECRET not in warnings[0]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"api_key": f"{SECRET}\nX-Evil: 1"}, id="line break in the key"),
        pytest.param({"api_key": f"{SECRET}\u2013"}, id="dash that is not ASCII in the key"),
        pytest.param({"custom_headers": {"X-Gate": f"{SECRET}\r\nX-Evil: 1"}}, id="line break in a header"),
        pytest.param({"custom_headers": {"X-Gate": f"{SECRET}…"}}, id="sign that no header can hold"),
        pytest.param({"custom_headers": f'{{"X-Gate": "{SECRET}"}}'}, id="headers are a text"),
        pytest.param({"custom_headers": {"X-Gate": [SECRET]}}, id="header is no text"),
        pytest.param({"custom_headers": {f"{SECRET}: x": "1"}}, id="header's name is none"),
    ],
)
def test_what_no_header_can_hold_is_refused_without_showing_it(own: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        PrefectCredentials(**own).connection(NOTHING)
    assert SECRET not in repr(refused.value)


@pytest.mark.parametrize(
    ("own", "prefect", "verify"),
    [
        pytest.param({}, {}, True, id="checked by default"),
        pytest.param({"verify_tls": False}, {}, False, id="dlt skips"),
        pytest.param({}, {"tls_insecure_skip_verify": True}, False, id="Prefect skips"),
        pytest.param({"verify_tls": True}, {"tls_insecure_skip_verify": True}, True, id="dlt checks all the same"),
        pytest.param({"ca_file": "own.pem"}, {"tls_insecure_skip_verify": True}, "own.pem", id="dlt names a CA"),
        pytest.param({}, {"ssl_cert_file": "their.pem"}, "their.pem", id="Prefect's CA"),
        pytest.param({"ca_file": "own.pem"}, {"ssl_cert_file": "their.pem"}, "own.pem", id="dlt's CA wins"),
        pytest.param({"verify_tls": False, "ca_file": "own.pem"}, {}, False, id="skipping beats the CA"),
    ],
)
def test_certificates_are_checked_as_configured(
    own: dict[str, Any],
    prefect: dict[str, Any],
    verify: bool | str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.pem", "their.pem"):
        (tmp_path / name).touch()
    credentials = PrefectCredentials(api_url="https://host/api", **own)
    assert credentials.connection(PrefectSettings(**prefect)).verify == verify


def test_a_missing_certificate_file_is_named() -> None:
    credentials = PrefectCredentials(api_url="https://host/api", ca_file="/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca\.pem"):
        credentials.connection(NOTHING)


@pytest.mark.parametrize("key", ["api_key", "auth_string"])
def test_nothing_that_is_printed_holds_a_secret(key: str) -> None:
    own = {"api_url": f"https://u:{SECRET}@host/api", key: SECRET, "custom_headers": {"X-Gate": SECRET}}
    credentials = PrefectCredentials(**own)
    connection = credentials.connection(NOTHING)
    settings = PrefectSettings(own["api_url"], SECRET, SECRET, custom_headers={"X-Gate": SECRET})
    hidden = [SECRET, basic(f"u:{SECRET}").partition(" ")[2]]
    for thing in (credentials, connection, connection.auth, settings, connection.url, connection.workspace):
        for text in (repr(thing), str(thing), f"{thing}"):
            assert not any(secret in text for secret in hidden)
    assert "X-Gate" in repr(connection)


@pytest.fixture
def no_prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as cwd and home, and no variable of Prefect's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for name in [*VARIABLES, "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_HOME"]:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_dlt_resolves_empty_credentials_to_the_local_server(no_prefect: Path) -> None:
    assert resolve_configuration(PrefectCredentials()).connection().url == DEFAULT_URL


def test_dlts_variables_are_completed_from_prefects(no_prefect: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS__CUSTOM_HEADERS", '{"X-Gate": "open"}')
    monkeypatch.setenv("CREDENTIALS__VERIFY_TLS", "false")
    monkeypatch.setenv("PREFECT_API_URL", CLOUD_URL)
    (no_prefect / ".env").write_text("PREFECT_API_KEY=k")
    connection = resolve_configuration(PrefectCredentials()).connection()
    assert sent_headers(connection) == {"Authorization": "Bearer k", "X-Gate": "open"}
    assert (connection.url, connection.verify, connection.is_cloud) == (CLOUD_URL, False, True)


def test_a_url_alone_stands_for_the_credentials(no_prefect: Path) -> None:
    given = resolve_configuration(PrefectCredentials(), explicit_value="http://u:p@host:4200")
    assert given.connection().url == "http://host:4200/api"
    assert sent_headers(given.connection())["Authorization"] == basic("u:p")


@dataclass(frozen=True)
class Situation:
    """Variables and files that Prefect and this package both look at; `{cwd}` and `{home}` are filled in."""

    environ: dict[str, str] = field(default_factory=dict)
    cwd: dict[str, str] = field(default_factory=dict)
    home: dict[str, str] = field(default_factory=dict)


PROFILES = """
active = "prod"
[profiles.prod]
PREFECT_API_URL = "http://prod:4200/api"
PREFECT_API_KEY = "prod-key"
PREFECT_CLIENT_CUSTOM_HEADERS = '{"X-Prod": "1", "X-Both": "profile"}'
[profiles.dev]
PREFECT_API_URL = "http://dev:4200/api"
PREFECT_API_TLS_INSECURE_SKIP_VERIFY = true
prefect_api_key = "lower case does not count"
[profiles.text]
PREFECT_API_TLS_INSECURE_SKIP_VERIFY = "Yes"
PREFECT_API_SSL_CERT_FILE = "/text.pem"
"""
NO_ACTIVE = '[profiles.only]\nPREFECT_API_URL = "http://only/api"'
ELSEWHERE = 'active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://elsewhere/api"'
USUAL = {".prefect/profiles.toml": PROFILES}
DOTENV = r"""
# comment
export PREFECT_API_URL=http://dotenv/api # a comment
prefect_api_key = 'single \'quoted\' $x'
PREFECT_API_AUTH_STRING="double \"quoted\" \\ ${BASE}:${NOT_SET:-default}${NOT_SET}" # end
PREFECT_API_TLS_INSECURE_SKIP_VERIFY
PREFECT_API_SSL_CERT_FILE= # nothing
PREFECT_CLIENT_CUSTOM_HEADERS='{"X-Dotenv": "${PREFECT_API_URL}"}'
BROKEN='no end
"""
TOML = """
[api]
url = "http://toml/api"
tls_insecure_skip_verify = true
[client]
custom_headers = { X-Toml = "1" }
"""
PYPROJECT = """
[project]
name = "x"
[tool.prefect.api]
url = "http://pyproject/api"
key = "pyproject-key"
[tool.prefect.client]
custom_headers = '{"X-Pyproject": "1"}'
"""
EVERYTHING = {
    "PREFECT_API_URL": "http://environ/api",
    "PREFECT_API_KEY": "environ-key",
    "PREFECT_API_AUTH_STRING": "u:p",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "T",
    "PREFECT_API_SSL_CERT_FILE": "/environ.pem",
    "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Both": "environ", "User-Agent": "kept here"}',
}

SITUATIONS = {
    "nothing": Situation(),
    "environment": Situation(EVERYTHING),
    "environment in lower case": Situation({name.lower(): value for name, value in EVERYTHING.items()}),
    "environment beats files": Situation(EVERYTHING, {".env": DOTENV, "prefect.toml": TOML}, USUAL),
    "empty variables": Situation({"PREFECT_API_URL": "", "PREFECT_API_KEY": ""}, {}, USUAL),
    "server's auth string": Situation({"PREFECT_SERVER_API_AUTH_STRING": "u:p"}),
    ".env": Situation({"BASE": "base"}, {".env": DOTENV}, USUAL),
    ".env with a byte order mark": Situation({}, {".env": "\ufeffPREFECT_API_URL=http://bom/api\r\n"}),
    ".env over several lines": Situation({}, {".env": 'PREFECT_API_KEY="a\nPREFECT_API_URL=b"\nX=1'}),
    ".env with odd spacing": Situation(
        {}, {".env": "  PREFECT_API_KEY   =  a b#c #d\nPREFECT_API_URL=#e\n'PREFECT_API_AUTH_STRING'=f"}
    ),
    ".env twice": Situation({}, {".env": 'PREFECT_API_KEY=a\nPREFECT_API_KEY="b" junk\nprefect_api_key=c'}),
    "prefect.toml": Situation({}, {"prefect.toml": TOML, "pyproject.toml": PYPROJECT}, USUAL),
    "pyproject.toml": Situation({}, {"pyproject.toml": PYPROJECT}, USUAL),
    "pyproject.toml of another tool": Situation({}, {"pyproject.toml": "[tool.ruff]\nx = 1"}, USUAL),
    "active profile": Situation({}, {}, USUAL),
    "PREFECT_PROFILE": Situation({"PREFECT_PROFILE": "dev"}, {}, USUAL),
    "PREFECT_PROFILE with text for a flag": Situation({"PREFECT_PROFILE": "text"}, {}, USUAL),
    "PREFECT_PROFILE in .env does not count": Situation({}, {".env": "PREFECT_PROFILE=dev"}, USUAL),
    "empty PREFECT_PROFILE": Situation({"PREFECT_PROFILE": ""}, {}, USUAL),
    "no active profile": Situation({}, {}, {".prefect/profiles.toml": NO_ACTIVE}),
    "built-in profile without a file": Situation({"PREFECT_PROFILE": "local"}),
    "built-in profile beside a file": Situation({"PREFECT_PROFILE": "local"}, {}, USUAL),
    "built-in profile in an empty PREFECT_HOME": Situation(
        {"PREFECT_PROFILE": "local", "PREFECT_HOME": "{home}/else"}, {}, USUAL
    ),
    "PREFECT_HOME": Situation({"PREFECT_HOME": "{home}/else"}, {}, {**USUAL, "else/profiles.toml": ELSEWHERE}),
    "PREFECT_HOME in .env does not count": Situation(
        {}, {".env": "PREFECT_HOME={home}/else"}, {**USUAL, "else/profiles.toml": ELSEWHERE}
    ),
    "PREFECT_PROFILES_PATH": Situation({"PREFECT_PROFILES_PATH": "p.toml"}, {"p.toml": ELSEWHERE}, USUAL),
    "PREFECT_PROFILES_PATH of no file": Situation({"PREFECT_PROFILES_PATH": "p.toml"}, {}, USUAL),
    "PREFECT_PROFILES_PATH in .env": Situation(
        {}, {"p.toml": ELSEWHERE, ".env": "PREFECT_PROFILES_PATH=p.toml"}, USUAL
    ),
    "profiles_path in prefect.toml": Situation(
        {}, {"p.toml": ELSEWHERE, "prefect.toml": 'profiles_path = "p.toml"'}, USUAL
    ),
    "profiles_path in pyproject.toml": Situation(
        {}, {"p.toml": ELSEWHERE, "pyproject.toml": '[tool.prefect]\nprofiles_path = "p.toml"'}, USUAL
    ),
    "test mode": Situation({"PREFECT_TESTING_TEST_MODE": "1"}, {}, USUAL),
    "headers of every place": Situation(
        {"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Both": "environ"}'},
        {".env": DOTENV, "prefect.toml": TOML, "pyproject.toml": PYPROJECT},
        USUAL,
    ),
}

ASK_PREFECT = """
import json, os, sys
from pathlib import Path
from prefect.settings import Settings, get_current_settings, sources

def told(settings):
    secret = lambda value: None if value is None else value.get_secret_value()
    return {
        "api_url": settings.api.url,
        "api_key": secret(settings.api.key),
        "api_auth_string": secret(settings.api.auth_string),
        "tls_insecure_skip_verify": settings.api.tls_insecure_skip_verify,
        "ssl_cert_file": settings.api.ssl_cert_file,
        "custom_headers": settings.client.custom_headers,
    }

answers = [told(get_current_settings())]
for environ, cwd, home in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    # what the import of Prefect takes from the user's home
    sources.DEFAULT_PREFECT_HOME = Path(home) / ".prefect"
    answers.append(told(Settings()))
json.dump(answers, sys.stdout)
"""


def laid_out(situation: Situation, folder: Path) -> tuple[dict[str, str], Path, Path]:
    """The environment and the two folders of a situation, with its files in place."""
    cwd, home = folder / "cwd", folder / "home"
    places = {"{cwd}": str(cwd), "{home}": str(home)}

    def filled(text: str) -> str:
        for mark, path in places.items():
            text = text.replace(mark, path)
        return text

    for root, files in ((cwd, situation.cwd), (home, situation.home)):
        root.mkdir(parents=True)
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(filled(text), encoding="utf-8", newline="")
    return {name: filled(value) for name, value in situation.environ.items()}, cwd, home


def ask_prefect(
    environ: dict[str, str], cwd: Path, home: Path, others: list[Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What Prefect resolves in a process started so, and what it resolves after changing to each of the others."""
    answer = subprocess.run(
        [str(server_python()), "-W", "ignore", "-c", ASK_PREFECT],
        input=json.dumps(others, default=str),
        env={**environ, "HOME": str(home)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    first, *rest = json.loads(answer.stdout)
    return first, rest


Resolved = dict[str, tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Resolved:
    """For each situation, what this package and what Prefect itself reads; one Prefect process answers all."""
    places = [laid_out(each, tmp_path_factory.mktemp("situation")) for each in SITUATIONS.values()]
    empty = tmp_path_factory.mktemp("empty")
    _, theirs = ask_prefect({}, empty, empty, places)
    ours = [asdict(read_prefect_settings(*place)) for place in places]
    return dict(zip(SITUATIONS, zip(ours, theirs, strict=True), strict=True))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_settings_are_those_that_prefect_itself_reads(situation: str, resolved: Resolved) -> None:
    ours, theirs = resolved[situation]
    assert ours == theirs


def test_a_fresh_prefect_process_agrees_with_home_and_certificates(tmp_path: Path) -> None:
    environ, cwd, home = laid_out(Situation({"SSL_CERT_FILE": "/system.pem"}, {}, USUAL), tmp_path)
    theirs, _ = ask_prefect(environ, cwd, home, [])
    assert asdict(read_prefect_settings(environ, cwd, home)) == theirs
    assert (theirs["api_url"], theirs["ssl_cert_file"]) == ("http://prod:4200/api", "/system.pem")


def test_built_in_profiles_are_those_of_prefect() -> None:
    ask = (
        "import prefect.settings as s, pathlib; print(pathlib.Path(s.__file__).with_name('profiles.toml').read_text())"
    )
    text = subprocess.run([str(server_python()), "-c", ask], capture_output=True, text=True, check=True).stdout
    profiles = tomllib.loads(text)["profiles"]
    connecting = {
        name: {key: value for key, value in profile.items() if key in VARIABLES} for name, profile in profiles.items()
    }
    assert connecting == BUILT_IN_PROFILES


@pytest.mark.parametrize(
    ("situation", "named"),
    [
        pytest.param(Situation({"PREFECT_PROFILE": "prd"}, {}, USUAL), "dev, ephemeral", id="unknown profile"),
        pytest.param(
            Situation({}, {}, {".prefect/profiles.toml": 'active = "gone"'}), "'gone'", id="active profile is gone"
        ),
        pytest.param(Situation({"PREFECT_PROFILE": "prd"}), "ephemeral, local", id="unknown profile, no file"),
        pytest.param(
            Situation({}, {}, {".prefect/profiles.toml": f'[profiles.a]\nPREFECT_API_KEY = "{SECRET}'}),
            "profiles.toml is not valid TOML (",
            id="broken profiles.toml",
        ),
        pytest.param(
            Situation({}, {"prefect.toml": f"[api]\nkey = {SECRET}"}), "prefect.toml is not valid", id="prefect.toml"
        ),
        pytest.param(
            Situation({}, {"pyproject.toml": f"[tool.prefect.api]\nkey = {SECRET}"}),
            "pyproject.toml is not valid",
            id="pyproject.toml",
        ),
        pytest.param(Situation({}, {"prefect.toml": f'api = "{SECRET}"'}), "'api' in ", id="text where a table is due"),
        pytest.param(Situation({}, {"prefect.toml": "[api]\nurl = 1"}), "not text", id="number where text is due"),
        pytest.param(
            Situation({"PREFECT_CLIENT_CUSTOM_HEADERS": f'{{"X": "{SECRET}'}),
            "PREFECT_CLIENT_CUSTOM_HEADERS in the environment",
            id="broken JSON",
        ),
        pytest.param(
            Situation({}, {".env": f"""PREFECT_CLIENT_CUSTOM_HEADERS='["{SECRET}"]'"""}), ".env is not", id="list"
        ),
        pytest.param(
            Situation({"PREFECT_CLIENT_CUSTOM_HEADERS": '{"X": 1}'}), "JSON object of texts", id="number for a header"
        ),
        pytest.param(
            Situation({"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": SECRET}), "neither true nor false", id="no flag"
        ),
    ],
)
def test_settings_that_cannot_be_understood_are_refused_by_place(
    situation: Situation, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_prefect_settings(*laid_out(situation, tmp_path))
    assert named in str(refused.value)
    assert SECRET not in repr(refused.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PREFECT_API_KEY=\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"\.env is not UTF-8"):
        read_prefect_settings({}, tmp_path, tmp_path)
