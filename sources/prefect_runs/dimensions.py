"""The small tables: flows, deployments, work pools, work queues. Read whole at every sync.

A deployment's `updated` stands still when a schedule is added, and a queue's when it is polled, so nothing less
than reading them all is true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from urllib.parse import quote

from .client import PrefectClient
from .exceptions import NotFound
from .paging import Body, Listing, Row
from .read_ahead import batches

DIMENSIONS = ("flows", "deployments", "work_pools", "work_queues")

# orders without ties, for a tie may be in another order on the next page: a deployment's name is unique only within
# its flow. Work pools and queues have no order to ask for.
SORTS = {"flows": "NAME_ASC", "deployments": "CREATED_DESC"}

# times that a list is read in which rows changed places
TRIES = 3


def dimension(
    client: PrefectClient, name: str, known: Callable[[], Collection[str]] = frozenset
) -> Iterator[list[Row]]:
    """Pages of all rows of one dimension, those too that came to be in no page.

    Queues of several pools have one name, by which the server sorts them: in another order on each page.

    Args:
        known: ids that there may be; asked for where there was more than a page.
    """
    body: Body = {"sort": SORTS[name]} if name in SORTS else {}
    listing = _listing(client, f"/{name}/filter", body)
    yield from listing.pages()
    if listing.requests > 1:
        yield from listing.unseen(of_ids(client, name, set(known()) - listing.found))
    if name == "work_queues" and listing.lacks_rows:
        yield from listing.unseen(_default_queues(client))
    if name == "work_queues" and listing.lacks_rows:
        yield from listing.unseen(of_pools(client, "queues"))


def _default_queues(client: PrefectClient) -> Iterator[list[Row]]:
    """Pages of the queue that each pool has from the beginning, which have one name in all pools."""
    pools = chain.from_iterable(dimension(client, "work_pools"))
    return of_ids(client, "work_queues", {id_ for pool in pools if (id_ := pool.get("default_queue_id"))})


def of_pools(client: PrefectClient, what: str) -> Iterator[list[Row]]:
    """Pages of the workers or queues of one work pool after the other.

    Raises:
        NotFound: the server has no such thing.
    """
    missing: NotFound | None = None
    found = False
    for pool in chain.from_iterable(dimension(client, "work_pools")):
        try:
            yield from pages_of(client, f"/work_pools/{quote(pool['name'], safe='')}/{what}/filter")
            found = True
        except NotFound as error:
            # deleted since the pools were read, unless it is so with every pool
            missing = error
    if missing and not found:
        raise missing


def pages_of(client: PrefectClient, path: str, body: Body | None = None) -> Iterator[list[Row]]:
    """Pages of a list that can only be read by offset; read again where a row came to be in no page."""
    listing = _listing(client, path, body or {})
    for _ in range(TRIES):
        yield from listing.pages()
        if not listing.lacks_rows:
            return


def _listing(client: PrefectClient, path: str, body: Body) -> Listing:
    return Listing(lambda offset: client.page(path, {**body, "offset": offset}))


def of_ids(client: PrefectClient, name: str, ids: Iterable[str]) -> Iterator[list[Row]]:
    """Pages of the rows of one dimension that have these ids."""
    for batch in batches(sorted(ids), client.page_size):
        yield client.page(f"/{name}/filter", {name: {"id": {"any_": batch}}, "offset": 0}).rows
