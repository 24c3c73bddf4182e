"""What verify found: the runs that differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from .windows import Window

What = Literal["missing", "changed", "double", "without history", "incomplete history", "deleted", "aged_out"]


@dataclass(frozen=True, slots=True)
class Drift:
    """One run that differs; or, with no `run_id`, all `runs` of an interval of which the warehouse has none."""

    table: str
    interval: Window
    what: What
    run_id: str | None
    runs: int = 1
    on_server: str | None = None
    in_warehouse: str | None = None
    columns: tuple[str, ...] = ()
    since_last_sync: bool = False

    @property
    def matters(self) -> bool:
        """Whether it makes the copy not whole: neither what the next sync loads nor what the server aged out does."""
        return not self.since_last_sync and self.what != "aged_out"


@dataclass
class Verification:
    """What verify found of one table."""

    table: str
    window: Window
    server_runs: int = 0
    warehouse_runs: int = 0
    intervals: int = 0
    drifts: list[Drift] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    """Runs that the server could not give, in words."""

    @property
    def whole(self) -> bool:
        """Whether nothing differs but what the next sync loads."""
        return not self.gaps and not any(drift.matters for drift in self.drifts)


def one_each(drifts: Iterable[Drift]) -> list[Drift]:
    """Each run once: one that is missing here and gone there was only moved in the warehouse.

    What the next sync mends hides nothing that it does not.
    """
    by_run: dict[str, Drift] = {}
    rest = []
    for drift in drifts:
        if drift.run_id is None:
            rest.append(drift)
        elif drift.run_id not in by_run or _says_more(drift, by_run[drift.run_id]):
            by_run[drift.run_id] = drift
    return [*rest, *by_run.values()]


def _says_more(drift: Drift, than: Drift) -> bool:
    if drift.since_last_sync != than.since_last_sync:
        return than.since_last_sync
    return drift.what in ("missing", "changed")
