-- Most flow runs of a group that were RUNNING at the same time, per day and per hour in which one began or ended.
-- period: day or hour (UTC).
-- period_start: When the day or the hour begins.
-- grouped_by: all, flow, deployment, work_pool or tag.
-- group_id: Id of the flow or the deployment; the name of the work pool; the tag.
-- peak_running: Most runs at the same time.
WITH edges AS (
    SELECT run_id, started_at AS moment, 1 AS step
    FROM run_attempts
    WHERE run_kind = 'flow'
    UNION ALL
    SELECT attempt.run_id, COALESCE(attempt.ended_at, run.gone_at) AS moment, -1 AS step
    FROM run_attempts AS attempt
    JOIN stg_runs AS run ON run.run_kind = 'flow' AND run.id = attempt.run_id
    WHERE attempt.run_kind = 'flow' AND COALESCE(attempt.ended_at, run.gone_at) IS NOT NULL
),
running AS (
    SELECT
        member.workspace,
        member.grouped_by,
        member.group_id,
        edges.moment,
        edges.step,
        SUM(edges.step) OVER (
            PARTITION BY member.workspace, member.grouped_by, member.group_id
            ORDER BY edges.moment, edges.step
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS running_now
    FROM edges
    JOIN stg_run_groups AS member ON member.run_id = edges.run_id
),
periods AS (
    SELECT 'day' AS period, DATE_TRUNC('day', moment AT TIME ZONE 'UTC') AS period_start, running.*
    FROM running
    UNION ALL
    SELECT 'hour' AS period, DATE_TRUNC('hour', moment AT TIME ZONE 'UTC') AS period_start, running.*
    FROM running
)
SELECT
    workspace,
    period,
    period_start,
    grouped_by,
    group_id,
    MAX(CASE WHEN step < 0 THEN running_now + 1 ELSE running_now END) AS peak_running
FROM periods
GROUP BY workspace, period, period_start, grouped_by, group_id
