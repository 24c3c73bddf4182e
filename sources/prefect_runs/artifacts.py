"""Artifacts that are new or changed: the newest change first, for Prefect can sort by that and filter by no time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial

from .client import PrefectClient
from .clock import parse
from .paging import Row, overlapping, same_end


def changed_artifacts(client: PrefectClient, since: datetime | None) -> Iterator[list[Row]]:
    """Pages of the artifacts whose `updated` is `since` or later; all of them where it is None.

    An artifact that changes while they are read moves to the front; that change is later than the sync's ceiling.
    """
    pages = overlapping(
        lambda offset: client.page("/artifacts/filter", {"sort": "UPDATED_DESC", "offset": offset}),
        partial(same_end, column="updated"),
    )
    for rows in pages:
        yield [row for row in rows if since is None or parse(row["updated"]) >= since]
        if since is not None and parse(rows[-1]["updated"]) < since:
            return


def body(artifact: Row) -> str | None:
    """What an artifact holds, as text: most hold one, others JSON."""
    data = artifact.get("data")
    return data if data is None or isinstance(data, str) else json.dumps(data)
