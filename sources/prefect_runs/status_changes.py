"""What was in force of work pools and work queues, kept over time. Pure: no I/O, no clock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

from .paging import Row
from .progress import State

IN_FORCE = ("status", "is_paused", "concurrency_limit", "priority")
# enough to tell some thousand things apart, and short, for the pipeline state holds one of each
DIGEST_LENGTH = 12


def status_changes(pages: Iterable[list[Row]], state: State, id_column: str, seen_at: str) -> Iterator[list[Row]]:
    """The rows whose status, pause, limit or priority is not what it was when they were read last.

    Args:
        pages: all work pools, or all work queues.
        state: remembers how each was, as a digest.
        id_column: the column that takes the id.
        seen_at: the server's time.
    """
    before = set(state.get("statuses", ()))
    now: set[str] = set()
    for rows in pages:
        digests = [_digest(row) for row in rows]
        now.update(digests)
        pairs = zip(rows, digests, strict=True)
        yield [{**row, id_column: row["id"], "seen_at": seen_at} for row, digest in pairs if digest not in before]
    state["statuses"] = sorted(now)


def _digest(row: Row) -> str:
    told = json.dumps([row["id"], *(row.get(name) for name in IN_FORCE)])
    return hashlib.sha256(told.encode()).hexdigest()[:DIGEST_LENGTH]
