"""A Prefect server as the tests change it: through its API, as its own clients do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from prefect_runs.clock import from_http_date

Row = dict[str, Any]

# a server with SQLite waits for the lock of a busy database for a minute, and answers 503 then
PATIENCE_SECONDS = 150.0


class Refused(AssertionError):
    """The server answered something else than 2xx."""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class PrefectApi:
    """Makes and changes runs, and reads them back in the plainest way, independent of the code under test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._flows: dict[str, str] = {}

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """The JSON of a reply. A busy SQLite server answers 503 now and then: it is asked again."""
        for _ in range(20):
            reply = self._session.request(
                method, f"{self.url}{path}", json=body, params=params or None, timeout=PATIENCE_SECONDS
            )
            if reply.status_code != 503:
                break
            time.sleep(0.3)
        if not reply.ok:
            raise Refused(f"{method} {path} {body}: {reply.status_code} {reply.text[:500]}")
        return reply.json() if reply.content else None

    def outlive_its_second(self) -> None:
        """Wait until what happened so far is before the time that a sync takes: a `Date`, cut to whole seconds.

        The server renews that header about once a second, which a busy one does late.
        """
        begun = now()
        while from_http_date(self._session.get(f"{self.url}/admin/version").headers["Date"]) <= begun:
            time.sleep(0.1)

    def flow(self, name: str = "tested") -> str:
        """Id of the flow called `name`."""
        if name not in self._flows:
            self._flows[name] = self.call("POST", "/flows/", {"name": name})["id"]
        return self._flows[name]

    def flow_run(self, state: Row | str | None = "RUNNING", **fields: Any) -> str:
        """Id of a new flow run, made in `state`."""
        fields.setdefault("flow_id", self.flow())
        body = {"state": as_state(state), **fields} if state else fields
        return str(self.call("POST", "/flow_runs/", body)["id"])

    def task_run(self, state: Row | str | None = "RUNNING", **fields: Any) -> str:
        """Id of a new task run, made in `state`."""
        fields = {"task_key": "tested", "dynamic_key": uuid.uuid4().hex, **fields}
        body = {"state": as_state(state), **fields} if state else fields
        return str(self.call("POST", "/task_runs/", body)["id"])

    def set_flow_run(self, run_id: str, state: Row | str, force: bool = False) -> str:
        """Move a flow run to `state`; returns what the server made of it (ACCEPT, REJECT, …)."""
        status = self._set("flow_runs", run_id, state, force)
        if force:
            self.wait_for_event_of("flow_runs", run_id)
        return status

    def wait_for_event_of(self, kind: str, run_id: str) -> None:
        """Wait until the server shows the event of a run's present state."""
        self.wait_for_event(self.call("GET", f"/{kind}/{run_id}")["state_id"])

    def wait_for_event(self, state_id: str, seconds: float = 120) -> None:
        """Wait until the server shows the event of a state: it buffers them, for 5 seconds unless configured."""
        hour = timedelta(hours=1)
        occurred = {"since": (now() - hour).isoformat(), "until": (now() + hour).isoformat()}
        filter_ = {"id": {"id": [state_id]}, "occurred": occurred}
        deadline = time.monotonic() + seconds
        while not self.call("POST", "/events/filter", {"filter": filter_})["events"]:
            assert time.monotonic() < deadline, f"no event of state {state_id}"
            time.sleep(0.1)

    def set_task_run(self, run_id: str, state: Row | str, force: bool = False) -> str:
        """Move a task run to `state`."""
        return self._set("task_runs", run_id, state, force)

    def _set(self, kind: str, run_id: str, state: Row | str, force: bool) -> str:
        reply = self.call("POST", f"/{kind}/{run_id}/set_state", {"state": as_state(state), "force": force})
        return str(reply["status"])

    def complete_flow_run(self, run_id: str) -> None:
        """Take a new flow run through RUNNING to COMPLETED."""
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            self.set_flow_run(run_id, state)

    def runs(self, kind: str, since: datetime) -> list[Row]:
        """All runs of `kind` expected since then, on a server at rest."""
        own = {"expected_start_time": {"after_": since.isoformat()}}
        rows: dict[str, Row] = {}
        for page in self._pages(f"/{kind}/filter", {kind: own, "sort": "ID_DESC"}):
            rows.update((row["id"], row) for row in page)
        return list(rows.values())

    def _pages(self, path: str, body: Row) -> Iterator[list[Row]]:
        offset = 0
        while page := self.call("POST", path, {**body, "offset": offset}):
            yield page
            offset += len(page)

    def task_runs_of(self, flow_run_id: str) -> list[Row]:
        """The task runs of a flow run that the server has by now: it is told of them a moment after they began."""
        found: list[Row] = self.call("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
        return found

    def states(self, kind: str, run_id: str) -> list[Row]:
        """The state history of one run; `kind` is flow_runs or task_runs."""
        one = kind.removesuffix("_runs")
        states: list[Row] = self.call("GET", f"/{one}_run_states/", **{f"{one}_run_id": run_id})
        return states

    def wait(self, kind: str, run_id: str, state_name: str, seconds: float = 300) -> None:
        """Wait until a run is in the state of that name."""
        deadline = time.monotonic() + seconds
        while (row := self.call("GET", f"/{kind}/{run_id}"))["state_name"] != state_name:
            assert time.monotonic() < deadline, f"{kind} {run_id} is {row['state_name']}, not {state_name}"
            time.sleep(0.2)

    def wait_at_rest(self, since: datetime, seconds: float = 300) -> None:
        """Wait until no run expected since then changes: the server writes task runs after their flow ended."""
        deadline = time.monotonic() + seconds
        before = None
        while time.monotonic() < deadline:
            seen = [
                sorted((row["id"], row["updated"], row["state"] is None) for row in self.runs(kind, since))
                for kind in ("flow_runs", "task_runs")
            ]
            if seen == before:
                return
            before = seen
            # longer than the server's own buffering of task runs
            time.sleep(6)
        raise AssertionError("the server does not come to rest")


def as_state(state: Row | str | None) -> Row | None:
    """`"FAILED"` or `"FAILED/My name"` as the body of a state."""
    if isinstance(state, str):
        type_, _, name = state.partition("/")
        return {"type": type_, "name": name or type_.title()}
    return state


def scheduled(time_: datetime, name: str = "Scheduled") -> Row:
    """A SCHEDULED state for that time."""
    return {"type": "SCHEDULED", "name": name, "state_details": {"scheduled_time": time_.isoformat()}}


def seconds(number: float) -> timedelta:
    """A span in seconds."""
    return timedelta(seconds=number)
