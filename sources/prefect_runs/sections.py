"""Sections of the configuration that do not exist, and options in a section that is not theirs.

What is not known is refused only where it can be told from what dlt itself looks for there, such as `data_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import dlt
from dlt.common.configuration.specs import BaseConfiguration

from .credentials import PrefectCredentials
from .exceptions import ConfigurationError
from .privacy import PrivacyRules
from .settings import ReadSettings, RunFilters
from .spelling import SOURCE, WORKSPACES

SPECS: Mapping[str, type[BaseConfiguration]] = {
    "credentials": PrefectCredentials,
    "settings": ReadSettings,
    "filters": RunFilters,
    "privacy": PrivacyRules,
}
OPTIONS: Mapping[str, tuple[str, ...]] = {name: tuple(spec.get_resolvable_fields()) for name, spec in SPECS.items()}
"""Section → the options in it."""

# sections and options of the source, and of one workspace, which has its credentials beside its sections
OF_SOURCE = (*OPTIONS, "workspace", WORKSPACES)
OF_WORKSPACE = (*OPTIONS["credentials"], *(name for name in OPTIONS if name != "credentials"))

# how alike two names are that are taken for one: `privcy` and `privacy`, and not `flows` and `filters`
ALIKE = 0.75


def refuse_unknown_sections() -> None:
    """Refuse what is configured beside the sections and options that there are: it would be passed over in silence.

    Raises:
        ConfigurationError: naming the section or option, and what may be meant.
    """
    for place, name, value in (*_in_files(SOURCE), *_in_variables()):
        if name == "workspace" and isinstance(value, dict):
            raise _unknown(place, f"is {WORKSPACES}.NAME meant?")
        _refuse(place, name, OF_SOURCE)
    for place, name, _ in _in_files((*SOURCE, "credentials")):
        _refuse(place, name, OPTIONS["credentials"], strict=True)
    for _, workspace, section in _in_files((*SOURCE, WORKSPACES)):
        for place, name, _ in _in_files((*SOURCE, WORKSPACES, workspace)) if isinstance(section, dict) else ():
            _refuse(place, name, OF_WORKSPACE, strict=True)
    for place, _, _ in _in_files(("source", SOURCE[1])):
        raise _unknown(place, f"is {'.'.join(SOURCE)} meant?")


def _refuse(place: str, name: str, known: tuple[str, ...], strict: bool = False) -> None:
    """Refuse `name` where it is not among those known there: always, or where it may be taken for one of ours."""
    if name in known:
        return
    owner = next((section for section, options in OPTIONS.items() if name in options), None)
    if owner:
        raise _unknown(place, f"it belongs into the section {owner}.")
    close = get_close_matches(name, known, 1, ALIKE)
    if close or strict:
        raise _unknown(place, f"is {close[0]} meant?" if close else f"there are {', '.join(known)}.")


def _unknown(place: str, meant: str) -> ConfigurationError:
    return ConfigurationError(f"{place} is no option of this version: {meant}")


def _in_files(sections: tuple[str, ...]) -> Iterator[tuple[str, str, Any]]:
    """Place, name and value of what the configuration has in a section."""
    *above, section = sections
    for provider in dlt.config.config_providers:
        found, _ = provider.get_value(section, dict, "", *above)
        for name, value in found.items() if isinstance(found, dict) else ():
            yield ".".join((*sections, name)), name, value


def _in_variables() -> Iterator[tuple[str, str, Any]]:
    """The same of environment variables of the source."""
    beginning = "__".join((*SOURCE, "")).upper()
    for variable in os.environ:
        _, own, name = variable.partition(beginning)
        if own and variable.startswith(beginning):
            yield variable, name.partition("__")[0].lower(), None
