"""Selected runs, read again into a target: what backfills and repairs are made of. The watermark stays where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect_runs import Selection
from prefect_runs.progress import progresses

from .target import Target


def reload(
    target: Target, selections: Mapping[str, Selection], resources: Sequence[str], trusting: bool = True
) -> Iterator[dict[str, Any]]:
    """Read selected runs again, with their states, in as many loads as it takes.

    Args:
        selections, trusting: see `Target.source`.
        resources: to read.

    Yields:
        The row of `syncs` of each load: `requests`, `gaps`, `finished_at`.
    """
    in_chunks = any(selection.window for selection in selections.values())
    with target.access() as access:
        while True:
            source = target.source(access, trusting, selections).with_resources(*resources, "tombstones", "syncs")
            load_id, _ = target.load(source)
            yield target.sync_row(load_id)
            # without a window there is nothing left to do, but an earlier backfill may be unfinished
            if not in_chunks or all(backfill["done"] for name, backfill in _backfills(target) if name in resources):
                break
    if in_chunks:
        _end_backfill(target, resources)


def unfinished_backfill(target: Target, resources: Sequence[str]) -> list[Any] | None:
    """What a backfill that did not come to its end was asked (start, end, newest first); None without one."""
    left = [backfill for name, backfill in _backfills(target) if name in resources]
    if left and all(backfill["done"] for backfill in left):
        # killed between its last load and the note of its end
        _end_backfill(target, resources)
        return None
    return next((backfill["asked"] for backfill in left if not backfill["done"]), None)


def _backfills(target: Target) -> list[tuple[str, dict[str, Any]]]:
    found = progresses(dict(target.pipeline.state))
    return [(name, progress["backfill"]) for name, progress in found if "backfill" in progress]


def _end_backfill(target: Target, resources: Sequence[str]) -> None:
    """Forget how far a backfill came, so that the same one can be made again."""
    with target.pipeline.managed_state() as state:
        for name, progress in progresses(dict(state)):
            if name in resources:
                progress.pop("backfill", None)
