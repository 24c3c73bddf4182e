-- Figures of flow runs per day and per hour, for each flow, deployment, work pool, tag, and for all together.
-- period: day or hour (UTC).
-- period_start: When the day or the hour begins; runs belong to the one in which they were due.
-- grouped_by: all, flow, deployment, work_pool or tag.
-- group_id: Id of the flow or the deployment; the name of the work pool; the tag.
-- group_name: Name of the group, as a person knows it.
-- runs: Runs that were due.
-- ended: Those that have ended.
-- completed: Those that completed.
-- failed: Those that failed, timed-out ones included.
-- crashed: Those that crashed.
-- cancelled: Those that were cancelled.
-- success_percent: Completed of ended; null where none has ended.
-- retries: Times that runs began anew; a resume after a pause is none.
-- run_hours: Hours in RUNNING.
-- duration_p50: Median seconds in RUNNING of the runs that have ended.
-- duration_p90: As duration_p50, of nine runs in ten at most.
-- duration_p95: As duration_p50, of 95 % at most.
-- duration_p99: As duration_p50, of 99 % at most.
-- delay_p50: Median seconds from when a run was due to its start.
-- delay_p90: As delay_p50, of nine runs in ten at most.
-- delay_p95: As delay_p50, of 95 % at most.
-- delay_p99: As delay_p50, of 99 % at most.
-- peak_running: Most runs of the group that were RUNNING at the same time, as far as the state history tells; null where none began or ended in the period. An hour in which none was due has no row: running_peaks has all.
WITH periods AS (
    SELECT 'day' AS period, DATE_TRUNC('day', expected_start_time AT TIME ZONE 'UTC') AS period_start, run.*
    FROM flow_run_facts AS run
    WHERE was_due
    UNION ALL
    SELECT 'hour' AS period, DATE_TRUNC('hour', expected_start_time AT TIME ZONE 'UTC') AS period_start, run.*
    FROM flow_run_facts AS run
    WHERE was_due
),
figures AS (
    SELECT
        run.workspace,
        run.period,
        run.period_start,
        member.grouped_by,
        member.group_id,
        MAX(member.group_name) AS group_name,
        COUNT(*) AS runs,
        SUM(CASE WHEN run.is_terminal THEN 1 ELSE 0 END) AS ended,
        SUM(CASE WHEN run.state_type = 'COMPLETED' THEN 1 ELSE 0 END) AS completed,
        SUM(CASE WHEN run.state_type = 'FAILED' THEN 1 ELSE 0 END) AS failed,
        SUM(CASE WHEN run.state_type = 'CRASHED' THEN 1 ELSE 0 END) AS crashed,
        SUM(CASE WHEN run.state_type = 'CANCELLED' THEN 1 ELSE 0 END) AS cancelled,
        SUM(run.retries) AS retries,
        SUM(run.run_seconds) / 3600 AS run_hours,
        QUANTILE_CONT(run.duration_seconds, 0.5) AS duration_p50,
        QUANTILE_CONT(run.duration_seconds, 0.9) AS duration_p90,
        QUANTILE_CONT(run.duration_seconds, 0.95) AS duration_p95,
        QUANTILE_CONT(run.duration_seconds, 0.99) AS duration_p99,
        QUANTILE_CONT(run.start_delay_seconds, 0.5) AS delay_p50,
        QUANTILE_CONT(run.start_delay_seconds, 0.9) AS delay_p90,
        QUANTILE_CONT(run.start_delay_seconds, 0.95) AS delay_p95,
        QUANTILE_CONT(run.start_delay_seconds, 0.99) AS delay_p99
    FROM periods AS run
    JOIN stg_run_groups AS member ON member.run_id = run.id
    GROUP BY run.workspace, run.period, run.period_start, member.grouped_by, member.group_id
)
SELECT
    figures.workspace,
    figures.period,
    figures.period_start,
    figures.grouped_by,
    figures.group_id,
    figures.group_name,
    figures.runs,
    figures.ended,
    figures.completed,
    figures.failed,
    figures.crashed,
    figures.cancelled,
    figures.retries,
    figures.run_hours,
    figures.duration_p50,
    figures.duration_p90,
    figures.duration_p95,
    figures.duration_p99,
    figures.delay_p50,
    figures.delay_p90,
    figures.delay_p95,
    figures.delay_p99,
    CASE WHEN figures.ended > 0 THEN 100.0 * figures.completed / figures.ended END AS success_percent,
    peak.peak_running
FROM figures
LEFT JOIN running_peaks AS peak
    ON peak.workspace = figures.workspace
    AND peak.period = figures.period
    AND peak.period_start = figures.period_start
    AND peak.grouped_by = figures.grouped_by
    AND peak.group_id = figures.group_id
