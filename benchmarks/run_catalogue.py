"""The invented installation that generated runs belong to: flows, deployments, schedules, pools, queues."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

REGIONS = ("eu", "us", "apac", "latam", "mea", "nordics")
POOL_TYPES = ("process", "kubernetes", "docker")
FLOW_NAMES = [
    "ingest-orders",
    "ingest-customers",
    "ingest-inventory",
    "ingest-payments",
    "ingest-clickstream",
    "build-dim-product",
    "build-dim-customer",
    "build-fct-sales",
    "build-fct-returns",
    "build-marts",
    "train-churn-model",
    "score-churn-model",
    "train-forecast",
    "score-forecast",
    "export-to-crm",
    "export-to-finance",
    "refresh-dashboards",
    "check-data-quality",
    "archive-raw-files",
    "send-daily-report",
]
TASK_NAMES = ("extract", "validate", "transform", "load", "publish", "notify")


class Ids:
    """UUIDs drawn from a random generator, as text: version 4, or version 7 with the time in front."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def v4(self) -> str:
        """A random id, as clients make them."""
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def v7(self, moment: datetime) -> str:
        """An id that sorts by the millisecond of a moment, as the server makes them."""
        bits = self._rng.getrandbits(74)
        milliseconds = int(moment.timestamp() * 1000)
        head = (milliseconds << 16) | (0x7 << 12) | (bits >> 62)
        return str(UUID(int=(head << 64) | (0b10 << 62) | (bits & (2**62 - 1))))


@dataclass(frozen=True, slots=True)
class WorkPool:
    """A work pool with the queue that takes runs which name none, and the worker that serves it."""

    id: str
    name: str
    type: str
    default_queue_id: str
    worker_name: str


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue of a work pool."""

    id: str
    name: str
    priority: int
    pool: WorkPool


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow; ``weight`` is how many task runs its runs have, relative to other flows."""

    id: str
    name: str
    retries: int
    weight: int
    task_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of a deployment, with the parameters its runs get."""

    id: str
    slug: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment of a flow on a work queue."""

    id: str
    name: str
    flow: Flow
    queue: WorkQueue
    tags: tuple[str, ...]
    version: str
    parameters: Mapping[str, object]
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything runs refer to; ``created`` is before the first run."""

    created: datetime
    pools: tuple[WorkPool, ...]
    queues: tuple[WorkQueue, ...]
    flows: tuple[Flow, ...]
    deployments: tuple[Deployment, ...]


def make_catalogue(rng: random.Random, created: datetime) -> Catalogue:
    """20 flows, 40 deployments with a schedule each, 3 work pools with 2 queues each."""
    ids = Ids(rng)
    pools, queues = _make_pools(ids)
    flows = tuple(_make_flow(rng, ids, name) for name in FLOW_NAMES)
    deployments = tuple(
        _make_deployment(rng, ids, flow, stage, queues[(2 * number + (stage == "prod")) % len(queues)])
        for number, flow in enumerate(flows)
        for stage in ("prod", "staging")
    )
    return Catalogue(created, pools, queues, flows, deployments)


def _make_pools(ids: Ids) -> tuple[tuple[WorkPool, ...], tuple[WorkQueue, ...]]:
    pools: list[WorkPool] = []
    queues: list[WorkQueue] = []
    for pool_type in POOL_TYPES:
        worker = f"{pool_type.title()}Worker {ids.v4()}"
        pool = WorkPool(ids.v4(), f"{pool_type}-pool", pool_type, ids.v4(), worker)
        pools.append(pool)
        queues.append(WorkQueue(pool.default_queue_id, "default", 1, pool))
        queues.append(WorkQueue(ids.v4(), "urgent", 2, pool))
    return tuple(pools), tuple(queues)


def _make_flow(rng: random.Random, ids: Ids, name: str) -> Flow:
    task_names = TASK_NAMES[: rng.randint(2, len(TASK_NAMES))]
    task_keys = tuple(f"{task}-{rng.getrandbits(32):08x}" for task in task_names)
    return Flow(ids.v4(), name, rng.choice((0, 0, 1)), rng.choice((1, 1, 2, 3, 5)), task_keys)


def _make_deployment(rng: random.Random, ids: Ids, flow: Flow, stage: str, queue: WorkQueue) -> Deployment:
    parameters = {"region": "eu", "limit": rng.choice((100, 1000, 10000)), "full_refresh": False}
    # one schedule only: a server needs 10 ms to answer each, as it looks up all time zones anew
    region = rng.choice(REGIONS)
    return Deployment(
        id=ids.v4(),
        name=f"{flow.name}-{stage}",
        flow=flow,
        queue=queue,
        tags=(stage, rng.choice(("team:sales", "team:finance", "team:data"))),
        version=f"{rng.getrandbits(128):032x}",
        parameters=parameters,
        schedule=Schedule(ids.v4(), region, {"region": region}),
    )
