"""Five questions that analysts ask of the warehouse, as DuckDB SQL on the dataset ``prefect``.

The demo prints them with their results. Each runs as it stands in any DuckDB client.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A question and the SQL that answers it: ``name`` is a short handle, ``sql`` has no parameters."""

    name: str
    question: str
    sql: str


FLOW_HEALTH = Query(
    "flow_health",
    "How often does each flow succeed, and how long does it run?",
    """\
select f.name as flow,
       count(*) as runs,
       round(100 * avg((r.state_type = 'COMPLETED')::int)
             filter (r.state_type in ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')), 1) as success_pct,
       round(quantile_cont(r.total_run_time, 0.50) filter (r.end_time is not null), 2) as p50_seconds,
       round(quantile_cont(r.total_run_time, 0.95) filter (r.end_time is not null), 2) as p95_seconds,
       arg_max(r.state_name, r.start_time) as latest_state
from prefect.flow_runs as r
join prefect.flows as f on f.id = r.flow_id
where r.run_count > 0  -- it has run at least once
group by f.name
order by success_pct nulls last, flow""",
)

QUEUE_TIME = Query(
    "queue_time",
    "How long did each flow run wait before it ran, and which ones wait still?",
    """\
with reached as (
    select flow_run_id,
           min(timestamp) filter (type = 'PENDING') as pending_at,
           min(timestamp) filter (type = 'RUNNING') as running_at
    from prefect.flow_run_states
    group by flow_run_id
)
select f.name as flow, r.name as run, r.state_name as state,
       round(epoch(s.pending_at) - epoch(r.expected_start_time), 2) as scheduled_to_pending,
       round(epoch(s.running_at) - epoch(s.pending_at), 2) as pending_to_running,
       round(epoch(coalesce(s.running_at, copied.until)) - epoch(r.expected_start_time), 2) as waited_seconds
from prefect.flow_runs as r
join prefect.flows as f on f.id = r.flow_id
left join reached as s on s.flow_run_id = r.id
left join prefect.tombstones as gone on gone.id = r.id and gone.resource = 'flow_runs'
join (select workspace, max(window_end) as until from prefect.syncs group by workspace) as copied
    on copied.workspace = r.workspace
where r.expected_start_time <= copied.until
  and (s.running_at is not null or r.state_type in ('SCHEDULED', 'PENDING') and gone.id is null)
order by waited_seconds desc, run
limit 10""",
)

RETRIES = Query(
    "retries",
    "Which runs needed more than one attempt, and what did they go through?",
    """\
with history as (
    select 'flow run' as kind, flow_run_id as run_id, name, timestamp from prefect.flow_run_states
    union all
    select 'task run', task_run_id, name, timestamp from prefect.task_run_states
),
retried as (
    select kind, run_id, string_agg(name, ' > ' order by timestamp) as went_through
    from history
    group by kind, run_id
    having count(*) filter (name in ('AwaitingRetry', 'Retrying')) > 0
),
runs as (
    select id, flow_id, name, run_count from prefect.flow_runs
    union all
    select t.id, r.flow_id, t.name, t.run_count
    from prefect.task_runs as t
    left join prefect.flow_runs as r on r.id = t.flow_run_id
)
select f.name as flow, h.kind, r.name as run, r.run_count as attempts, h.went_through
from retried as h
join runs as r on r.id = h.run_id
left join prefect.flows as f on f.id = r.flow_id
order by flow, kind, run""",
)

FAILURES = Query(
    "failures",
    "What failed, with which message, and what became of it since?",
    """\
select s.timestamp as failed_at, f.name as flow, r.name as run, s.name as failure, s.message,
       r.state_name as state_now
from prefect.flow_run_states as s
join prefect.flow_runs as r on r.id = s.flow_run_id
join prefect.flows as f on f.id = r.flow_id
where s.type in ('FAILED', 'CRASHED')
order by failed_at desc""",
)

SLOW_TASKS = Query(
    "slow_tasks",
    "Which tasks take the time of each flow?",
    """\
select f.name as flow,
       regexp_replace(t.task_key, '-[0-9a-f]+$', '') as task,
       count(*) as runs,
       count(*) filter (t.state_name = 'Cached') as cached,
       round(median(t.total_run_time) filter (t.state_name != 'Cached'), 3) as p50_seconds,
       round(max(t.total_run_time), 3) as max_seconds,
       round(sum(t.total_run_time), 3) as all_seconds
from prefect.task_runs as t
join prefect.flow_runs as r on r.id = t.flow_run_id
join prefect.flows as f on f.id = r.flow_id
where t.end_time is not null
group by all
order by all_seconds desc, flow, task
limit 15""",
)

QUERIES = (FLOW_HEALTH, QUEUE_TIME, RETRIES, FAILURES, SLOW_TASKS)
