-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH marked AS (
  SELECT
    state.*,
    SUM(
      CASE
        WHEN type = 'RUNNING' AND COALESCE(previous_type, '') <> 'RUNNING'
        THEN 1
        ELSE 0
      END
    ) OVER (PARTITION BY run_kind, run_id ORDER BY number) AS attempt
  FROM {{ ref('state_transitions') }} AS state
), ends AS (
  SELECT
    run_kind,
    run_id,
    attempt,
    name,
    entered_at,
    ROW_NUMBER() OVER (PARTITION BY run_kind, run_id, attempt ORDER BY number) AS place
  FROM marked
  WHERE
    attempt > 0 AND type <> 'RUNNING'
), starts AS (
  SELECT
    workspace,
    run_kind,
    run_id,
    attempt,
    MIN(entered_at) AS started_at
  FROM marked
  WHERE
    attempt > 0 AND type = 'RUNNING'
  GROUP BY
    workspace,
    run_kind,
    run_id,
    attempt
)
SELECT
  starts.workspace,
  starts.run_kind,
  starts.run_id,
  starts.attempt,
  starts.started_at,
  ends.entered_at AS ended_at,
  EXTRACT(EPOCH FROM ends.entered_at) - EXTRACT(EPOCH FROM starts.started_at) AS seconds,
  ends.name AS ended_as
FROM starts
LEFT JOIN ends
  ON ends.run_kind = starts.run_kind
  AND ends.run_id = starts.run_id
  AND ends.attempt = starts.attempt
  AND ends.place = 1
