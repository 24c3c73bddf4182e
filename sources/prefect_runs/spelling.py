"""Options that are configured and do not exist: a misspelt one would be passed over in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

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
            raise unknown(place, meant(name, fields) or f"there are {', '.join(fields)}.")


def meant(name: str, known: Sequence[str], alike: float = 0.6) -> str | None:
    """What is asked about a name that is none of those `known`; None where none of them is as much alike."""
    close = get_close_matches(name, known, 1, alike)
    return f"is {close[0]} meant?" if close else None


def unknown(place: str, advice: str) -> ConfigurationError:
    """The error about what is configured at `place`."""
    return ConfigurationError(f"{place} is no option of this version: {advice}")


def configured_in(*sections: str) -> Iterator[tuple[str, str, Any]]:
    """Place, name and value of what the configuration has in a section, but for environment variables."""
    *above, section = sections
    for provider in dlt.config.config_providers:
        found, _ = provider.get_value(section, dict, "", *above)
        for name, value in found.items() if isinstance(found, dict) else ():
            yield ".".join((*sections, name)), name, value


def _in_files(section: str) -> Iterator[tuple[str, str]]:
    names = [name for _, name, _ in configured_in(*SOURCE, WORKSPACES)]
    for sections in (SOURCE, *((*SOURCE, WORKSPACES, name) for name in names)):
        yield from ((place, name) for place, name, _ in configured_in(*sections, section))


def _in_variables(section: str) -> Iterator[tuple[str, str]]:
    common = "__".join((*SOURCE, section, "")).upper()
    of_workspace = "__".join((*SOURCE, WORKSPACES, "")).upper()
    for variable in os.environ:
        _, own, name = variable.partition(f"__{section.upper()}__" if variable.startswith(of_workspace) else common)
        if own:
            yield variable, name.partition("__")[0].lower()
