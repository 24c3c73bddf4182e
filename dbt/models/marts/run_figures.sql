-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH periods AS (
  SELECT
    'day' AS period,
    DATE_TRUNC('DAY', expected_start_time AT TIME ZONE 'UTC') AS period_start,
    run.*
  FROM {{ ref('flow_run_facts') }} AS run
  WHERE
    was_due
  UNION ALL
  SELECT
    'hour' AS period,
    DATE_TRUNC('HOUR', expected_start_time AT TIME ZONE 'UTC') AS period_start,
    run.*
  FROM {{ ref('flow_run_facts') }} AS run
  WHERE
    was_due
), figures AS (
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
  JOIN {{ ref('stg_run_groups') }} AS member
    ON member.run_id = run.id
  GROUP BY
    run.workspace,
    run.period,
    run.period_start,
    member.grouped_by,
    member.group_id
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
LEFT JOIN {{ ref('running_peaks') }} AS peak
  ON peak.workspace = figures.workspace
  AND peak.period = figures.period
  AND peak.period_start = figures.period_start
  AND peak.grouped_by = figures.grouped_by
  AND peak.group_id = figures.group_id
