-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH present AS (
  SELECT
    deployment._dlt_id,
    deployment.id,
    deployment.workspace,
    deployment.name,
    deployment.flow_id,
    deployment.work_pool_name,
    deployment.paused,
    deployment.status,
    COALESCE(copied.copied_until, CURRENT_TIMESTAMP) AS as_of
  FROM {{ prefect_table('deployments') }} AS deployment
  LEFT JOIN {{ ref('stg_copied_until') }} AS copied
    ON copied.workspace = deployment.workspace
  LEFT JOIN {{ prefect_table('tombstones') }} AS gone
    ON gone.resource = 'deployments' AND gone.id = deployment.id
  WHERE
    gone.id IS NULL
), ended AS (
  SELECT
    run.id,
    run.deployment_id,
    run.state_type,
    run.duration_seconds,
    COALESCE(run.end_time, run.state_timestamp) AS end_time, /* servers before 3.6.14 write none of a run that crashes before it starts */
    present.as_of
  FROM {{ ref('flow_run_facts') }} AS run
  JOIN present
    ON present.id = run.deployment_id
  WHERE
    run.is_terminal
), placed AS (
  SELECT
    ended.*,
    ROW_NUMBER() OVER (PARTITION BY deployment_id ORDER BY end_time DESC, id) AS place,
    MAX(CASE WHEN state_type = 'COMPLETED' THEN end_time END) OVER (PARTITION BY deployment_id) AS last_success_at
  FROM ended
), recent AS (
  SELECT
    deployment_id,
    MAX(last_success_at) AS last_success_at,
    MAX(CASE WHEN place = 1 THEN id END) AS last_run_id,
    MAX(CASE WHEN place = 1 THEN state_type END) AS last_state_type,
    MAX(end_time) AS last_ended_at,
    SUM(
      CASE
        WHEN state_type IN ('FAILED', 'CRASHED')
        AND (
          last_success_at IS NULL OR end_time > last_success_at
        )
        THEN 1
        ELSE 0
      END
    ) AS failures_in_a_row,
    SUM(CASE WHEN end_time >= as_of - INTERVAL '7' DAYS THEN 1 ELSE 0 END) AS runs_7d,
    SUM(
      CASE
        WHEN end_time >= as_of - INTERVAL '7' DAYS AND state_type = 'COMPLETED'
        THEN 1
        ELSE 0
      END
    ) AS completed_7d,
    QUANTILE_CONT(CASE WHEN end_time >= as_of - INTERVAL '7' DAYS THEN duration_seconds END, 0.5) AS duration_p50_7d,
    SUM(
      CASE
        WHEN end_time < as_of - INTERVAL '7' DAYS AND end_time >= as_of - INTERVAL '35' DAYS
        THEN 1
        ELSE 0
      END
    ) AS runs_28d,
    SUM(
      CASE
        WHEN end_time < as_of - INTERVAL '7' DAYS
        AND end_time >= as_of - INTERVAL '35' DAYS
        AND state_type = 'COMPLETED'
        THEN 1
        ELSE 0
      END
    ) AS completed_28d,
    QUANTILE_CONT(
      CASE
        WHEN end_time < as_of - INTERVAL '7' DAYS AND end_time >= as_of - INTERVAL '35' DAYS
        THEN duration_seconds
      END,
      0.5
    ) AS duration_p50_28d
  FROM placed
  GROUP BY
    deployment_id
), due AS (
  SELECT
    run.deployment_id,
    run.expected_start_time,
    EXTRACT(EPOCH FROM run.expected_start_time) - LAG(EXTRACT(EPOCH FROM run.expected_start_time)) OVER (PARTITION BY run.deployment_id ORDER BY run.expected_start_time) AS gap,
    CASE
      WHEN run.start_time IS NULL
      AND (
        run.state_type = 'SCHEDULED' OR (
          NOT run.is_live AND NOT run.is_terminal
        )
      )
      THEN 1
      ELSE 0
    END AS missed
  FROM {{ ref('flow_run_facts') }} AS run
  JOIN present
    ON present.id = run.deployment_id
  WHERE
    run.started_by = 'schedule'
    AND run.expected_start_time < present.as_of
    AND run.expected_start_time >= present.as_of - INTERVAL '28' DAYS
    AND run.was_due
), scheduled AS (
  SELECT
    due.deployment_id,
    CASE
      WHEN COUNT(*) >= 3
      THEN QUANTILE_CONT(CASE WHEN due.gap > 0 THEN due.gap END, 0.5)
    END AS usual_interval_seconds,
    SUM(due.missed) AS missed_runs,
    MIN(
      CASE
        WHEN recent.last_success_at IS NULL
        OR due.expected_start_time > recent.last_success_at
        THEN due.expected_start_time
      END
    ) AS due_since
  FROM due
  LEFT JOIN recent
    ON recent.deployment_id = due.deployment_id
  GROUP BY
    due.deployment_id
), schedules AS (
  SELECT DISTINCT
    _dlt_parent_id
  FROM {{ prefect_table('deployments__schedules') }} AS deployments__schedules
  WHERE
    COALESCE(active, TRUE)
)
SELECT
  deployment.id,
  deployment.workspace,
  deployment.name,
  flow.name AS flow_name,
  deployment.work_pool_name,
  deployment.paused,
  deployment.status,
  recent.last_run_id,
  recent.last_state_type,
  recent.last_ended_at,
  COALESCE(recent.failures_in_a_row, 0) AS failures_in_a_row,
  recent.last_success_at,
  EXTRACT(EPOCH FROM deployment.as_of) - EXTRACT(EPOCH FROM recent.last_success_at) AS seconds_since_success,
  scheduled.usual_interval_seconds,
  CASE
    WHEN NOT COALESCE(deployment.paused, FALSE)
    AND NOT schedules._dlt_parent_id IS NULL
    AND NOT scheduled.usual_interval_seconds IS NULL
    THEN COALESCE(
      EXTRACT(EPOCH FROM deployment.as_of) - EXTRACT(EPOCH FROM scheduled.due_since) > scheduled.usual_interval_seconds,
      FALSE
    )
    AND (
      recent.last_success_at IS NULL
      OR EXTRACT(EPOCH FROM deployment.as_of) - EXTRACT(EPOCH FROM recent.last_success_at) > 2 * scheduled.usual_interval_seconds
    )
  END AS is_overdue,
  COALESCE(scheduled.missed_runs, 0) AS missed_runs,
  COALESCE(recent.runs_7d, 0) AS runs_7d,
  CASE WHEN recent.runs_7d > 0 THEN 100.0 * recent.completed_7d / recent.runs_7d END AS success_percent_7d,
  recent.duration_p50_7d,
  COALESCE(recent.runs_28d, 0) AS runs_28d,
  CASE
    WHEN recent.runs_28d > 0
    THEN 100.0 * recent.completed_28d / recent.runs_28d
  END AS success_percent_28d,
  recent.duration_p50_28d
FROM present AS deployment
LEFT JOIN {{ prefect_table('flows') }} AS flow
  ON flow.id = deployment.flow_id
LEFT JOIN recent
  ON recent.deployment_id = deployment.id
LEFT JOIN scheduled
  ON scheduled.deployment_id = deployment.id
LEFT JOIN schedules
  ON schedules._dlt_parent_id = deployment._dlt_id
