"""What is dropped, hashed or alone kept of rows, before anything of them leaves memory. Pure: no I/O, no clock.

Rules name columns, or places inside free-form JSON, by `[table.]column[.path.to.key]`; see `json_paths`. They hold for
whatever table has such a column, and for both names of one value: a run's `state_message` is its state's `message`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar

from dlt.common.configuration import configspec
from dlt.common.configuration.specs import BaseConfiguration
from dlt.common.typing import TSecretStrValue

from .exceptions import ConfigurationError
from .json_paths import Path, only, parsed, replaced, without
from .spelling import refuse_unknown
from .tables import ALL_TABLES, DEPLOYMENT_CHANGES, DEPLOYMENTS, OF_THE_STATE, RECORDS, TABLES, Column, Table

# a shorter one can be found by trying, and with it every hashed value that can be guessed
SHORTEST_SALT = 16

Change = Callable[[Any], Any]
Place = tuple[str, str]
"""Table and column."""
Places = Mapping[Place, set[Path]]
"""Columns with the paths inside them; the empty path is the column itself."""

OTHER_NAME: Mapping[Place, Place] = {**OF_THE_STATE, **{theirs: ours for ours, theirs in OF_THE_STATE.items()}}
# tables that rules are for, and their child tables: all but the connector's own records
RULED = {
    table.name: table
    for name, owner in TABLES.items()
    if name not in RECORDS
    for table in (owner, *owner.children.values())
}


@configspec
class PrivacyRules(BaseConfiguration):
    """What is not loaded as the server tells it; section ``[sources.prefect_runs.privacy]``."""

    __section__: ClassVar[str] = "privacy"

    drop: list[str] | None = None
    """Columns, and places in JSON columns, that are left out."""
    hash: list[str] | None = None
    """Those in place of which their HMAC-SHA256 is loaded: equal values stay equal."""
    keep: list[str] | None = None
    """Of a JSON column with a rule here only what the rules name is loaded; of a table with a rule for a whole column
    only the columns named, and those that syncs need. What is hashed is kept."""
    salt: TSecretStrValue | None = None
    """Key of the hashes, a secret: whoever has it can try values out."""

    def on_resolved(self) -> None:
        """Refuse rules that cannot be kept, and options that do not exist: what they are for would be loaded."""
        refuse_unknown(self)
        Privacy(self)


@dataclass(frozen=True)
class ColumnRules:
    """The rules for one table, compiled.

    Attributes:
        dropped: columns that are not loaded.
        changes: column → what makes the value to load of the server's; for a JSON column None is nothing at all.
        nothing: whether no column remains that could say anything.
    """

    dropped: frozenset[str] = frozenset()
    changes: Mapping[str, Change] = field(default_factory=dict)
    nothing: bool = False


class Privacy:
    """The rules, compiled.

    Raises:
        ConfigurationError: a rule names nothing that is loaded, or something that syncs need; or there is no salt.
    """

    def __init__(self, rules: PrivacyRules | None = None) -> None:
        rules = rules or PrivacyRules()
        self._rules = {"drop": rules.drop or [], "hash": rules.hash or [], "keep": rules.keep or []}
        self._salt = (rules.salt or "").encode()
        if self._rules["hash"] and len(self._salt) < SHORTEST_SALT:
            raise ConfigurationError(
                f"sources.prefect_runs.privacy.hash needs a salt of {SHORTEST_SALT} characters or more, and has "
                f"{f'one of {len(self._salt)}' if self._salt else 'none'}. Set sources.prefect_runs.privacy.salt in "
                ".dlt/secrets.toml, or SOURCES__PREFECT_RUNS__PRIVACY__SALT, to random text, and keep it: with another "
                "one the same values get other hashes."
            )
        keep = _places("keep", self._rules["keep"])
        self._listed = _listed(keep, self._rules["keep"])
        self._keep = _under_both_names(keep)
        self._hash = _under_both_names(_places("hash", self._rules["hash"]))
        drop = _places("drop", self._rules["drop"])
        for place in _left_out(self._listed, {*self._keep, *self._hash}):
            drop.setdefault(place, set()).add(())
        self._drop = _under_both_names(drop)

    def of(self, table: Table) -> ColumnRules:
        """The rules for `table`."""
        free = list(_free(table))
        dropped = frozenset(column.name for column in free if () in self._drop.get((table.name, column.name), ()))
        changes = {column.name: self._change(table, column) for column in free if column.name not in dropped}
        return ColumnRules(
            dropped, {name: change for name, change in changes.items() if change}, 0 < len(dropped) == len(free)
        )

    @property
    def fingerprint(self) -> str | None:
        """A short text that differs when the rules or the salt do; None without rules."""
        if not any(self._rules.values()):
            return None
        told = json.dumps({name: sorted(rules) for name, rules in self._rules.items()})
        return str(self._hashed(told))[:16]

    def _change(self, table: Table, column: Column) -> Change | None:
        place = table.name, column.name
        drop, hashed = self._drop.get(place, ()), self._hash.get(place, ())
        if column.type == "text":
            return self._hashed if hashed else None
        listed = {path for path in self._keep.get(place, ()) if path}
        narrowed = bool(listed) or (table.name in self._listed and place not in self._keep)
        if not (drop or hashed or narrowed):
            return None
        kept = {*listed, *hashed} if narrowed and () not in hashed else listed or {()}

        def change(value: Any) -> Any:
            left = without(only(value, kept), drop)
            # an object, for dlt writes a JSON column that is a text without its quotes
            return {"hash": self._hashed(left)} if () in hashed else replaced(left, hashed, self._hashed)

        return change

    def _hashed(self, value: Any) -> Any:
        """The hash of a text, or of the JSON of anything else; null stays null."""
        if value is None:
            return None
        told = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        return hmac.digest(self._salt, told.encode(errors="surrogatepass"), hashlib.sha256).hex()


def _free(table: Table) -> Iterator[Column]:
    """The columns that rules may take or change."""
    return (column for column in table.columns if table.why_needed(column) is None)


def _listed(keep: Places, rules: Iterable[str]) -> set[str]:
    """Tables of which only some columns are kept: those with a rule for a whole column, and their child tables.

    A child table that is named as a column of its table, such as `flow_runs.tags`, is one.
    """
    tables = {table for (table, _), paths in keep.items() if () in paths}
    for table, *steps in (parsed(str(rule).strip()) for rule in rules):
        if table in RULED and len(steps) == 1:
            tables.add(table)
    return tables | {child.name for table in tables for child in ALL_TABLES[table].children.values()}


def _left_out(listed: Collection[str], named: Collection[Place]) -> Iterator[Place]:
    """What no rule names in these tables."""
    for table in listed:
        places = ((table, column.name) for column in _free(ALL_TABLES[table]))
        yield from (place for place in places if place not in named)


def _under_both_names(places: Places) -> Places:
    both: dict[Place, set[Path]] = defaultdict(set)
    for place, paths in places.items():
        both[place] |= paths
        if place in OTHER_NAME:
            both[OTHER_NAME[place]] |= paths
    return dict(both)


def _places(option: str, rules: Iterable[str]) -> dict[Place, set[Path]]:
    """What the rules of one option name.

    Raises:
        ConfigurationError: a rule names nothing, or what the option cannot be used for.
    """
    places: dict[Place, set[Path]] = defaultdict(set)
    for rule in rules:
        try:
            steps = parsed(str(rule).strip())
        except ValueError:
            raise _refusal(
                option, rule, 'a step is empty, or a quote is not closed; write [table.]column[.path], "a.b" for a key'
            ) from None
        found = list(_found(option, steps))
        if not found:
            raise _refusal(option, rule, _what_is_not_there(steps))
        for table, column, path in found:
            if why_not := _why_not(option, table, column, path, named=steps[0] in RULED):
                raise _refusal(option, rule, why_not)
            places[table.name, column.name].add(path)
    return dict(places)


def _found(option: str, steps: Path) -> Iterator[tuple[Table, Column, Path]]:
    """The columns that a rule names, each with the path inside it."""
    if steps[0] in RULED:
        yield from _in(RULED[steps[0]], steps[1:])
    else:
        for table in RULED.values():
            yield from _in(table, steps)
        yield from _in_schedules_of_versions(option, steps)
        if steps in (("tags", "value"), ("value",)):
            # there they are in a column, and have no table of their own
            yield from _in(DEPLOYMENT_CHANGES, ("tags",))


def _in_schedules_of_versions(option: str, steps: Path) -> Iterator[tuple[Table, Column, Path]]:
    """The same inside the one column of `deployment_changes` that holds what is a child table of `deployments`."""
    [schedules] = (column for column in DEPLOYMENT_CHANGES.columns if column.name == "schedules")
    parts = DEPLOYMENTS.children["schedules"]
    for _, named, path in _in(parts, steps):
        yield DEPLOYMENT_CHANGES, schedules, (named.name, *path)
        if option == "keep":
            # what is beside the part that is narrowed stays, as the columns of the child table do
            others = (column for column in parts.columns if column.name != named.name)
            yield from ((DEPLOYMENT_CHANGES, schedules, (other.name,)) for other in others)


def _in(table: Table, steps: Path) -> Iterator[tuple[Table, Column, Path]]:
    if not steps:
        return
    name, path = steps[0], steps[1:]
    yield from ((table, column, path) for column in table.columns if column.name == name)
    if child := table.children.get(name or ""):
        yield from _in(child, path) if path else ((child, column, ()) for column in _free(child))


def _why_not(option: str, table: Table, column: Column, path: Path, named: bool) -> str | None:
    what = f"{table.name}.{column.name}"
    if path and column.type != "json":
        return f"{what} is of type {column.type}, and has nothing inside"
    if option == "keep":
        alone = "a column that is kept is named with its table, for nothing else of that table is loaded then"
        return None if path or named else f"{alone}: {what}"
    if needed := table.why_needed(column):
        other = "" if named else ". A rule without a table is for all that have the column: name the one that is meant"
        return f"{what} cannot be left out or hashed, for {needed}{other}"
    if option == "hash" and not path and column.type not in ("text", "json"):
        return f"{what} is of type {column.type}, which can hold no hash: drop it"
    return None


def _what_is_not_there(steps: Path) -> str:
    first, *rest = ("*" if step is None else step for step in steps)
    if first in RECORDS:
        return f"{first} tells what syncs did, and is loaded as it is"
    if first not in RULED:
        names = {name for table in RULED.values() for name in (table.name, *_names(table))}
        return f"no table or column that is loaded is called {first!r}{_near(first, names)}"
    if not rest:
        return f"{first} is a table: name its columns, or take only other resources"
    return f"{first} has no column {'.'.join(rest)!r} that is loaded{_near(rest[0], _names(RULED[first]))}"


def _names(table: Table) -> list[str]:
    return [*(column.name for column in table.columns), *table.children]


def _near(name: str, names: Collection[str]) -> str:
    near = get_close_matches(name.lower(), sorted(names), 3)
    return f"; there is {', '.join(near)}" if near else ""


def _refusal(option: str, rule: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"sources.prefect_runs.privacy.{option}: {rule!r}: {why}")
