"""Pages that the server cannot write, read around the rows that it cannot write.

A flow run with an integer beyond 64 bits among its parameters makes every page of `/flow_runs/filter` that holds it
answer 500, while `GET /flow_runs/{id}` answers it. Rows that no route can write exist too.
"""

from __future__ import annotations

from dataclasses import replace

from .client import PrefectClient
from .exceptions import ConfigurationError, NotFound, ServerFailed
from .paging import Body, Page, Row

# runs that a sync goes on without, of each kind: more of them are a broken server and no odd rows
UNREADABLE_RUNS = 5
# the most that the list of ids gives at once
IDS = 1000
NO_RUN = "00000000-0000-0000-0000-000000000000"


class RunPages:
    """Reads pages of runs of one kind (`flow_runs` or `task_runs`), whatever is in them. Safe in several threads.

    Attributes:
        gaps: what could not be read, in words.
        unreadable: the ids of those runs, as far as they are known. The server has them.
    """

    def __init__(self, client: PrefectClient, table: str) -> None:
        self.gaps: list[str] = []
        self.unreadable: set[str] = set()
        self._client = client
        self._table = table
        self._path = f"/{table}/filter"

    def read(self, asked: Body, limit: int | None) -> Page:
        """The page that `asked` describes: all of its rows but those named in `gaps`.

        It may be shorter than `limit` and still be full, where there are more rows behind it.

        Raises:
            ServerUnavailable: the server answers no page, or cannot write more than a few of the rows.
        """
        limit = limit or self._client.page_size
        try:
            return self._client.page(self._path, asked, limit, once=True)
        except ServerFailed:
            # at once, for what is done about such a page is as good as trying again, and waits only where it must
            try:
                return self._around(asked, min(limit, self._client.page_size, IDS))
            except ServerFailed:
                return self._client.page(self._path, asked, limit)

    def _around(self, asked: Body, limit: int) -> Page:
        # a route that answers nothing at all is not asked row by row
        self._client.page(self._path, self._with_ids({}, [NO_RUN]), 1, once=True)
        ids = asked.get(self._table, {}).get("id", {}).get("any_", [])
        if ids and not asked["offset"] and len(ids) <= limit:
            return Page(self._by_ids(asked, ids), full=False)
        listed = self._ids(asked, limit)
        if listed is None:
            return self._prefix(asked, limit)
        rows = {row["id"]: row for row in self._by_ids(asked, listed)}
        full = len(listed) >= limit
        if full and not rows:
            raise ServerFailed(f"the server cannot write any of {len(listed)} {self._table}. Try again later.")
        return Page([rows[run_id] for run_id in listed if run_id in rows], full)

    def _ids(self, asked: Body, limit: int) -> list[str] | None:
        """The ids of the rows of a page, in their order; None where the server has no such list."""
        if self._table != "flow_runs":
            return None
        path = "/ui/flow_runs/history"
        try:
            reply = self._client.post(path, {**asked, "limit": limit})
        except ConfigurationError:
            # a part of the server's own user interface, which Prefect Cloud need not have
            return None
        return [row["id"] for row in self._client.rows(reply, f"POST {path}")]

    def _by_ids(self, asked: Body, ids: list[str]) -> list[Row]:
        """Those of `ids` that `asked` holds, by halves down to the one run that spoils the page."""
        try:
            return self._client.page(self._path, self._with_ids(asked, ids), len(ids), once=True).rows if ids else []
        except ServerFailed:
            if len(ids) == 1:
                return self._alone(asked, ids[0])
        middle = len(ids) // 2
        return self._by_ids(asked, ids[:middle]) + self._by_ids(asked, ids[middle:])

    def _alone(self, asked: Body, run_id: str) -> list[Row]:
        path = f"/{self._table}/{run_id}"
        # a run is found by its path whether or not it meets the conditions
        if run_id in self.unreadable or not self._client.post(f"/{self._table}/count", self._with_ids(asked, [run_id])):
            return []
        try:
            return self._client.rows([self._client.get(path)], f"GET {path}")
        except NotFound:
            # deleted meanwhile
            return []
        except ServerFailed as error:
            self._unreadable(run_id, f"run {run_id} is not loaded, for the server cannot write it ({error})")
            return []

    def _prefix(self, asked: Body, limit: int) -> Page:
        """As many rows from the front as come in one reply, without those in front that cannot be written.

        Nothing tells the ids of such rows here, so they are passed over by offset.
        """
        for passed in range(UNREADABLE_RUNS + 1):
            rest = {**asked, "offset": asked["offset"] + passed}
            size = limit
            while size:
                try:
                    page = self._client.page(self._path, rest, size, once=size > 1)
                except ServerFailed as error:
                    refused = error
                    size //= 2
                else:
                    if passed:
                        self.gaps.append(
                            f"{self._table}: the first {passed} of those that {asked} asks for are not loaded, for the "
                            f"server cannot write them ({refused})"
                        )
                    return replace(page, passed=passed)
        raise refused

    def _unreadable(self, run_id: str, what: str) -> None:
        self.unreadable.add(run_id)
        if len(self.unreadable) > UNREADABLE_RUNS:
            raise ServerFailed(f"the server cannot write {len(self.unreadable)} {self._table}. Try again later.")
        self.gaps.append(f"{self._table}: {what}")

    def _with_ids(self, asked: Body, ids: list[str]) -> Body:
        """`asked`, less its order, with the condition that the id is one of these."""
        conditions = {name: value for name, value in asked.items() if name not in ("sort", "offset", "limit")}
        return {**conditions, self._table: {**asked.get(self._table, {}), "id": {"any_": ids}}}
