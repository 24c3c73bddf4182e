"""The connection settings that Prefect's own client would use here, read without importing Prefect.

Highest first: environment variables, ``.env``, ``prefect.toml``, ``[tool.prefect]`` of ``pyproject.toml``,
the active profile of ``profiles.toml``. This follows ``settings/sources.py`` and ``settings/base.py`` of
Prefect 3, except that a profile which does not exist and a broken ``profiles.toml`` are errors here: Prefect
warns, and then works with a private server of its own.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .exceptions import ConfigurationError

# where prefect.toml and [tool.prefect] keep each setting
TOML_KEYS = {
    "PREFECT_API_URL": ("api", "url"),
    "PREFECT_API_KEY": ("api", "key"),
    "PREFECT_API_AUTH_STRING": ("api", "auth_string"),
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": ("api", "tls_insecure_skip_verify"),
    "PREFECT_API_SSL_CERT_FILE": ("api", "ssl_cert_file"),
    "PREFECT_CLIENT_CUSTOM_HEADERS": ("client", "custom_headers"),
}

# prefect/settings/profiles.toml, as far as it says how to connect
BUILT_IN_PROFILES: Mapping[str, Mapping[str, object]] = {
    "cloud": {},
    "ephemeral": {},
    "local": {"PREFECT_API_URL": "http://127.0.0.1:4200/api"},
    "test": {},
}

# with any of these Prefect reads no profile, so that tests cannot reach a real server
TEST_MODES = (
    "PREFECT_TEST_MODE",
    "PREFECT_UNIT_TEST_MODE",
    "PREFECT_TESTING_UNIT_TEST_MODE",
    "PREFECT_TESTING_TEST_MODE",
)

# the words that pydantic takes for a bool; Prefect refuses the empty one, which compose files like to set
TRUE_WORDS = frozenset({"1", "on", "t", "true", "y", "yes"})
FALSE_WORDS = frozenset({"", "0", "off", "f", "false", "n", "no"})


@dataclass(frozen=True)
class PrefectSettings:
    """How Prefect's client would connect; ``None`` or empty is what nobody set. Its repr shows no secret."""

    # a URL can hold a user and a password, so it stays out of the repr too
    api_url: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_auth_string: str | None = field(default=None, repr=False)
    tls_insecure_skip_verify: bool = False
    ssl_cert_file: str | None = None
    custom_headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class _Layer:
    """The settings of one place by the name of their variable, and what an error calls that place."""

    place: str
    values: Mapping[str, object] = field(repr=False)


def read_prefect_settings(environ: Mapping[str, str], cwd: Path, home: Path) -> PrefectSettings:
    """The settings that Prefect's client would use with these variables, in this folder, for this user.

    Args:
        environ: Environment variables.
        cwd: The folder whose ``.env``, ``prefect.toml`` and ``pyproject.toml`` count.
        home: The user's home folder; ``.prefect`` in it is Prefect's unless ``PREFECT_HOME`` names another.

    Raises:
        ConfigurationError: A file or value cannot be understood, or the chosen profile does not exist.
    """
    layers = list(_layers(environ, cwd, home))
    return PrefectSettings(
        api_url=_text(layers, "PREFECT_API_URL"),
        api_key=_text(layers, "PREFECT_API_KEY"),
        api_auth_string=_text(layers, "PREFECT_API_AUTH_STRING"),
        tls_insecure_skip_verify=_flag(layers, "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"),
        ssl_cert_file=_text(layers, "PREFECT_API_SSL_CERT_FILE", environ.get("SSL_CERT_FILE")),
        custom_headers=_headers(layers, "PREFECT_CLIENT_CUSTOM_HEADERS"),
    )


def _layers(environ: Mapping[str, str], cwd: Path, home: Path) -> Iterator[_Layer]:
    """Every place that can hold settings, the one that wins first."""
    dotenv_path, toml_path, pyproject_path = cwd / ".env", cwd / "prefect.toml", cwd / "pyproject.toml"
    dotenv = _read_dotenv(dotenv_path, environ)
    toml = _read_toml(toml_path)
    pyproject = _table(_table(_read_toml(pyproject_path), "tool", pyproject_path), "prefect", pyproject_path)
    yield _Layer("the environment", _by_upper_name(environ))
    yield _Layer(str(dotenv_path), _by_upper_name(dotenv))
    yield _Layer(str(toml_path), _from_tables(toml, toml_path))
    yield _Layer(str(pyproject_path), _from_tables(pyproject, pyproject_path))
    if any(environ.get(mode) for mode in TEST_MODES):
        return
    named = (
        environ.get("PREFECT_PROFILES_PATH")
        or dotenv.get("PREFECT_PROFILES_PATH")
        or toml.get("profiles_path")
        or pyproject.get("profiles_path")
    )
    yield _active_profile(environ, cwd / str(named) if named else _usual_profiles_path(environ, cwd, home))


def _by_upper_name(values: Mapping[str, str | None]) -> dict[str, str | None]:
    # Prefect matches variables whatever their case
    return {name.upper(): value for name, value in values.items()}


def _usual_profiles_path(environ: Mapping[str, str], cwd: Path, home: Path) -> Path | None:
    """The profiles file of Prefect's home folder; ``None`` where Prefect falls back to its built-in file."""
    # only the variable counts: PREFECT_HOME in .env does not move the profiles, nor is a ~ in it expanded
    if prefect_home := environ.get("PREFECT_HOME"):
        return cwd / prefect_home / "profiles.toml"
    path = home / ".prefect" / "profiles.toml"
    return path if os.path.isfile(path) else None


def _active_profile(environ: Mapping[str, str], path: Path | None) -> _Layer:
    """The profile that ``PREFECT_PROFILE`` or the file's ``active`` names."""
    data = _read_toml(path) if path else {"profiles": BUILT_IN_PROFILES}
    place = path or Path("Prefect's built-in profiles.toml")
    profiles = _table(data, "profiles", place)
    name = str(environ.get("PREFECT_PROFILE") or data.get("active") or "")
    if name in profiles:
        return _Layer(f"profile {name!r} of {place}", _table(profiles, name, place))
    if name and name not in BUILT_IN_PROFILES:
        exist = ", ".join(sorted({*profiles, *BUILT_IN_PROFILES}))
        raise ConfigurationError(
            f"the Prefect profile {name!r} is not in {place}; profiles that exist: {exist}. "
            "Set PREFECT_PROFILE to one of them."
        )
    # Prefect gives every other name the built-in profile "ephemeral", which says nothing about a connection
    return _Layer(f"profile 'ephemeral' of {place}", {})


def _read_toml(path: Path) -> Mapping[str, object]:
    """The tables of a TOML file; none when there is no such file."""
    text = _read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # only the position: the rest of the message can quote a value
        position = re.search(r"at (line \d+, column \d+|end of document)", str(error))
    raise ConfigurationError(f"{path} is not valid TOML{f' ({position.group()})' if position else ''}")


def _read_text(path: Path) -> str:
    if not os.path.isfile(path):
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise ConfigurationError(f"{path} {problem}")


def _table(data: Mapping[str, object], name: str, path: Path) -> Mapping[str, object]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{name!r} in {path} is not a table")
    return table


def _from_tables(data: Mapping[str, object], path: Path) -> dict[str, object]:
    """The settings of ``[api]`` and ``[client]`` by the name of their variable."""
    return {name: _table(data, table, path).get(key) for name, (table, key) in TOML_KEYS.items()}


# python-dotenv's grammar; a quote that is not closed makes no variable
_DOTENV_LINE = re.compile(
    r"""
    ^[^\S\n]*(?:export[^\S\n]+)?
    (?:'(?P<quoted_name>[^'\n]+)'|(?P<name>[^='\#\s][^=\#\s]*))[^\S\n]*
    (?P<equals>=(?P<gap>[^\S\n]*)
        (?:'(?P<single>(?:\\.|[^'\\])*)'|"(?P<double>(?:\\.|[^"\\])*)"|(?P<plain>(?![^\S\n]*['"])[^\n]*))
    )?
    [^\S\n]*(?:\#[^\n]*)?$
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_DOTENV_ESCAPE = re.compile(r"\\[\\'\"abfnrtv]")
_DOTENV_VARIABLE = re.compile(r"\$\{(?P<name>[^}:]*)(?::-(?P<default>[^}]*))?\}")


def _read_dotenv(path: Path, environ: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of a ``.env`` file; a line that is none is passed over, as Prefect does."""
    values: dict[str, str | None] = {}
    for line in _DOTENV_LINE.finditer(_read_text(path).removeprefix("\ufeff")):
        name = line["quoted_name"] or line["name"]
        values[name] = _expanded(_unquoted(line), {**environ, **values}) if line["equals"] else None
    return values


def _unquoted(line: re.Match[str]) -> str:
    if line["single"] is not None:
        return re.sub(r"\\([\\'])", r"\1", line["single"])
    if line["double"] is not None:
        return _DOTENV_ESCAPE.sub(lambda found: codecs.decode(found[0], "unicode-escape"), line["double"])
    if line["gap"] and line["plain"].startswith("#"):
        return ""
    return re.sub(r"\s+#.*", "", line["plain"]).rstrip()


def _expanded(text: str, known: Mapping[str, str | None]) -> str:
    def value(variable: re.Match[str]) -> str:
        return known.get(variable["name"], variable["default"]) or ""

    return _DOTENV_VARIABLE.sub(value, text)


def _first(layers: Sequence[_Layer], name: str) -> tuple[object, str]:
    """The value that wins, and its place for an error message."""
    for layer in layers:
        if (value := layer.values.get(name)) is not None:
            return value, layer.place
    return None, ""


def _text(layers: Sequence[_Layer], name: str, default: str | None = None) -> str | None:
    value, place = _first(layers, name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} in {place} is not text: put it in quotes")
    return value


def _flag(layers: Sequence[_Layer], name: str) -> bool:
    value, place = _first(layers, name)
    word = "" if value is None else str(value).lower()
    if word in TRUE_WORDS | FALSE_WORDS:
        return word in TRUE_WORDS
    raise ConfigurationError(f"{name} in {place} is neither true nor false")


def _headers(layers: Sequence[_Layer], name: str) -> dict[str, str]:
    """The headers of all places together, for Prefect merges this setting instead of taking the first."""
    headers: dict[str, str] = {}
    for layer in reversed(layers):
        headers |= _header_object(layer.values.get(name), f"{name} in {layer.place}")
    return headers


def _header_object(value: object, where: str) -> dict[str, str]:
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        value = _json(value)
    if isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()):
        return dict(value)
    raise ConfigurationError(f'{where} is not a JSON object of texts such as {{"X-Team": "data"}}')


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        # the parser's error carries the whole text, which holds secrets; the caller names the setting instead
        return None
