"""What the warehouse already holds, so that a sync loads what changed and nothing else.

The source works without it: rows inside the lookback are then loaded again and merged, and runs that the server
deleted get no tombstone. Whoever runs the source in a pipeline of their own may pass an object of this protocol;
`prefect-runs` passes one that asks the destination.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from .chains import Place
from .windows import Window

Version = tuple[datetime, datetime | None]
"""`updated` of a run's row, and the time of its state (None where the row was torn)."""


class Stranger(NamedTuple):
    """A row of another workspace: its id, the workspace, and the URL of its server as far as it is known."""

    id: str
    workspace: str
    server_url: str | None


class Known(Protocol):
    """Answers about one workspace's rows in the destination; empty where a table does not exist.

    What has no tombstone is live. Any number of ids may be asked for at once.
    """

    def versions(self, table: str, since: datetime, open_from: datetime) -> Mapping[str, Version]:
        """Run id → version, of the live runs of `table` that changed or ended at `since` or later.

        And of those in flight that are expected at `open_from` or later: the older ones only become more. In flight is
        what has no end, and what its client began again after it ended.
        """
        ...

    def due(self, table: str, ended: Window, open_window: Window) -> set[str]:
        """Live runs that the reads of a sync bring if they are as the warehouse has them.

        That is: those that ended in `ended`, and those in flight (as in `versions`) that are expected in `open_window`.
        Also those expected after it that do not wait for their time, and those begun again, if any: no read brings
        them, and they are read by id.
        """
        ...

    def places(self, table: str, ids: Collection[str]) -> Mapping[str, Place]:
        """State id → where the state stands in its run, of those of `ids` that `table` (of states) has."""
        ...

    def last_numbers(self, table: str, run_ids: Collection[str]) -> Mapping[str, int]:
        """Run id → the highest number of its states that `table` (of states) has."""
        ...

    def were_in(self, table: str, run_ids: Collection[str], state_types: Collection[str]) -> set[str]:
        """Those of the runs of which `table` (of states) has a state of one of these types."""
        ...

    def present(self, table: str, ids: Collection[str]) -> set[str]:
        """Those of `ids` that `table` has."""
        ...

    def live_ids(self, table: str) -> set[str]:
        """The ids of all rows of `table` that have no tombstone; of small tables only."""
        ...

    def has_runs(self, table: str, window: Window) -> bool:
        """Whether `table` has any run expected in `window`, live or not."""
        ...

    def of_others(self, table: str, ids: Collection[str]) -> Stranger | None:
        """A row of `table` with one of `ids` that is another workspace's; None where there is none, as it should be."""
        ...

    def links(self, table: str, ids: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Run id → its links (`tables.LINKS`) that are not null: the server nulls them with what they lead to."""
        ...

    def task_runs_of(self, ids: Collection[str], buried: bool = False) -> set[str]:
        """The live task runs of the flow runs `ids`, or those that have a tombstone."""
        ...

    def tombstoned(self, table: str, ids: Collection[str]) -> set[str]:
        """Those of `ids` that have a tombstone."""
        ...

    def ends(self, table: str, ids: Collection[str]) -> Mapping[str, datetime | None]:
        """Run id → when it ended; of a task run, when its flow run ended, for retention goes by that."""
        ...
