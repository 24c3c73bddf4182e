"""Options that are configured and do not exist: a misspelt one would be passed over in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches

import dlt
from dlt.common.configuration.specs import BaseConfiguration

from .exceptions import ConfigurationError

SOURCE = ("sources", "prefect_runs")
# sections of this name hold those of one workspace each
WORKSPACES = "workspaces"


def refuse_unknown(spec: BaseConfiguration) -> None:
    """Refuse what the configuration has in a section of `spec`, that of a workspace too, and `spec` has not.

    Raises:
        ConfigurationError: naming the option, and the one that may be meant.
    """
    fields = list(spec.get_resolvable_fields())
    for place, name in (*_in_files(str(spec.__section__)), *_in_variables(str(spec.__section__))):
        if name not in fields:
            close = get_close_matches(name, fields, 1)
            meant = f"is {close[0]} meant?" if close else f"there are {', '.join(fields)}."
            raise ConfigurationError(f"{place} is no option of this version: {meant}")


def _in_files(section: str) -> Iterator[tuple[str, str]]:
    for provider in dlt.config.config_providers:
        workspaces, _ = provider.get_value(WORKSPACES, dict, "", *SOURCE)
        names = list(workspaces) if isinstance(workspaces, dict) else []
        for sections in (SOURCE, *((*SOURCE, WORKSPACES, name) for name in names)):
            found, _ = provider.get_value(section, dict, "", *sections)
            for name in found if isinstance(found, dict) else ():
                yield ".".join((*sections, section, name)), name


def _in_variables(section: str) -> Iterator[tuple[str, str]]:
    common = "__".join((*SOURCE, section, "")).upper()
    of_workspace = "__".join((*SOURCE, WORKSPACES, "")).upper()
    for variable in os.environ:
        _, own, name = variable.partition(f"__{section.upper()}__" if variable.startswith(of_workspace) else common)
        if own:
            yield variable, name.partition("__")[0].lower()
