"""State histories from the endpoint, which gives all states of one run at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .client import PrefectClient
from .clock import parse
from .paging import Row
from .read_ahead import read_ahead
from .run_reader import RunKind


def endpoint_histories(client: PrefectClient, kind: RunKind, run_ids: Iterable[str]) -> Iterator[tuple[str, list[Row]]]:
    """Each run's id with its states, oldest first, with their numbers: a request for each (`/…_run_states/`)."""

    def call(run_id: str) -> Callable[[], tuple[str, list[Row]]]:
        path, column = f"/{kind.one}_run_states/", kind.run_column

        def fetch() -> tuple[str, list[Row]]:
            states = client.rows(client.get(path, {column: run_id}), f"GET {path}")
            ordered = sorted(states, key=lambda state: parse(state["timestamp"]))
            return run_id, [{**state, "sequence": number} for number, state in enumerate(ordered, 1)]

        return fetch

    return read_ahead((call(run_id) for run_id in run_ids), client.connections)
