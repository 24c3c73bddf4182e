"""Ten questions that people who run Prefect ask, as DuckDB SQL on the views of `prefect-runs models`."""

from __future__ import annotations

from .queries import Query

QUESTIONS = (
    Query(
        "failing_flows",
        "Which flows fail most, and how?",
        """\
select flow_name, count(*) as runs, round(100 * avg(is_success::int), 1) as success_percent,
       count(*) filter (outcome = 'failed') as failed, count(*) filter (outcome = 'crashed') as crashed,
       count(*) filter (outcome = 'timed out') as timed_out
from prefect.flow_run_facts
where is_terminal
group by flow_name
order by success_percent, runs desc""",
    ),
    Query(
        "first_try",
        "How many runs succeed at their first try, and how many only after a retry?",
        """\
select flow_name, count(*) as ended, count(*) filter (is_first_try_success) as at_first_try,
       count(*) filter (is_success and retries > 0 and not is_forced) as after_a_retry,
       count(*) filter (is_success and is_forced) as set_by_hand, sum(retries) as retries
from prefect.flow_run_facts
where is_terminal and attempts > 0
group by flow_name
order by after_a_retry desc, flow_name""",
    ),
    Query(
        "waiting",
        "How long do runs wait, and for what: to be taken up, or to start?",
        """\
select coalesce(work_pool_name, 'none') as work_pool, count(*) as runs,
       round(quantile_cont(queue_seconds, 0.5), 2) as queue_p50,
       round(quantile_cont(queue_seconds, 0.95), 2) as queue_p95,
       round(quantile_cont(startup_seconds, 0.5), 2) as startup_p50,
       round(quantile_cont(startup_seconds, 0.95), 2) as startup_p95, count(*) filter (is_late) as marked_late
from prefect.flow_run_facts
where was_due
group by work_pool
order by runs desc""",
    ),
    Query(
        "deployments",
        "Which deployments need somebody to look at them?",
        """\
select name, flow_name, last_state_type, failures_in_a_row, last_success_at, is_overdue, missed_runs, success_percent_7d
from prefect.deployment_health
order by failures_in_a_row desc, is_overdue desc nulls last, missed_runs desc, name""",
    ),
    Query(
        "recovery",
        "How long does it take until a broken flow or deployment works again (MTTR), and how long does it last (MTBF)?",
        """\
select any_value(group_name) as broken, count(*) as episodes, sum(failures) as failures,
       count(*) filter (recovered_at is null and gone_at is null) as broken_now,
       round(avg(seconds_to_recover)) as mttr_seconds, round(avg(seconds_since_recovery)) as mtbf_seconds
from prefect.failure_episodes
group by grouped_by, group_id
order by broken_now desc, failures desc, broken""",
    ),
    Query(
        "time_in_states",
        "Where does the time of flow runs go?",
        """\
select name as state, count(*) as times, round(sum(seconds), 1) as seconds, round(avg(seconds), 2) as seconds_each
from prefect.state_transitions
where run_kind = 'flow' and seconds is not null
group by name
order by seconds desc""",
    ),
    Query(
        "slow_tasks",
        "Which tasks take most time?",
        """\
select flow.name as flow, regexp_replace(task.task_key, '-[0-9a-f]+$', '') as task, count(*) as runs,
       round(sum(task.run_seconds), 2) as seconds,
       round(quantile_cont(task.run_seconds, 0.95) filter (not task.is_cached), 2) as p95_seconds,
       count(*) filter (task.is_cached) as cached
from prefect.task_run_facts as task
join prefect.flows as flow on flow.id = task.flow_id
join prefect.flow_run_facts as run on run.id = task.flow_run_id
where task.is_terminal or not run.is_terminal  -- a task run that its flow run left RUNNING tells nothing
group by flow.name, regexp_replace(task.task_key, '-[0-9a-f]+$', '')
order by seconds desc
limit 10""",
    ),
    Query(
        "busiest_hours",
        "When do most runs run at the same time?",
        """\
select peak.period_start as hour_utc, peak.peak_running, coalesce(due.runs, 0) as runs_due,
       round(due.run_hours, 4) as run_hours
from prefect.running_peaks as peak
left join prefect.hourly_figures as due
    on due.period_start = peak.period_start and due.grouped_by = 'all' and due.workspace = peak.workspace
where peak.period = 'hour' and peak.grouped_by = 'all'
order by peak.peak_running desc, hour_utc
limit 10""",
    ),
    Query(
        "forced",
        "Which runs did somebody set to another end than they came to?",
        """\
select run.flow_name, run.name, state.previous_name as was, state.name as became, state.entered_at, state.message
from prefect.state_transitions as state
join prefect.flow_run_facts as run on run.id = state.run_id
where state.run_kind = 'flow' and state.is_forced
order by state.entered_at desc
limit 10""",
    ),
    Query(
        "trust",
        "Can the copy be trusted?",
        """\
select name, found, meaning
from prefect.data_quality
order by found desc, name""",
    ),
)
