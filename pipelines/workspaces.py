"""What is configured for a workspace: its server, settings and filters. Several have a section each.

`[sources.prefect_runs.workspaces.production]` holds what `PrefectCredentials` takes. Sections `settings`, `filters`
and `privacy` below it win over the common ones, by dlt's own rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import dlt
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException

from prefect_runs import ConfigurationError, PrefectCredentials, PrivacyRules, ReadSettings, RunFilters, spelling
from prefect_runs.credentials import Connection
from prefect_runs.exceptions import described
from prefect_runs.sections import COMMON, refuse_unknown_sections
from prefect_runs.spelling import SOURCE
from prefect_runs.urls import api_url, by_one_name

from .destination.failures import explained
from .options import SyncOptions

WORKSPACES = (*SOURCE, spelling.WORKSPACES)
# dlt's name of the variable with a workspace's URL
VARIABLE = re.compile(r"SOURCES__PREFECT_RUNS__WORKSPACES__(?P<name>.+)__API_URL")


@dataclass(frozen=True)
class Workspace:
    """One server or Cloud workspace, as it is configured; `name` goes into the column `workspace`."""

    name: str
    credentials: PrefectCredentials
    connection: Connection
    settings: ReadSettings
    filters: RunFilters
    privacy: PrivacyRules


def workspace_of(options: SyncOptions) -> Workspace:
    """The workspace that `options` are about: the configured one of that name, or the only server there is.

    Raises:
        ConfigurationError: several are configured, and none of them is named; or what is configured cannot be used.
    """
    refuse_unknown_sections()
    name = _named(options)
    sections = (*WORKSPACES, name) if name else SOURCE
    credentials = _credentials(name) if name else _resolved(PrefectCredentials(), SOURCE, api_url=options.api_url)
    connection = credentials.connection()
    return Workspace(
        name or options.workspace or _configured_name() or connection.workspace,
        credentials,
        connection,
        _resolved(ReadSettings(), sections, **options.settings),
        _resolved(RunFilters(), sections, start_date=options.start_date),
        _resolved(PrivacyRules(), sections),
    )


@explained()
def each_workspace(options: SyncOptions) -> list[SyncOptions] | None:
    """`options` for each configured workspace, or for those of them that `options` name, with commas between.

    None where they are about one server: none is configured, one is named, or a URL is given.

    Raises:
        ConfigurationError: as `configured`, or a name is not among them.
    """
    names = [] if options.api_url else configured()
    if not names or (options.workspace and "," not in options.workspace):
        return None
    asked = [name.strip() for name in options.workspace.split(",")] if options.workspace else names
    _check_known(asked, names)
    return [replace(options, workspace=name) for name in dict.fromkeys(asked)]


def any_workspace(options: SyncOptions) -> SyncOptions:
    """`options` about any of the workspaces that they are about, for what is done to the whole dataset."""
    several = each_workspace(options)
    return several[0] if several else options


def configured() -> list[str]:
    """The names of the configured workspaces, in alphabetical order; none where there is one server only.

    Raises:
        ConfigurationError: two of them have one name, or lead to one server.
    """
    names: dict[str, str] = {}
    for name in _names_in_files():
        if names.setdefault(name.lower(), name) != name:
            # environment variables could not tell them apart, and hardly a person
            raise ConfigurationError(f"the workspaces {names[name.lower()]} and {name} differ in capitals only")
    for variable in os.environ:
        if match := VARIABLE.fullmatch(variable):
            names.setdefault(match["name"].lower(), match["name"].lower())
    found = sorted(names.values())
    _check_servers(found)
    return found


def _configured_name() -> str | None:
    name: Any = dlt.config.get("sources.prefect_runs.workspace")
    if isinstance(name, str | None):
        return name
    raise ConfigurationError(f"sources.prefect_runs.workspace is {described(name)}, and no text")


def _named(options: SyncOptions) -> str | None:
    """The configured workspace that is meant; None for the only server there is."""
    names = [] if options.api_url else configured()
    if not names:
        if options.workspace and "," in options.workspace:
            raise ConfigurationError(
                f"--workspace {options.workspace} names several, and no workspaces are configured here: is this the "
                "folder with .dlt in it?"
            )
        return None
    if options.workspace is None:
        if len(names) > 1:
            raise ConfigurationError(f"this is about one workspace: name one of {', '.join(names)} (--workspace)")
        return names[0]
    _check_known([options.workspace], names)
    return options.workspace


def _check_known(asked: Iterable[str], names: list[str]) -> None:
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise ConfigurationError(f"no workspace {', '.join(unknown)} is configured; there are {', '.join(names)}")


def _names_in_files() -> Iterator[str]:
    for place, name, section in spelling.configured_in(*WORKSPACES):
        if not isinstance(section, dict):
            raise ConfigurationError(f"{place} is no section of its own with an api_url in it")
        if name not in COMMON:
            yield name


def _check_servers(names: list[str]) -> None:
    servers: dict[str, str] = {}
    for name in names:
        try:
            server = by_one_name(api_url(_credentials(name).api_url or ""))
        except (ConfigurationError, ConfigurationException):
            # one that cannot be used is told of when its turn comes, and stops no other
            continue
        if server in servers:
            raise ConfigurationError(
                f"the workspaces {servers[server]} and {name} are one server, {server}: remove one of them, for the "
                "same runs cannot be in a dataset under two names"
            )
        servers[server] = name


def _credentials(name: str) -> PrefectCredentials:
    """The credentials in a workspace's section. Those of `[sources.prefect_runs.credentials]` are another server's."""
    spec: Any = PrefectCredentials()
    spec.__section__ = name
    # not None, for dlt would then look for a text that stands for all fields, and take the section for one
    credentials: PrefectCredentials = resolve_configuration(spec, sections=WORKSPACES, explicit_value={})
    if not credentials.api_url:
        raise ConfigurationError(f"the workspace {name} has no api_url: set {'.'.join(WORKSPACES)}.{name}.api_url")
    return credentials


def _resolved(spec: Any, sections: tuple[str, ...], **given: Any) -> Any:
    """Configuration of `spec`: what is given here, else dlt's."""
    values = {key: value for key, value in given.items() if value is not None}
    return resolve_configuration(spec, sections=sections, explicit_value=values or None)
