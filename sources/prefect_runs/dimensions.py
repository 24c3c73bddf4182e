"""The small tables: flows, deployments, work pools, work queues. Read whole at every sync.

A deployment's `updated` stands still when a schedule is added, and a queue's when it is polled, so nothing less
than reading them all is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .client import PrefectClient
from .paging import Body, Row, overlapping
from .read_ahead import batches

DIMENSIONS = ("flows", "deployments", "work_pools", "work_queues")

# orders without ties, for a tie may be in another order on the next page: a deployment's name is unique only within
# its flow. Work pools and queues have no order to ask for.
SORTS = {"flows": "NAME_ASC", "deployments": "CREATED_DESC"}


def dimension(client: PrefectClient, name: str) -> Iterator[list[Row]]:
    """Pages of all rows of one dimension."""
    body: Body = {"sort": SORTS[name]} if name in SORTS else {}
    return overlapping(lambda offset: client.page(f"/{name}/filter", {**body, "offset": offset}))


def of_ids(client: PrefectClient, name: str, ids: Iterable[str]) -> Iterator[list[Row]]:
    """Pages of the rows of one dimension that have these ids."""
    for batch in batches(sorted(ids), client.page_size):
        yield client.page(f"/{name}/filter", {name: {"id": {"any_": batch}}, "offset": 0}).rows
