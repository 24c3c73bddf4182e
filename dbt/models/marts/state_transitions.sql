-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH ordered AS (
  SELECT
    states.*,
    ROW_NUMBER() OVER history AS number,
    LAG(type) OVER history AS previous_type,
    LAG(name) OVER history AS previous_name,
    LEAD(timestamp) OVER history AS left_at
  FROM {{ ref('stg_run_states') }} AS states
  WINDOW history AS (PARTITION BY run_kind, run_id ORDER BY timestamp, sequence)
), judged AS (
  SELECT
    ordered.*,
    COALESCE(
      previous_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')
      AND COALESCE(name, '') <> 'RolledBack'
      AND NOT (
        run_kind = 'task' AND previous_type = 'CANCELLED'
      ),
      FALSE
    ) AS leaves_end
  FROM ordered
)
SELECT
  id,
  workspace,
  run_kind,
  run_id,
  number,
  type,
  name,
  message,
  timestamp AS entered_at,
  left_at,
  EXTRACT(EPOCH FROM left_at) - EXTRACT(EPOCH FROM timestamp) AS seconds,
  previous_type,
  previous_name,
  leaves_end,
  leaves_end
  AND COALESCE(type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED'), FALSE) AS is_forced,
  COALESCE(
    type = 'RUNNING'
    AND (
      COALESCE(previous_type, '') <> 'RUNNING' OR name = 'Retrying'
    ),
    FALSE
  ) AS begins_attempt
FROM judged
