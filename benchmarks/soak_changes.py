"""Random changes of a server's runs through its API: every kind that the server allows, each written to a log."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect_api import PrefectApi, Refused, Row, as_state, now, scheduled, seconds
from requests import RequestException

TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
STATES = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", *TERMINAL)
# what an engine, a worker or a person does next with a run in that state
NEXT = {
    "SCHEDULED": ("PENDING", "PENDING", "CANCELLED"),
    "PENDING": ("RUNNING", "RUNNING", "CRASHED", "CANCELLED"),
    "RUNNING": ("COMPLETED", "COMPLETED", "FAILED", "CRASHED", "CANCELLING", "SCHEDULED/AwaitingRetry"),
    "PAUSED": ("FAILED", "CANCELLED"),
    "CANCELLING": ("CANCELLED", "CRASHED"),
}
HOUR = 3600.0


@dataclass(frozen=True)
class Change:
    """One change: when it was asked for and answered, and everything it was about; why it was `refused`."""

    number: int
    kind: str
    ids: tuple[str, ...]
    began: datetime
    ended: datetime
    calls: tuple[str, ...] = ()
    refused: str = ""

    @property
    def line(self) -> str:
        """The change as a line of JSON."""
        return json.dumps(asdict(self), default=str)

    def is_about(self, id_: str) -> bool:
        """Whether it touched what has this id."""
        return id_ in self.ids or any(id_ in call for call in self.calls)


class LoggedApi(PrefectApi):
    """Remembers what it was asked to change since somebody last looked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: list[str] = []

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """See `PrefectApi.call`."""
        if method == "GET" or path.endswith("/filter"):
            return super().call(method, path, body, **params)
        asked = f"{method} {path} {json.dumps(body)[:500]}"
        self.calls.append(asked)
        reply = super().call(method, path, body, **params)
        if isinstance(reply, dict):
            self.calls[-1] += f" -> {reply.get('status') or reply.get('id') or ''}"
        return reply


@dataclass
class Known:
    """What there is to be changed, by id, oldest first; what was deleted is left out."""

    flows: list[str] = field(default_factory=list)
    flow_runs: list[str] = field(default_factory=list)
    task_runs: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    idempotency_keys: list[str] = field(default_factory=list)


class Nothing(Exception):
    """There is nothing to be changed in this way yet."""


class Changes:
    """Makes changes, one after the other.

    Args:
        api: the server, past the faulty proxy.
        generator: makes every choice.
        log: a file for one line of JSON a change.
    """

    def __init__(self, api: LoggedApi, generator: random.Random, log: Path) -> None:
        self.api = api
        self.made: list[Change] = []
        self.errors: list[Exception] = []
        self._random = generator
        self._log = log.open("w")
        self._known = Known()
        self._kinds = self._weighted()

    @property
    def counts(self) -> Counter[str]:
        """Changes that the server accepted, by kind."""
        return Counter(change.kind for change in self.made if not change.refused)

    def until(self, stop: threading.Event) -> None:
        """Make changes until told to stop; what goes wrong is put into `errors`."""
        try:
            while not stop.is_set():
                self.one()
                # in bursts, as people and schedulers do
                stop.wait(self._random.choice((0, 0, 0, 0.05, 0.2, 0.8)))
        except Exception as error:  # noqa: BLE001 - raised by whoever joins the thread
            self.errors.append(error)

    def one(self) -> None:
        """Make one change of a random kind."""
        kinds, weights = zip(*self._kinds, strict=True)
        self._make(self._random.choices(kinds, weights)[0])

    def rest(self) -> None:
        """Let no schedule make or delete runs any more, so that the server comes to rest."""
        for _ in range(5):
            active = [row["id"] for row in self.api.call("POST", "/deployments/filter", {}) if not row["paused"]]
            for deployment in active:
                self._known.deployments = [deployment]
                self._make(self.pause_deployment)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _make(self, kind: Callable[[], Iterable[str]]) -> None:
        began, refused = now(), ""
        self.api.calls = []
        ids: Iterable[str] = ()
        try:
            ids = kind()
        except Nothing:
            return
        except (Refused, RequestException) as error:
            # a busy SQLite server lets a client wait for a minute now and then, and makes the change all the same
            refused = f"{type(error).__name__}: {error}"[:300]
        name = kind.__name__.replace("_", " ").strip()
        change = Change(len(self.made), name, tuple(ids), began, now(), tuple(self.api.calls), refused)
        self.made.append(change)
        print(change.line, file=self._log, flush=True)

    def _weighted(self) -> list[tuple[Callable[[], Iterable[str]], int]]:
        return [
            (self.new_flow, 1),
            (self.new_flow_run, 10),
            (self.new_flow_run_of_deployment, 3),
            (self.new_flow_runs_in_bulk, 1),
            (self.new_flow_run_far_ahead, 1),
            (self.same_idempotency_key, 2),
            (self.new_subflow_run, 3),
            (self.new_task_run, 10),
            (self.next_state, 22),
            (self.whole_life_at_once, 4),
            (self.retry_ended_run, 6),
            (self.terminal_to_terminal, 8),
            (self.any_state_by_force, 4),
            (self.states_in_bulk, 2),
            (self.pause, 4),
            (self.suspend, 2),
            (self.resume, 4),
            (self.cancel, 5),
            (self.crash, 3),
            (self.rename_flow_run, 2),
            (self.retag_flow_run, 2),
            (self.relabel_flow_run, 1),
            (self.edit_parameters, 2),
            (self.edit_infrastructure, 1),
            (self.delete_flow_run, 4),
            (self.delete_flow_runs_in_bulk, 1),
            (self.delete_parent, 1),
            (self.delete_flow, 1),
            (self.next_task_state, 12),
            (self.task_terminal_to_terminal, 4),
            (self.any_task_state_by_force, 3),
            (self.rename_task_run, 2),
            (self.delete_task_run, 4),
            (self.make_deleted_task_run_again, 1),
            (self.new_deployment, 2),
            (self.change_schedule, 3),
            (self.add_schedule, 1),
            (self.delete_schedule, 1),
            (self.pause_deployment, 1),
            (self.resume_deployment, 1),
            (self.edit_deployment, 1),
            (self.delete_deployment, 1),
            (self.new_queue, 1),
            (self.rename_queue, 1),
            (self.delete_queue, 1),
            (self.adopt, 6),
        ]

    # flow runs that are made

    def new_flow(self) -> Iterable[str]:
        """A flow."""
        return [self._new_flow()]

    def new_flow_run(self) -> Iterable[str]:
        """A flow run in any state, or in none of its own choice."""
        state = self._random.choice((None, "SCHEDULED", "PENDING", "RUNNING", "RUNNING", *TERMINAL))
        return [self._new_flow_run(self._scheduled_soon() if state == "SCHEDULED" else state)]

    def new_flow_run_far_ahead(self) -> Iterable[str]:
        """A flow run scheduled for a time that syncs do not read yet."""
        ahead = seconds(self._random.uniform(26, 60 * 24) * HOUR)
        return [self._new_flow_run(scheduled(now() + ahead))]

    def new_flow_run_of_deployment(self) -> Iterable[str]:
        """A flow run made from a deployment."""
        deployment = self._pick(self._known.deployments)
        run = self.api.call("POST", f"/deployments/{deployment}/create_flow_run", {"tags": self._tags()})
        return [self._note_flow_run(run["id"]), deployment]

    def new_flow_runs_in_bulk(self) -> Iterable[str]:
        """Some flow runs made from a deployment in one request."""
        deployment = self._pick(self._known.deployments)
        asked = [{"tags": self._tags()} for _ in range(self._random.randint(2, 5))]
        reply = self.api.call("POST", f"/deployments/{deployment}/create_flow_run/bulk", asked)
        # a busy SQLite server makes some of them
        return [self._note_flow_run(item["flow_run_id"]) for item in reply["results"] if item["flow_run_id"]]

    def same_idempotency_key(self) -> Iterable[str]:
        """A flow run asked for a second time, which makes none."""
        keys = self._known.idempotency_keys
        key = self._pick(keys) if keys and self._random.random() < 0.7 else self._word()
        keys.append(key)
        # keys are told apart by flow; the first one is never deleted
        flow_id = self._known.flows[0] if self._known.flows else self._new_flow()
        return [self._new_flow_run("PENDING", idempotency_key=key, flow_id=flow_id)]

    def new_subflow_run(self) -> Iterable[str]:
        """A flow run below a task run of another one."""
        parent = self._pick(self._known.flow_runs)
        wrapper = self._new_task_run(self._random.choice(("PENDING", "RUNNING")), flow_run_id=parent)
        return [self._new_flow_run("RUNNING", parent_task_run_id=wrapper), wrapper, parent]

    # states of flow runs

    def next_state(self) -> Iterable[str]:
        """An ordinary transition."""
        run_id = self._pick(self._known.flow_runs)
        present = self._flow_run(run_id)["state_type"] or "SCHEDULED"
        return [self._set(run_id, self._random.choice(NEXT.get(present, TERMINAL)))]

    def whole_life_at_once(self) -> Iterable[str]:
        """A run that a sync sees at its end only."""
        run_id = self._new_flow_run(self._scheduled_now())
        for state in ("PENDING", "RUNNING", self._random.choice(TERMINAL)):
            self._set(run_id, state)
        return [run_id]

    def retry_ended_run(self) -> Iterable[str]:
        """A run that ended is scheduled again, and sometimes runs at once."""
        run_id = self._ended_run()
        self._set(run_id, scheduled(now(), "AwaitingRetry"), force=True)
        for state in ("PENDING", "RUNNING", "COMPLETED")[: self._random.randint(0, 3)]:
            self._set(run_id, state)
        return [run_id]

    def terminal_to_terminal(self) -> Iterable[str]:
        """A run that ended is given another end, or the same once more."""
        state = self._random.choice([*TERMINAL, "COMPLETED/Fixed by hand", "FAILED/Looked at"])
        return [self._set(self._ended_run(), state, force=True)]

    def any_state_by_force(self) -> Iterable[str]:
        """Any state after any state."""
        return [self._set(self._pick(self._known.flow_runs), self._any_state(), force=True)]

    def states_in_bulk(self) -> Iterable[str]:
        """Some runs set to one state in one request."""
        ids = sorted({self._pick(self._known.flow_runs) for _ in range(self._random.randint(2, 6))})
        body = {"flow_runs": {"id": {"any_": ids}}, "state": as_state(self._any_state()), "force": True}
        self.api.call("POST", "/flow_runs/bulk_set_state", body)
        return ids

    def pause(self) -> Iterable[str]:
        """A run waits for a while, at whose end the server fails it, or for longer than the soak."""
        return [self._paused("Paused", reschedule=False)]

    def suspend(self) -> Iterable[str]:
        """The same for a run that leaves its process meanwhile."""
        return [self._paused("Suspended", reschedule=True)]

    def resume(self) -> Iterable[str]:
        """A run that waits goes on."""
        run_id = self._one_in("PAUSED")
        self.api.call("POST", f"/flow_runs/{run_id}/resume", {})
        return [run_id]

    def cancel(self) -> Iterable[str]:
        """A run is cancelled where it stands: scheduled, waiting, running."""
        run_id = self._one_in("SCHEDULED", "PENDING", "RUNNING", "PAUSED")
        return [self._set(run_id, self._random.choice(("CANCELLING", "CANCELLED")), force=self._random.random() < 0.5)]

    def crash(self) -> Iterable[str]:
        """A run crashes where it stands."""
        return [self._set(self._one_in("PENDING", "RUNNING"), "CRASHED", force=self._random.random() < 0.5)]

    # edits of flow runs

    def rename_flow_run(self) -> Iterable[str]:
        """Another name."""
        return self._edit(name=self._word())

    def retag_flow_run(self) -> Iterable[str]:
        """Other tags."""
        return self._edit(tags=self._tags())

    def edit_parameters(self) -> Iterable[str]:
        """Other parameters."""
        return self._edit(parameters=self._parameters())

    def edit_infrastructure(self) -> Iterable[str]:
        """What a worker tells of its process."""
        return self._edit(infrastructure_pid=self._word(), flow_version=self._word())

    def relabel_flow_run(self) -> Iterable[str]:
        """Other labels."""
        run_id = self._pick(self._known.flow_runs)
        self.api.call("PATCH", f"/flow_runs/{run_id}/labels", {self._word(): self._word()})
        return [run_id]

    # flow runs that are deleted

    def delete_flow_run(self) -> Iterable[str]:
        """A run, its task runs and states with it."""
        run_id = self._pick(self._known.flow_runs)
        self._delete_flow_run(run_id)
        return [run_id]

    def delete_flow_runs_in_bulk(self) -> Iterable[str]:
        """Some runs in one request."""
        ids = sorted({self._pick(self._known.flow_runs) for _ in range(self._random.randint(2, 4))})
        body = {"flow_runs": {"id": {"any_": ids}}}
        deleted = self.api.call("POST", "/flow_runs/bulk_delete", body)["deleted"]
        self._known.flow_runs = [id_ for id_ in self._known.flow_runs if id_ not in deleted]
        return ids

    def delete_parent(self) -> Iterable[str]:
        """The parent of a subflow run, which stays."""
        asked = {"flow_runs": {"parent_task_run_id": {"is_null_": False}}, "sort": "ID_DESC", "limit": 50}
        found = self.api.call("POST", "/flow_runs/filter", asked)
        if not found:
            raise Nothing
        child = self._random.choice(found)
        parent = self.api.call("GET", f"/task_runs/{child['parent_task_run_id']}")["flow_run_id"]
        if parent is None:
            raise Nothing
        self._delete_flow_run(parent)
        return [parent, child["parent_task_run_id"], child["id"]]

    def delete_flow(self) -> Iterable[str]:
        """A flow with all its runs and deployments."""
        if len(self._known.flows) < 4 or self._random.random() < 0.5:
            raise Nothing
        flow_id = self._random.choice(self._known.flows[1:])
        self.api.call("DELETE", f"/flows/{flow_id}")
        self._known.flows.remove(flow_id)
        return [flow_id]

    # task runs

    def new_task_run(self) -> Iterable[str]:
        """A task run in any state, of a flow run or of none."""
        state = self._random.choice((None, "PENDING", "RUNNING", "RUNNING", *TERMINAL))
        parent = self._pick(self._known.flow_runs) if self._random.random() < 0.8 else None
        return [self._new_task_run(state, flow_run_id=parent, tags=self._tags()), *([parent] if parent else [])]

    def next_task_state(self) -> Iterable[str]:
        """An ordinary transition, set through the API: no event tells of it."""
        run_id = self._pick(self._known.task_runs)
        present = self._task_run(run_id)["state_type"] or "PENDING"
        return [self._set_task(run_id, self._random.choice(NEXT.get(present, TERMINAL)))]

    def task_terminal_to_terminal(self) -> Iterable[str]:
        """A task run that ended is given another end, and no event tells of it."""
        run_id = self._pick(self._known.task_runs)
        if self._task_run(run_id)["state_type"] not in TERMINAL:
            raise Nothing
        return [self._set_task(run_id, self._random.choice(TERMINAL), force=True)]

    def any_task_state_by_force(self) -> Iterable[str]:
        """Any state after any state."""
        return [self._set_task(self._pick(self._known.task_runs), self._any_state(), force=True)]

    def rename_task_run(self) -> Iterable[str]:
        """Another name."""
        run_id = self._pick(self._known.task_runs)
        self.api.call("PATCH", f"/task_runs/{run_id}", {"name": self._word()})
        return [run_id]

    def delete_task_run(self) -> Iterable[str]:
        """A task run alone."""
        run_id = self._pick(self._known.task_runs)
        self._delete_task_run(run_id)
        return [run_id]

    def make_deleted_task_run_again(self) -> Iterable[str]:
        """The client chooses the ids of task runs: one that was deleted comes back."""
        run_id = self._pick(self._known.task_runs)
        row = self._task_run(run_id)
        self._delete_task_run(run_id)
        again = {name: row[name] for name in ("name", "flow_run_id", "task_key", "dynamic_key")}
        self.api.task_run(self._random.choice(("PENDING", "COMPLETED")), id=run_id, **again)
        self._known.task_runs.append(run_id)
        return [run_id]

    # what runs belong to

    def new_deployment(self) -> Iterable[str]:
        """A deployment, mostly with a schedule."""
        body: Row = {"flow_id": self._flow(), "name": self._word(), "parameters": self._parameters()}
        if self._random.random() < 0.8:
            body["schedules"] = [self._schedule()]
        if self._known.queues and self._random.random() < 0.6:
            body.update(self._in_queue())
        deployment = str(self.api.call("POST", "/deployments/", body)["id"])
        self._known.deployments.append(deployment)
        return [deployment]

    def change_schedule(self) -> Iterable[str]:
        """Another schedule: the server deletes the runs that the old one made."""
        deployment, schedule = self._one_schedule()
        self.api.call("PATCH", f"/deployments/{deployment}/schedules/{schedule}", self._schedule())
        return [deployment]

    def add_schedule(self) -> Iterable[str]:
        """One schedule more."""
        deployment = self._pick(self._known.deployments)
        self.api.call("POST", f"/deployments/{deployment}/schedules", [self._schedule()])
        return [deployment]

    def delete_schedule(self) -> Iterable[str]:
        """One schedule less, and its runs."""
        deployment, schedule = self._one_schedule()
        self.api.call("DELETE", f"/deployments/{deployment}/schedules/{schedule}")
        return [deployment]

    def pause_deployment(self) -> Iterable[str]:
        """No more runs, and those that wait are deleted."""
        deployment = self._pick(self._known.deployments)
        self.api.call("POST", f"/deployments/{deployment}/pause_deployment")
        return [deployment]

    def resume_deployment(self) -> Iterable[str]:
        """Its schedules make runs again."""
        deployment = self._pick(self._known.deployments)
        self.api.call("POST", f"/deployments/{deployment}/resume_deployment")
        return [deployment]

    def edit_deployment(self) -> Iterable[str]:
        """Other parameters and tags, for which the runs that wait are made anew."""
        deployment = self._pick(self._known.deployments)
        body = {"parameters": self._parameters(), "tags": self._tags(), "version": self._word()}
        self.api.call("PATCH", f"/deployments/{deployment}", body)
        return [deployment]

    def delete_deployment(self) -> Iterable[str]:
        """A deployment, with the runs that wait."""
        deployment = self._pick(self._known.deployments)
        self.api.call("DELETE", f"/deployments/{deployment}")
        self._known.deployments.remove(deployment)
        return [deployment]

    def new_queue(self) -> Iterable[str]:
        """A work queue, in a pool that is made for the first one."""
        if not self._known.queues:
            self.api.call("POST", "/work_pools/", {"name": self._pool, "type": "process"})
        queue = self.api.call("POST", f"/work_pools/{self._pool}/queues", {"name": self._word()})
        self._known.queues.append(queue["id"])
        return [queue["id"]]

    def rename_queue(self) -> Iterable[str]:
        """Another name, also in the queue's runs."""
        queue = self._pick(self._known.queues)
        self.api.call("PATCH", f"/work_queues/{queue}", {"name": self._word()})
        return [queue]

    def delete_queue(self) -> Iterable[str]:
        """A queue that runs and deployments may be in."""
        if len(self._known.queues) < 2:
            raise Nothing
        queue = self._pick(self._known.queues[1:])
        self.api.call("DELETE", f"/work_queues/{queue}")
        self._known.queues.remove(queue)
        return [queue]

    def adopt(self) -> Iterable[str]:
        """No change: flows that really run and schedules made runs, which are changed from now on."""
        asked = {"sort": "EXPECTED_START_TIME_DESC", "limit": 50, "offset": self._random.randrange(0, 100)}
        for kind, known in (("flow_runs", self._known.flow_runs), ("task_runs", self._known.task_runs)):
            found = [row["id"] for row in self.api.call("POST", f"/{kind}/filter", asked)]
            known += sorted(set(found) - set(known))
        raise Nothing

    # helpers

    @property
    def _pool(self) -> str:
        return "soaked"

    def _pick(self, ids: list[str]) -> str:
        """A recent one or one of any age."""
        if not ids:
            raise Nothing
        return self._random.choice(ids[-20:] if self._random.random() < 0.5 else ids)

    def _one_in(self, *states: str) -> str:
        """A flow run in one of these state types."""
        for _ in range(5):
            run_id = self._pick(self._known.flow_runs)
            if self._flow_run(run_id)["state_type"] in states:
                return run_id
        raise Nothing

    def _ended_run(self) -> str:
        return self._one_in(*TERMINAL)

    def _flow_run(self, run_id: str) -> Row:
        return self._row("flow_runs", self._known.flow_runs, run_id)

    def _task_run(self, run_id: str) -> Row:
        return self._row("task_runs", self._known.task_runs, run_id)

    def _row(self, kind: str, known: list[str], run_id: str) -> Row:
        try:
            row: Row = self.api.call("GET", f"/{kind}/{run_id}")
        except Refused:
            # deleted with what it belonged to
            known.remove(run_id)
            raise Nothing from None
        return row

    def _word(self) -> str:
        return f"{self._random.choice(('grün', 'red', 'blue', 'été', 'x y'))}-{self._random.randrange(1_000_000)}"

    def _tags(self) -> list[str]:
        return sorted(
            {self._random.choice(("a", "b", "c", "é", "long " * 20)) for _ in range(self._random.randrange(4))}
        )

    def _parameters(self) -> Row:
        return {"number": self._random.randrange(1000), "Text": self._word(), "list": [1, None, {"a b": True}]}

    def _schedule(self) -> Row:
        interval = self._random.choice((15, 60, 600, 3600, 5 * 3600, 86400))
        return {"active": True, "schedule": {"interval": interval}}

    def _one_schedule(self) -> tuple[str, str]:
        deployment = self._pick(self._known.deployments)
        schedules = self.api.call("GET", f"/deployments/{deployment}/schedules")
        if not schedules:
            raise Nothing
        return deployment, self._random.choice(schedules)["id"]

    def _in_queue(self) -> Row:
        queue = self.api.call("GET", f"/work_queues/{self._pick(self._known.queues)}")
        return {"work_pool_name": self._pool, "work_queue_name": queue["name"]}

    def _scheduled_now(self) -> Row:
        return scheduled(now())

    def _scheduled_soon(self) -> Row:
        """Mostly due within the soak, so that it is marked late; else within the horizon of the syncs."""
        soon = self._random.random() < 0.6
        ahead = self._random.uniform(0, 20) if soon else self._random.uniform(1, 20) * HOUR
        return scheduled(now() + seconds(ahead))

    def _any_state(self) -> Row | str:
        type_ = self._random.choice(STATES)
        if type_ == "SCHEDULED":
            return self._scheduled_soon()
        if type_ == "PAUSED":
            return self._pause_state("Paused", reschedule=False)
        state = as_state(type_)
        assert state is not None
        return {**state, "message": self._random.choice((None, "", self._word(), "long " * 500))}

    def _pause_state(self, name: str, reschedule: bool) -> Row:
        timeout = self._random.choice((3.0, HOUR))
        details = {
            "pause_timeout": (now() + seconds(timeout)).isoformat(),
            "pause_reschedule": reschedule,
            "pause_key": self._word(),
        }
        return {"type": "PAUSED", "name": name, "state_details": details}

    def _paused(self, name: str, reschedule: bool) -> str:
        return self._set(self._one_in("RUNNING"), self._pause_state(name, reschedule))

    def _new_flow(self) -> str:
        flow_id = str(self.api.call("POST", "/flows/", {"name": self._word(), "tags": self._tags()})["id"])
        self._known.flows.append(flow_id)
        return flow_id

    def _flow(self) -> str:
        return self._random.choice(self._known.flows) if self._known.flows else self._new_flow()

    def _new_flow_run(self, state: Row | str | None, **fields: Any) -> str:
        given = {"flow_id": self._flow(), "name": self._word(), "tags": self._tags(), "parameters": self._parameters()}
        return self._note_flow_run(self.api.flow_run(state, **{**given, **fields}))

    def _note_flow_run(self, run_id: str) -> str:
        if run_id not in self._known.flow_runs:
            self._known.flow_runs.append(run_id)
        return run_id

    def _new_task_run(self, state: str | None, **fields: Any) -> str:
        # the generator makes the keys, for a failure is to be had again
        key = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        run_id = self.api.task_run(state, dynamic_key=key, name=self._word(), **fields)
        self._known.task_runs.append(run_id)
        return run_id

    def _set(self, run_id: str, state: Row | str, force: bool = False) -> str:
        return self._set_state("flow_runs", run_id, state, force)

    def _set_task(self, run_id: str, state: Row | str, force: bool = False) -> str:
        return self._set_state("task_runs", run_id, state, force)

    def _set_state(self, kind: str, run_id: str, state: Row | str, force: bool) -> str:
        self.api.call("POST", f"/{kind}/{run_id}/set_state", {"state": as_state(state), "force": force})
        return run_id

    def _edit(self, **fields: Any) -> Iterable[str]:
        run_id = self._pick(self._known.flow_runs)
        self.api.call("PATCH", f"/flow_runs/{run_id}", fields)
        return [run_id]

    def _delete_flow_run(self, run_id: str) -> None:
        self.api.call("DELETE", f"/flow_runs/{run_id}")
        if run_id in self._known.flow_runs:
            self._known.flow_runs.remove(run_id)

    def _delete_task_run(self, run_id: str) -> None:
        self.api.call("DELETE", f"/task_runs/{run_id}")
        self._known.task_runs.remove(run_id)
