-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH edges AS (
  SELECT
    run_id,
    started_at AS moment,
    1 AS step
  FROM {{ ref('run_attempts') }} AS run_attempts
  WHERE
    run_kind = 'flow'
  UNION ALL
  SELECT
    attempt.run_id,
    COALESCE(attempt.ended_at, run.gone_at) AS moment,
    -1 AS step
  FROM {{ ref('run_attempts') }} AS attempt
  JOIN {{ ref('stg_runs') }} AS run
    ON run.run_kind = 'flow' AND run.id = attempt.run_id
  WHERE
    attempt.run_kind = 'flow' AND NOT COALESCE(attempt.ended_at, run.gone_at) IS NULL
), running AS (
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
  JOIN {{ ref('stg_run_groups') }} AS member
    ON member.run_id = edges.run_id
), periods AS (
  SELECT
    'day' AS period,
    DATE_TRUNC('DAY', moment AT TIME ZONE 'UTC') AS period_start,
    running.*
  FROM running
  UNION ALL
  SELECT
    'hour' AS period,
    DATE_TRUNC('HOUR', moment AT TIME ZONE 'UTC') AS period_start,
    running.*
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
GROUP BY
  workspace,
  period,
  period_start,
  grouped_by,
  group_id
