-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH ended AS (
  SELECT
    run.*,
    ROW_NUMBER() OVER (PARTITION BY deployment_id ORDER BY end_time DESC, id) AS place,
    MAX(CASE WHEN state_type = 'COMPLETED' THEN end_time END) OVER (PARTITION BY deployment_id) AS last_success_at
  FROM {{ ref('flow_run_facts') }} AS run
  WHERE
    run.is_terminal AND NOT run.end_time IS NULL AND NOT run.deployment_id IS NULL
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
    SUM(CASE WHEN end_time >= CURRENT_TIMESTAMP - INTERVAL '7' DAYS THEN 1 ELSE 0 END) AS runs_7d,
    SUM(
      CASE
        WHEN end_time >= CURRENT_TIMESTAMP - INTERVAL '7' DAYS AND state_type = 'COMPLETED'
        THEN 1
        ELSE 0
      END
    ) AS completed_7d,
    QUANTILE_CONT(
      CASE
        WHEN end_time >= CURRENT_TIMESTAMP - INTERVAL '7' DAYS
        THEN duration_seconds
      END,
      0.5
    ) AS duration_p50_7d,
    SUM(
      CASE
        WHEN end_time < CURRENT_TIMESTAMP - INTERVAL '7' DAYS
        AND end_time >= CURRENT_TIMESTAMP - INTERVAL '35' DAYS
        THEN 1
        ELSE 0
      END
    ) AS runs_28d,
    SUM(
      CASE
        WHEN end_time < CURRENT_TIMESTAMP - INTERVAL '7' DAYS
        AND end_time >= CURRENT_TIMESTAMP - INTERVAL '35' DAYS
        AND state_type = 'COMPLETED'
        THEN 1
        ELSE 0
      END
    ) AS completed_28d,
    QUANTILE_CONT(
      CASE
        WHEN end_time < CURRENT_TIMESTAMP - INTERVAL '7' DAYS
        AND end_time >= CURRENT_TIMESTAMP - INTERVAL '35' DAYS
        THEN duration_seconds
      END,
      0.5
    ) AS duration_p50_28d
  FROM ended
  GROUP BY
    deployment_id
), due AS (
  SELECT
    deployment_id,
    EXTRACT(EPOCH FROM expected_start_time) - LAG(EXTRACT(EPOCH FROM expected_start_time)) OVER (PARTITION BY deployment_id ORDER BY expected_start_time) AS gap,
    CASE
      WHEN start_time IS NULL
      AND (
        state_type = 'SCHEDULED' OR (
          NOT is_live AND NOT is_terminal
        )
      )
      THEN 1
      ELSE 0
    END AS missed
  FROM {{ ref('flow_run_facts') }} AS flow_run_facts
  WHERE
    started_by = 'schedule'
    AND expected_start_time < CURRENT_TIMESTAMP
    AND expected_start_time >= CURRENT_TIMESTAMP - INTERVAL '28' DAYS
    AND was_due
), scheduled AS (
  SELECT
    deployment_id,
    CASE WHEN COUNT(*) >= 3 THEN QUANTILE_CONT(CASE WHEN gap > 0 THEN gap END, 0.5) END AS usual_interval_seconds,
    SUM(missed) AS missed_runs
  FROM due
  GROUP BY
    deployment_id
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
  EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) - EXTRACT(EPOCH FROM recent.last_success_at) AS seconds_since_success,
  scheduled.usual_interval_seconds,
  CASE
    WHEN NOT COALESCE(deployment.paused, FALSE)
    AND NOT scheduled.usual_interval_seconds IS NULL
    THEN recent.last_success_at IS NULL
    OR EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) - EXTRACT(EPOCH FROM recent.last_success_at) > 2 * scheduled.usual_interval_seconds
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
FROM {{ prefect_table('deployments') }} AS deployment
LEFT JOIN {{ prefect_table('flows') }} AS flow
  ON flow.id = deployment.flow_id
LEFT JOIN recent
  ON recent.deployment_id = deployment.id
LEFT JOIN scheduled
  ON scheduled.deployment_id = deployment.id
LEFT JOIN {{ prefect_table('tombstones') }} AS gone
  ON gone.resource = 'deployments' AND gone.id = deployment.id
WHERE
  gone.id IS NULL
