"""What the warehouse already holds, so that a sync loads what changed and nothing else.

The source works without it: rows inside the lookback are then loaded again and merged. Whoever runs the source
in a pipeline of their own may pass an object of this protocol; `prefect-runs` passes one that asks the destination.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

Version = tuple[datetime, datetime | None]
"""`updated` of a run's row, and the time of its state (None where the row was torn)."""


class Known(Protocol):
    """Answers about the destination's tables; empty where a table does not exist."""

    def versions(self, table: str, since: datetime) -> Mapping[str, Version]:
        """Run id → version, of the loaded rows of `table` that changed or ended at `since` or later, or are open."""
        ...

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """Those of `ids` that `table` has."""
        ...
