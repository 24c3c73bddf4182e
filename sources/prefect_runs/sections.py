"""Sections of the configuration that do not exist, and options in a section that is not theirs.

What is not known is refused only where it can be told from what dlt itself looks for there, such as `data_writer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from dlt.common.configuration.specs import BaseConfiguration

from .credentials import PrefectCredentials
from .privacy import PrivacyRules
from .settings import ReadSettings, RunFilters
from .spelling import SOURCE, WORKSPACES, configured_in, meant, unknown

SPECS: Mapping[str, type[BaseConfiguration]] = {
    "credentials": PrefectCredentials,
    "settings": ReadSettings,
    "filters": RunFilters,
    "privacy": PrivacyRules,
}
OPTIONS: Mapping[str, tuple[str, ...]] = {name: tuple(spec.get_resolvable_fields()) for name, spec in SPECS.items()}
"""Section → the options in it."""

# sections that the source and each workspace may have
COMMON = tuple(name for name in OPTIONS if name != "credentials")
# sections and options of the source, and of one workspace, which has its credentials beside its sections
OF_SOURCE = (*OPTIONS, "workspace", WORKSPACES)
OF_WORKSPACE = (*OPTIONS["credentials"], *COMMON)

# how alike two names are that are taken for one: `privcy` and `privacy`, and not `flows` and `filters`
ALIKE = 0.75


def refuse_unknown_sections() -> None:
    """Refuse what is configured beside the sections and options that there are: it would be passed over in silence.

    Raises:
        ConfigurationError: naming the section or option, and what may be meant.
    """
    for place, name, value in (*configured_in(*SOURCE), *_in_variables()):
        if name == "workspace" and isinstance(value, dict):
            raise unknown(place, f"is {WORKSPACES}.NAME meant?")
        _refuse(place, name, OF_SOURCE)
    for place, name, _ in configured_in(*SOURCE, "credentials"):
        _refuse(place, name, OPTIONS["credentials"], strict=True)
    for _, workspace, _ in configured_in(*SOURCE, WORKSPACES):
        for place, name, _ in configured_in(*SOURCE, WORKSPACES, workspace):
            _refuse(place, name, OF_WORKSPACE, strict=True)
    for place, _, _ in configured_in("source", SOURCE[1]):
        raise unknown(place, f"is {'.'.join(SOURCE)} meant?")


def _refuse(place: str, name: str, known: tuple[str, ...], strict: bool = False) -> None:
    """Refuse `name` where it is not among those known there: always, or where it may be taken for one of ours."""
    if name in known:
        return
    owner = next((section for section, options in OPTIONS.items() if name in options), None)
    advice = f"it belongs into the section {owner}." if owner else meant(name, known, ALIKE)
    if advice or strict:
        raise unknown(place, advice or f"there are {', '.join(known)}.")


def _in_variables() -> Iterator[tuple[str, str, Any]]:
    """Place, name and no value of the environment variables of the source."""
    beginning = "__".join((*SOURCE, "")).upper()
    for variable in os.environ:
        if variable.startswith(beginning):
            yield variable, variable.removeprefix(beginning).partition("__")[0].lower(), None
