"""Places inside free-form JSON, as rules name them: `user.password`, `servers.*.token`, `labels."my.key"`. Pure.

A step is a key of an object, or `*`: any key, or an item of a list. Lists need no step of their own: a key is looked
for in every item, however deep lists are nested. In doubt less is loaded: keys are found in upper and lower case where
something is to go, and only as they are written where something is to stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

ANY = None
Path = tuple[str | None, ...]
"""Keys and `ANY`, from the column inwards; empty for the whole value."""

STEP = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')
STEPS = re.compile(rf"(?:{STEP.pattern})(?:\.(?:{STEP.pattern}))*")


def parsed(rule: str) -> Path:
    """The steps of a rule. A step with dots, quotes or a star of its own stands in double quotes.

    Raises:
        ValueError: a step is empty, or a quote is not closed.
    """
    if not STEPS.fullmatch(rule):
        raise ValueError(rule)
    return tuple(
        ANY if bare == "*" else bare or quoted.replace('""', '"')
        for quoted, bare in (step.groups(default="") for step in STEP.finditer(rule))
    )


def without(value: Any, paths: Collection[Path]) -> Any:
    """`value` less what `paths` lead to."""
    if not paths:
        return value
    if isinstance(value, dict):
        deeper = {key: _behind(key, paths) for key in value}
        return {key: without(inner, deeper[key]) for key, inner in value.items() if () not in deeper[key]}
    if isinstance(value, list):
        behind = _in_item(paths)
        return [] if () in behind else [without(item, behind) for item in value]
    return value


def replaced(value: Any, paths: Collection[Path], by: Callable[[Any], Any]) -> Any:
    """`value` with `by(…)` in place of what `paths` lead to."""
    if () in paths:
        return by(value)
    if not paths:
        return value
    if isinstance(value, dict):
        return {key: replaced(inner, _behind(key, paths), by) for key, inner in value.items()}
    if isinstance(value, list):
        behind = _in_item(paths)
        return [replaced(item, behind, by) for item in value]
    return value


def only(value: Any, paths: Collection[Path]) -> Any:
    """What `paths` lead to, with the objects and lists around it; None where `value` has nothing to look into."""
    if () in paths:
        return value
    if isinstance(value, dict):
        deeper = {key: [path[1:] for path in paths if path[0] in (ANY, key)] for key in value}
        return dict(_kept((key, inner, deeper[key]) for key, inner in value.items()))
    if isinstance(value, list):
        behind = [path[1:] if path[0] is ANY else path for path in paths]
        return [item for _, item in _kept((None, item, behind) for item in value)]
    return None


def _kept(parts: Iterator[tuple[Any, Any, Collection[Path]]]) -> Iterator[tuple[Any, Any]]:
    for key, inner, paths in parts:
        if () in paths:
            yield key, inner
        elif paths and isinstance(inner, dict | list):
            yield key, only(inner, paths)


def _behind(key: str, paths: Collection[Path]) -> list[Path]:
    """The rest of the paths that begin with `key`."""
    folded = key.casefold()
    return [path[1:] for path in paths if path and (path[0] is ANY or path[0].casefold() == folded)]


def _in_item(paths: Collection[Path]) -> list[Path]:
    """The paths as they go on in an item of a list: a star may mean the item, or a key in it."""
    return [*paths, *(path[1:] for path in paths if path and path[0] is ANY)]
