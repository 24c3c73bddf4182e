"""What one sync read and loaded, and what it knows to be missing: the row of `syncs`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from .clock import text
from .windows import Window


class Tally:
    """Counts of one run of the source."""

    def __init__(self) -> None:
        self.rows_read: Counter[str] = Counter()
        self.rows_loaded: Counter[str] = Counter()
        self._gaps: list[str] = []
        self.warnings: list[str] = []
        self.lost: Window | None = None
        """Span whose runs the server may have removed before they were read; None unless a sync came too late."""
        self._runs_kept: timedelta | None = None
        self.since: datetime | None = None
        """The earliest time since which changes were read; None for a first load."""
        self.ceiling: datetime | None = None
        """Up to when everything that has a watermark was read; None where nothing of that kind was."""

    def read(self, resource: str, rows: int) -> None:
        """Count rows received for `resource`."""
        self.rows_read[resource] += rows

    def loaded(self, resource: str, rows: int) -> None:
        """Count rows handed to dlt for `resource`."""
        self.rows_loaded[resource] += rows

    def reading(self, since: datetime | None, ceiling: datetime) -> None:
        """Note from when on and up to when changes are read."""
        if since is not None:
            self.since = min(since, self.since or since)
        self.ceiling = min(ceiling, self.ceiling or ceiling)

    def lose(self, span: Window, kept: timedelta) -> None:
        """Note that runs which ended in `span` may be gone, for the server keeps them no longer than `kept`."""
        before = self.lost or span
        self.lost = Window(min(before.start, span.start), max(before.end, span.end))
        self._runs_kept = kept

    def gap(self, what: str) -> None:
        """Note that something is known to be missing."""
        if what not in self._gaps:
            self._gaps.append(what)

    @property
    def gaps(self) -> list[str]:
        """What is known to be missing."""
        if self.lost is None or self._runs_kept is None:
            return list(self._gaps)
        lost = (
            f"runs that ended between {text(self.lost.start)} and {text(self.lost.end)} may be lost: the server keeps "
            f"them {self._runs_kept.days} days; what it still has was read"
        )
        return [lost, *self._gaps]

    def warn(self, what: str) -> None:
        """Note something that is not missing yet, and will be."""
        if what not in self.warnings:
            self.warnings.append(what)

    def resources(self) -> dict[str, dict[str, int]]:
        """Rows read and loaded per resource."""
        names = sorted(self.rows_read.keys() | self.rows_loaded.keys())
        return {name: {"read": self.rows_read[name], "loaded": self.rows_loaded[name]} for name in names}
