"""What runs of the source share when one follows the other: the client, and what it reads ahead between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from threading import Semaphore

from .client import Patience, PrefectClient
from .credentials import Connection
from .event_buffer import EventBuffer
from .events import EventFeed
from .filters import body
from .histories import Histories
from .run_reader import RunKind, RunReader
from .settings import ReadSettings, RunFilters
from .snapshot import Snapshots
from .windows import Window


class Access:
    """One server's client, and what reads each kind of run and its events. To be used in a `with` block.

    Args:
        connection: where the server is.
        settings: connections, request ceiling, page size.
        patience: with slow replies and errors; by default what dlt's ``[runtime]`` section says.
        with_histories: whether state histories are read too, and fewer runs therefore held in memory.
    """

    def __init__(
        self,
        connection: Connection,
        settings: ReadSettings,
        patience: Patience | None = None,
        with_histories: bool = False,
    ) -> None:
        self.client = PrefectClient(
            connection, settings.connections, settings.requests_per_minute, settings.page_size, patience
        )
        self.requests_told = 0
        """Requests that runs of the source told of; what is read ahead between two of them, the later one tells."""
        self.lasts = False
        """Whether another run of the source may follow, which takes what is read ahead."""
        self.small_tables_read: dict[str, float] = {}
        """Small table → when a run of the source last read it, by this machine's monotonic clock."""
        self._with_histories = with_histories
        self._readers: dict[str, RunReader] = {}
        self._snapshots: dict[RunReader, Snapshots] = {}
        self._turns = Semaphore(self.client.connections)
        self._event_buffers: dict[RunKind, EventBuffer] = {}
        self._histories: dict[RunKind, Histories] = {}

    def reader(self, kind: RunKind, filters: RunFilters, version: str | None) -> RunReader:
        """The reader of one kind of run, with the user's filters, of a server of this version."""
        key = str(body(filters, kind.name, {})) + kind.name
        if key not in self._readers:
            self._readers[key] = RunReader(self.client, kind, filters, _numbers(version))
        return self._readers[key]

    def snapshots(self, reader: RunReader) -> Snapshots:
        """The snapshots of what `reader` reads."""
        if reader not in self._snapshots:
            self._snapshots[reader] = Snapshots(reader, self._turns, self._with_histories)
        return self._snapshots[reader]

    def event_buffer(self, kind: RunKind, kept: Callable[[], Window]) -> EventBuffer:
        """The events of one kind of run around windows; `kept` tells what the server has of them."""
        if kind not in self._event_buffers:
            feed = EventFeed(self.client, [f"{kind.resource_prefix}."])
            self._event_buffers[kind] = EventBuffer(feed, self.client.connections)
        buffer = self._event_buffers[kind]
        # of a first load that takes hours the last chunks want events that there were not at its begin
        buffer.kept = kept()
        return buffer

    def histories(self, kind: RunKind) -> Histories:
        """What fetches the histories of one kind of run."""
        if kind not in self._histories:
            self._histories[kind] = Histories(self.client, kind)
        return self._histories[kind]

    def __enter__(self) -> Access:
        self.lasts = True
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading ahead."""
        with ExitStack() as closing:
            # the last one first: most is under way there
            for snapshots in self._snapshots.values():
                closing.callback(snapshots.close)
            for buffer in self._event_buffers.values():
                closing.callback(buffer.close)
            for histories in self._histories.values():
                closing.callback(histories.close)


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """The version's leading numbers, to compare by; None (the newest is assumed) where there are none."""
    numbers = []
    for part in (version or "").split(".")[:3]:
        digits = re.match(r"\d+", part)
        if digits is None:
            break
        numbers.append(int(digits[0]))
    return tuple(numbers) or None
