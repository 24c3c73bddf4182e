"""Runs of an invented Prefect installation, by seed: when each was due, how it went, with which task runs.

Nothing here knows a database. The same arguments give the same runs, ids and timestamps included, whatever
machine they are made on: all randomness comes from one ``random.Random(seed)``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from run_catalogue import Catalogue, Deployment, Flow, Ids, Schedule, make_catalogue

# more than a page of 200 holds
TIE_RUNS = 210
ADJECTIVES = ("amber", "brisk", "calm", "daring", "eager", "fancy", "gentle", "hasty", "icy", "jolly")
ANIMALS = ("badger", "civet", "dingo", "egret", "falcon", "gecko", "heron", "ibis", "jackal", "kiwi")
FAILURES = (
    "ValueError: no rows in file",
    "TimeoutError: warehouse did not answer within 30 s",
    "KeyError: 'customer_id'",
)

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
# how runs end, in percent of those that are over: "failed" ones try again first where the flow has retries,
# "skipped" ones are cancelled before they begin, "stuck" ones were killed and say RUNNING for ever
OUTCOMES = {
    "completed": 87.4,
    "failed": 8.5,
    "crashed": 1.5,
    "cancelled": 1.5,
    "skipped": 1.0,
    "stuck": 0.1,
}
# share of the runs that are over: started by hand through a deployment, and without any deployment
BY_HAND = 0.05
AD_HOC = 0.03
MARKED_LATE = 0.03
LONGEST_ATTEMPT_SECONDS = 3000.0
WEEK = timedelta(days=7)
RETRY_DELAY_SECONDS = 30
# the server cancels the children of a cancelled flow run this much later, and announces it by no event
CHILD_CANCEL_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class State:
    """One state of a run.

    ``run_count`` is the number of attempts begun when it was set, ``details`` the state details that differ
    from their defaults, ``announced`` whether the server wrote an event for it.
    """

    id: str
    type: str
    name: str
    timestamp: datetime
    run_count: int
    message: str | None
    details: Mapping[str, object]
    announced: bool


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task run; ``attempt`` is the flow run's attempt it belongs to, ``lag`` how late it was recorded."""

    id: str
    task_key: str
    dynamic_key: str
    tags: tuple[str, ...]
    retries: int
    attempt: int
    lag: timedelta
    states: Sequence[State]


@dataclass(slots=True)
class FlowRun:
    """A flow run, its states in order, and its task runs."""

    id: str
    name: str
    created: datetime
    expected_start_time: datetime
    flow: Flow
    deployment: Deployment | None
    schedule: Schedule | None
    parameters: Mapping[str, object]
    tags: tuple[str, ...]
    process_id: int
    states: Sequence[State]
    task_runs: list[TaskRun] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is decided about a flow run before it is told; ``room`` is the longest attempt, in seconds."""

    expected: datetime
    created: datetime
    outcome: str
    room: float
    flow: Flow
    deployment: Deployment | None
    schedule: Schedule | None


def utc_text(moment: datetime) -> str:
    """A moment as the API writes it: ``2026-01-02T03:04:05.678901Z``, whole seconds without a fraction."""
    return moment.isoformat().replace("+00:00", "Z")


def full_hour(moment: datetime) -> datetime:
    """The full hour at or before a moment."""
    return moment.replace(minute=0, second=0, microsecond=0)


class History:
    """The states of one run while they are being told; a state is always later than the one before."""

    def __init__(self, ids: Ids, is_flow_run: bool) -> None:
        self._ids = ids
        self._is_flow_run = is_flow_run
        self._run_count = 0
        self.states: list[State] = []

    def add(
        self,
        kind: str,
        name: str,
        at: datetime,
        message: str | None = None,
        announced: bool = True,
        **details: object,
    ) -> State:
        """Append a state at ``at``, or one microsecond after the state before when that is later."""
        if self.states:
            at = max(at, self.states[-1].timestamp + timedelta(microseconds=1))
        if kind == "RUNNING":
            self._run_count += 1
        if self._is_flow_run and self.states and name != "AwaitingRetry":
            details["transition_id"] = self._ids.v4()
        state = State(
            id=self._ids.v7(at),
            type=kind,
            name=name,
            timestamp=at,
            run_count=self._run_count,
            message=message,
            details=details,
            announced=announced,
        )
        self.states.append(state)
        return state


class Slots:
    """Times of scheduled runs; no schedule fires twice at one time, as the server's unique keys demand."""

    def __init__(self, rng: random.Random, deployments: Sequence[Deployment]) -> None:
        self._rng = rng
        self._deployments = deployments
        self._taken: set[tuple[str, datetime]] = set()

    def take(self, earliest: datetime, latest: datetime) -> tuple[datetime, Deployment]:
        """A free time of some deployment's schedule: most often a full hour, else a quarter, else any second."""
        at = full_hour(self.moment(earliest, latest))
        at += timedelta(minutes=self._rng.choice((0, 0, 0, 0, 15, 30, 45)))
        deployment = self._rng.choice(self._deployments)
        while not earliest <= at <= latest or (deployment.id, at) in self._taken:
            at = self.moment(earliest, latest).replace(microsecond=0)
            deployment = self._rng.choice(self._deployments)
        self._taken.add((deployment.id, at))
        return at, deployment

    def take_all(self, at: datetime) -> list[tuple[datetime, Deployment]]:
        """One time of the schedules of all deployments."""
        self._taken.update((deployment.id, at) for deployment in self._deployments)
        return [(at, deployment) for deployment in self._deployments]

    def moment(self, earliest: datetime, latest: datetime) -> datetime:
        """Any moment between two, to the microsecond."""
        return earliest + (latest - earliest) * self._rng.random()


class Planner:
    """Decides for every flow run when it was due, who started it and how it ended.

    Nothing that is planned as over, or as running, has a state later than ``end``.
    """

    def __init__(self, rng: random.Random, catalogue: Catalogue, end: datetime, days: int) -> None:
        self._rng = rng
        self._catalogue = catalogue
        self._end = end
        self._start = end - timedelta(days=days)
        # 10 minutes hold the shortest history with its waits, retry and late records
        self._latest = end - timedelta(minutes=10)
        self._slots = Slots(rng, catalogue.deployments)

    def plans(self, count: int) -> list[Plan]:
        """``count`` plans by expected start: 1 % of a week to come, 0.2 % of one running, the rest over."""
        # however long the history is, no more runs are open
        of_a_week = round(count * min(WEEK / (self._end - self._start), 1))
        upcoming = of_a_week // 100
        running = -(-of_a_week // 500)
        over = count - upcoming - running
        tie = TIE_RUNS if over >= TIE_RUNS else 0
        found = self._tied(tie) + [self._over() for _ in range(over - tie)]
        found += [self._running() for _ in range(running)]
        found += [self._upcoming() for _ in range(upcoming)]
        return sorted(found, key=lambda plan: plan.expected)

    def _tied(self, count: int) -> list[Plan]:
        """Runs due at one full hour: all schedules, and a backfill somebody put there by hand."""
        if not count:
            return []
        # inside the days that have events, so that the tie is one in every table
        at = full_hour(self._end - min(timedelta(days=2), (self._end - self._start) / 2))
        scheduled = [self._scheduled(*slot) for slot in self._slots.take_all(at)]
        backfill = [self._scheduled(at, self._any_deployment()) for _ in range(count - len(scheduled))]
        return scheduled + [replace(plan, schedule=None) for plan in backfill]

    def _any_deployment(self) -> Deployment:
        return self._rng.choice(self._catalogue.deployments)

    def _over(self) -> Plan:
        how = self._rng.random()
        if how < AD_HOC:
            return self._started_now(self._rng.choice(self._catalogue.flows), None)
        if how < AD_HOC + BY_HAND:
            deployment = self._any_deployment()
            return self._started_now(deployment.flow, deployment)
        return self._scheduled(*self._slots.take(self._start, self._latest))

    def _running(self) -> Plan:
        slot = self._slots.take(self._end - timedelta(hours=1), self._latest)
        return self._scheduled(*slot, outcome="running")

    def _upcoming(self) -> Plan:
        hour = full_hour(self._end)
        slot = self._slots.take(hour + timedelta(hours=3), hour + timedelta(hours=12))
        return self._scheduled(*slot, outcome="upcoming")

    def _scheduled(self, at: datetime, deployment: Deployment, outcome: str | None = None) -> Plan:
        created = at - timedelta(seconds=self._rng.uniform(3600, 86400))
        created = min(created, self._end - timedelta(seconds=self._rng.uniform(60, 1800)))
        return Plan(
            at, created, outcome or self._outcome(), self._room(at), deployment.flow, deployment, deployment.schedule
        )

    def _started_now(self, flow: Flow, deployment: Deployment | None) -> Plan:
        at = self._slots.moment(self._start, self._latest)
        return Plan(at, at, self._outcome(), self._room(at), flow, deployment, None)

    def _outcome(self) -> str:
        return self._rng.choices(tuple(OUTCOMES), weights=tuple(OUTCOMES.values()))[0]

    def _room(self, at: datetime) -> float:
        # two attempts and the waits between them still end before self._end
        return min(LONGEST_ATTEMPT_SECONDS, (self._end - at).total_seconds() / 3)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The span of one RUNNING state of a flow run, where its task runs lie."""

    number: int
    start: datetime
    length: timedelta
    ends_as: str


class Teller:
    """Tells the history of planned runs."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ids = Ids(rng)

    def flow_run(self, plan: Plan, task_runs: int) -> FlowRun:
        """A flow run as planned, with so many task runs (none when it never ran)."""
        rng = self._rng
        run_id = self._ids.v7(plan.created) if plan.schedule else self._ids.v4()
        history, attempts = self._flow_history(plan)
        tags = plan.deployment.tags if plan.deployment else rng.choice(((), ("manual",)))
        run = FlowRun(
            id=run_id,
            name=f"{rng.choice(ADJECTIVES)}-{rng.choice(ANIMALS)}",
            created=plan.created,
            expected_start_time=plan.expected,
            flow=plan.flow,
            deployment=plan.deployment,
            schedule=plan.schedule,
            parameters=_parameters(plan),
            tags=("auto-scheduled", *tags) if plan.schedule else tags,
            process_id=rng.randint(300, 65000),
            states=history.states,
        )
        for number, attempt in enumerate(attempts):
            share = task_runs // len(attempts) + (number < task_runs % len(attempts))
            run.task_runs += [self._task_run(plan.flow, attempt, place, share) for place in range(share)]
        return run

    def _flow_history(self, plan: Plan) -> tuple[History, list[Attempt]]:
        history = History(self._ids, is_flow_run=True)
        self._wait(plan, history)
        if plan.outcome == "upcoming":
            return history, []
        if plan.outcome == "skipped":
            at = plan.expected + timedelta(seconds=self._rng.uniform(-60, 60) if plan.schedule else 5)
            history.add("CANCELLED", "Cancelled", at, "Cancelled by a user before it began.")
            return history, []
        return history, self._run(plan, history)

    def _wait(self, plan: Plan, history: History) -> None:
        """The states before the first RUNNING one."""
        rng, due = self._rng, plan.expected
        if plan.deployment is None:
            history.add("PENDING", "Pending", due)
            return
        due_text = utc_text(due)
        message = "Flow run scheduled" if plan.schedule else None
        # a run made by a schedule is announced by its second state
        by_hand = plan.schedule is None
        history.add("SCHEDULED", "Scheduled", plan.created, message, by_hand, scheduled_time=due_text)
        if plan.outcome in ("upcoming", "skipped"):
            return
        # workers fetch runs up to 10 s ahead
        picked = due + timedelta(seconds=rng.uniform(-10, 2) if plan.schedule else rng.uniform(0.1, 5))
        if rng.random() < MARKED_LATE:
            late = history.add(
                "SCHEDULED", "Late", due + timedelta(seconds=rng.uniform(15, 20)), scheduled_time=due_text
            )
            picked = late.timestamp + timedelta(seconds=rng.uniform(1, 10))
        history.add("PENDING", "Pending", picked, scheduled_time=due_text)
        handed = picked + timedelta(seconds=rng.uniform(0.05, 0.3))
        history.add("PENDING", "Submitting", handed, scheduled_time=due_text)

    def _run(self, plan: Plan, history: History) -> list[Attempt]:
        """The attempts of a run and what became of it."""
        begun = max(plan.expected, history.states[-1].timestamp) + timedelta(seconds=self._rng.uniform(0.2, 4))
        if plan.outcome != "failed" or not plan.flow.retries:
            return [self._attempt(plan, history, 1, begun, plan.outcome)]
        first = self._attempt(plan, history, 1, begun, "failed once")
        again = first.start + first.length + timedelta(seconds=RETRY_DELAY_SECONDS + self._rng.random() / 10)
        outcome = self._rng.choice(("completed", "failed"))
        return [first, self._attempt(plan, history, 2, again, outcome)]

    def _attempt(self, plan: Plan, history: History, number: int, begun: datetime, outcome: str) -> Attempt:
        start = history.add("RUNNING", "Running", begun).timestamp
        length = timedelta(seconds=self._length(plan.room))
        over = start + length
        failure = f"Flow run encountered an exception: {self._rng.choice(FAILURES)}"
        if outcome == "completed":
            history.add("COMPLETED", "Completed", over, untrackable_result=True)
        elif outcome == "failed":
            history.add("FAILED", "Failed", over, failure, retriable=False)
        elif outcome == "failed once":
            due = utc_text(over + timedelta(seconds=RETRY_DELAY_SECONDS))
            history.add("SCHEDULED", "AwaitingRetry", over, failure, scheduled_time=due)
        elif outcome == "crashed":
            message = "Flow run infrastructure exited with non-zero status code 137."
            history.add("CRASHED", "Crashed", over, message)
        elif outcome == "cancelled":
            history.add("CANCELLING", "Cancelling", over, "Cancelled by a user.")
            history.add("CANCELLED", "Cancelled", over + timedelta(seconds=self._rng.uniform(1, 8)))
        return Attempt(number, start, length, outcome)

    def _length(self, room: float) -> float:
        """Seconds an attempt takes: mostly a minute or so, with a long tail up to ``room``."""
        return max(min(self._rng.lognormvariate(4.0, 1.1), room), min(5.0, room))

    def _task_run(self, flow: Flow, attempt: Attempt, place: int, of: int) -> TaskRun:
        rng, ids = self._rng, self._ids
        slot = attempt.length / of
        begun = attempt.start + slot * (place + rng.uniform(0.001, 0.05))
        retries = rng.choice((0, 0, 0, 1))
        history = self._task_history(begun, slot, attempt, retries, is_last=place == of - 1)
        return TaskRun(
            id=ids.v7(begun),
            task_key=flow.task_keys[place % len(flow.task_keys)],
            dynamic_key=ids.v4(),
            tags=rng.choice(((), (), (), ("warehouse",), ("warehouse", "slow"))),
            retries=retries,
            attempt=attempt.number,
            lag=timedelta(seconds=rng.uniform(0.02, 26)),
            states=history.states,
        )

    def _task_history(self, begun: datetime, slot: timedelta, attempt: Attempt, retries: int, is_last: bool) -> History:
        rng = self._rng
        history = History(self._ids, is_flow_run=False)
        history.add("PENDING", "Pending", begun, "")
        history.add("RUNNING", "Running", begun + slot * rng.uniform(0.0005, 0.01), "")
        if is_last and attempt.ends_as in ("running", "stuck", "crashed"):
            return history
        if is_last and attempt.ends_as == "cancelled":
            at = attempt.start + attempt.length + timedelta(seconds=CHILD_CANCEL_SECONDS)
            history.add("CANCELLED", "Cancelled", at, "Parent flow run was cancelled", announced=False)
            return history
        fails = rng.random() < 0.01 or (is_last and attempt.ends_as in ("failed", "failed once"))
        if retries and (fails or rng.random() < 0.1):
            due = begun + slot * 0.4
            history.add("SCHEDULED", "AwaitingRetry", begun + slot * 0.2, "", scheduled_time=utc_text(due))
            history.add("RUNNING", "Retrying", due, "")
        over = begun + slot * rng.uniform(0.45, 0.9)
        if fails:
            failure = f"Task run encountered an exception {rng.choice(FAILURES)}"
            history.add("FAILED", "Failed", over, failure, retriable=False)
        else:
            history.add("COMPLETED", "Completed", over, "", untrackable_result=True)
        return history


def _parameters(plan: Plan) -> Mapping[str, object]:
    if plan.deployment is None:
        return {"region": "eu", "limit": 10}
    return {**plan.deployment.parameters, **(plan.schedule.parameters if plan.schedule else {})}


def _task_run_counts(rng: random.Random, plans: Sequence[Plan], task_runs: int) -> Counter[int]:
    """How many task runs each plan gets, by its position; plans that never run get none."""
    began = [index for index, plan in enumerate(plans) if plan.outcome not in ("upcoming", "skipped")]
    if task_runs and not began:
        raise ValueError(f"{task_runs} task runs need at least one flow run that began")
    weights = [plans[index].flow.weight for index in began]
    return Counter(rng.choices(began, weights=weights, k=task_runs) if task_runs else ())


@dataclass(frozen=True, slots=True)
class Generated:
    """A catalogue and, told one after the other while they are read (once), its flow runs."""

    catalogue: Catalogue
    runs: Iterator[FlowRun]


def generate(flow_runs: int, task_runs: int, end: datetime, days: int = 30, seed: int = 1) -> Generated:
    """Exactly ``flow_runs`` flow runs with exactly ``task_runs`` task runs, over ``days`` days up to ``end``.

    From about 220 flow runs on, ``TIE_RUNS`` of them share one expected start: one of every schedule, the rest a
    backfill by hand, so most runs are made by schedules only in fills of some size. Runs come in order of their
    expected start; no timestamp but the expected starts of runs to come is later than ``end`` (UTC).

    Raises:
        ValueError: when ``end`` has no time zone, ``days`` is below 1, or task runs have no flow run.
    """
    if end.tzinfo is None or days < 1:
        raise ValueError("end needs a time zone and days must be 1 or more")
    end = end.astimezone(UTC)
    rng = random.Random(seed)
    catalogue = make_catalogue(rng, created=end - timedelta(days=days + 7))
    plans = Planner(rng, catalogue, end, days).plans(flow_runs)
    counts = _task_run_counts(rng, plans, task_runs)
    teller = Teller(rng)
    return Generated(catalogue, (teller.flow_run(plan, counts[index]) for index, plan in enumerate(plans)))
