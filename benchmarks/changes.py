"""Changes on a server, made as flows and people make them, through the API.

Half of the flow runs are new and run to their end, with task runs whose states are told by events, as Prefect's client
tells them; half had ended and are forced into another terminal state, which no filter of the API shows.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import requests

PAGE = 200
WRITERS = 4
TASK_RUN_STATES = ("PENDING", "RUNNING", "COMPLETED")
# until the server has written, or recorded, what it was told
PATIENCE_SECONDS = 300.0


class Changes:
    """Changes so many flow runs and task runs of the server at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()

    def make(self, flow_runs: int, task_runs: int) -> None:
        """Return when the server shows all of them."""
        before = self._count("/task_runs/count")
        ended = list(islice(self._ended(), flow_runs // 2))
        flow_id = self._post("/flows/filter", {"limit": 1})[0]["id"]
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(self._force, ended))
            new = list(pool.map(self._run, [flow_id] * (flow_runs - len(ended))))
        events = [
            event for number in range(task_runs) for event in _task_run_events(new[number % len(new)], uuid.uuid4())
        ]
        for start in range(0, len(events), PAGE):
            self._post("/events", events[start : start + PAGE])
        completed = {"task_runs": {"end_time": {"after_": _text(datetime.now(UTC) - timedelta(minutes=10))}}}
        self._until(lambda: self._count("/task_runs/count") >= before + task_runs)
        self._until(lambda: self._count("/task_runs/count", completed) >= task_runs)
        self._settle()

    def _ended(self) -> Iterator[str]:
        body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "END_TIME_DESC", "limit": PAGE}
        for offset in range(0, 10**9, PAGE):
            page = self._post("/flow_runs/filter", {**body, "offset": offset})
            if not page:
                return
            yield from (row["id"] for row in page)

    def _force(self, run_id: str) -> None:
        state = {"type": "FAILED", "name": "Failed", "message": "its result was wrong"}
        self._post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def _run(self, flow_id: str) -> str:
        state = {"type": "SCHEDULED", "name": "Scheduled"}
        run_id: str = self._post("/flow_runs/", {"flow_id": flow_id, "state": state})["id"]
        for type_ in TASK_RUN_STATES:
            self._post(f"/flow_runs/{run_id}/set_state", {"state": {"type": type_, "name": type_.title()}})
        return run_id

    def _settle(self) -> None:
        """Wait until the server has written the events that it was told, and those of its own."""
        since = _text(datetime.now(UTC) - timedelta(minutes=10))
        seen = -1
        while (total := self._post("/events/filter", {"filter": {"occurred": {"since": since}}})["total"]) != seen:
            seen = total
            time.sleep(6)

    def _until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not record the task runs that it was told of")
            time.sleep(0.5)

    def _count(self, path: str, body: dict[str, Any] | None = None) -> int:
        return int(self._post(path, body or {}))

    def _post(self, path: str, body: Any) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            reply = self._session.post(f"{self._url}{path}", json=body, timeout=PATIENCE_SECONDS)
            # SQLite has one writer, and says so
            if reply.status_code != 503 or time.monotonic() > deadline:
                break
            time.sleep(1)
        reply.raise_for_status()
        return reply.json() if reply.content else None


def _task_run_events(flow_run_id: str, task_run_id: uuid.UUID) -> Iterator[dict[str, Any]]:
    """A task run of three states, as the client tells of it."""
    began = datetime.now(UTC) - timedelta(seconds=3)
    before: tuple[str, str] | None = None
    for number, type_ in enumerate(TASK_RUN_STATES):
        at = _text(began + timedelta(seconds=number))
        event_id = str(uuid.uuid4())
        state = {"type": type_, "name": type_.title(), "message": "", "state_details": {"flow_run_id": flow_run_id}}
        task_run = {
            "name": f"extract-{str(task_run_id)[:3]}",
            "task_key": "extract-1a2b3c4d",
            "dynamic_key": str(task_run_id),
            "run_count": int(number > 0),
            "flow_run_run_count": 1,
            "expected_start_time": _text(began),
            "tags": [],
            **({"start_time": _text(began + timedelta(seconds=1))} if number else {}),
            **({"end_time": at, "total_run_time": 1.0} if number == 2 else {}),
        }
        yield {
            "id": event_id,
            "occurred": at,
            "event": f"prefect.task-run.{type_.title()}",
            "follows": before[0] if before else None,
            "resource": {
                "prefect.resource.id": f"prefect.task-run.{task_run_id}",
                "prefect.resource.name": task_run["name"],
                "prefect.run-count": str(task_run["run_count"]),
                "prefect.state-message": "",
                "prefect.state-name": state["name"],
                "prefect.state-timestamp": at,
                "prefect.state-type": type_,
                "prefect.orchestration": "client",
            },
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
            ],
            "payload": {
                "intended": {"from": before[1] if before else None, "to": type_},
                "initial_state": {"type": before[1], "name": before[1].title()} if before else None,
                "validated_state": {**state, "data": None},
                "task_run": task_run,
            },
        }
        before = event_id, type_


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
