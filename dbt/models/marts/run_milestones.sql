-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH states AS (
  SELECT
    transition.*,
    COALESCE(previous_type = 'PAUSED' AND type IN ('SCHEDULED', 'PENDING', 'RUNNING'), FALSE) AS ends_pause
  FROM {{ ref('state_transitions') }} AS transition
), late AS (
  SELECT
    run_kind,
    run_id,
    MIN(entered_at) AS first_late_at
  FROM {{ ref('state_transitions') }} AS state_transitions
  WHERE
    name = 'Late'
  GROUP BY
    run_kind,
    run_id
), counted AS (
  SELECT
    state.workspace,
    state.run_kind,
    state.run_id,
    COUNT(*) AS states,
    MIN(CASE WHEN state.type = 'PENDING' THEN state.entered_at END) AS first_pending_at,
    MIN(CASE WHEN state.type = 'RUNNING' THEN state.entered_at END) AS first_running_at,
    MIN(late.first_late_at) AS first_late_at,
    MIN(
      CASE
        WHEN state.type IN ('RUNNING', 'CRASHED') AND state.entered_at > late.first_late_at
        THEN state.entered_at
      END
    ) AS first_late_over_at,
    SUM(CASE WHEN state.leaves_end THEN 1 ELSE 0 END) AS ends_left,
    SUM(CASE WHEN state.is_forced THEN 1 ELSE 0 END) AS forced_changes,
    SUM(CASE WHEN state.begins_attempt THEN 1 ELSE 0 END) AS attempts,
    SUM(CASE WHEN state.ends_pause THEN 1 ELSE 0 END) /* what was to go on and did not run is none */ - CASE
      WHEN MAX(CASE WHEN state.ends_pause THEN state.number END) > MAX(CASE WHEN state.type = 'RUNNING' THEN state.number END)
      THEN 1
      ELSE 0
    END AS resumes
  FROM states AS state
  LEFT JOIN late
    ON late.run_kind = state.run_kind AND late.run_id = state.run_id
  GROUP BY
    state.workspace,
    state.run_kind,
    state.run_id
)
SELECT
  workspace,
  run_kind,
  run_id,
  states,
  first_pending_at,
  first_running_at,
  first_late_at,
  first_late_over_at,
  ends_left,
  forced_changes,
  resumes,
  CASE WHEN attempts > 1 + resumes THEN attempts - 1 - resumes ELSE 0 END AS retries
FROM counted
