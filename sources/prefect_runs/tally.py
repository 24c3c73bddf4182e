"""What one sync read and loaded, and what it knows to be missing: the row of `syncs`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from .windows import Window


class Tally:
    """Counts of one run of the source."""

    def __init__(self) -> None:
        self.rows_read: Counter[str] = Counter()
        self.rows_loaded: Counter[str] = Counter()
        self.gaps: list[str] = []
        self.warnings: list[str] = []
        self.lost: Window | None = None
        """Span whose runs the server may have removed before they were read; None unless a sync came too late."""
        self.since: datetime | None = None
        """The earliest time since which changes were read; None for a first load."""

    def read(self, resource: str, rows: int) -> None:
        """Count rows received for `resource`."""
        self.rows_read[resource] += rows

    def loaded(self, resource: str, rows: int) -> None:
        """Count rows handed to dlt for `resource`."""
        self.rows_loaded[resource] += rows

    def reading_since(self, since: datetime | None) -> None:
        """Note from when on changes are read."""
        if since is not None:
            self.since = min(since, self.since or since)

    def gap(self, what: str) -> None:
        """Note that something is known to be missing."""
        if what not in self.gaps:
            self.gaps.append(what)

    def warn(self, what: str) -> None:
        """Note something that is not missing yet, and will be."""
        if what not in self.warnings:
            self.warnings.append(what)

    def resources(self) -> dict[str, dict[str, int]]:
        """Rows read and loaded per resource."""
        names = sorted(self.rows_read.keys() | self.rows_loaded.keys())
        return {name: {"read": self.rows_read[name], "loaded": self.rows_loaded[name]} for name in names}
