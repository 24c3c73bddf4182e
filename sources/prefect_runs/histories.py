"""State histories from the endpoint, which gives all states of one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

from .client import PrefectClient
from .clock import parse
from .exceptions import ServerFailed, TemporaryError
from .paging import Row
from .read_ahead import read_ahead
from .rescue import UNREADABLE_RUNS
from .run_reader import RunKind

# histories that wait to be taken, or to be asked for while those before are shaped: more than half a second's worth
WAITING = 100
# those begun while rows are loaded: as many as a server gives meanwhile
BEGUN = 400

RunHistory = tuple[str, list[Row]]
"""A run's id and its states, oldest first, with their numbers."""


class Histories:
    """Fetches the histories of one kind of run: a request for each (`/…_run_states/`).

    Attributes:
        gaps: the histories that the server could not write, in words. They come without a state.
    """

    def __init__(self, client: PrefectClient, kind: RunKind) -> None:
        self._client = client
        self._kind = kind
        self.gaps: list[str] = []
        self._unreadable: set[str] = set()
        self._begun: dict[str, Future[RunHistory]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def of(self, run_ids: Iterable[str]) -> Iterator[RunHistory]:
        """Each run's history, in the order of the ids."""
        return read_ahead(map(self._call, run_ids), self._client.connections, WAITING)

    def begin(self, run_ids: Iterable[str]) -> None:
        """Begin to fetch the first `BEGUN` of those that `of` will be asked for next."""
        pool = self._pool = self._pool or ThreadPoolExecutor(self._client.connections, "prefect-begun")
        before = self._begun
        self._begun = {
            run_id: before.pop(run_id) if run_id in before else pool.submit(self._fetch, run_id)
            for run_id in islice(run_ids, BEGUN)
        }
        for not_wanted in before.values():
            not_wanted.cancel()

    def close(self) -> None:
        """Drop what was begun."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._begun, self._pool = {}, None

    def _call(self, run_id: str) -> Callable[[], RunHistory]:
        begun = self._begun.pop(run_id, None)
        # nobody waits for what has not been begun in earnest
        if begun is None or begun.cancel():
            return partial(self._fetch, run_id)

        def take() -> RunHistory:
            try:
                return begun.result()
            except TemporaryError:
                # the server may be back since
                return self._fetch(run_id)

        return take

    def _fetch(self, run_id: str) -> RunHistory:
        path = f"/{self._kind.one}_run_states/"
        try:
            states = self._client.rows(self._client.get(path, {self._kind.run_column: run_id}), f"GET {path}")
        except ServerFailed as error:
            self._unreadable.add(run_id)
            # more of them are a broken server
            if len(self._unreadable) > UNREADABLE_RUNS:
                raise
            self.gaps.append(
                f"{self._kind.states}: those of run {run_id} are not loaded, for the server cannot write them ({error})"
            )
            return run_id, []
        ordered = sorted(states, key=lambda state: parse(state["timestamp"]))
        return run_id, [{**state, "sequence": number} for number, state in enumerate(ordered, 1)]
