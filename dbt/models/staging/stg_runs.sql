-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH runs AS (
  SELECT
    'flow' AS run_kind,
    _dlt_id,
    id,
    workspace,
    name,
    created,
    updated,
    run_count,
    state_id,
    state_type,
    state_name,
    state_timestamp,
    state_message,
    expected_start_time,
    start_time,
    end_time,
    total_run_time
  FROM {{ prefect_table('flow_runs') }} AS flow_runs
  UNION ALL
  SELECT
    'task' AS run_kind,
    _dlt_id,
    id,
    workspace,
    name,
    created,
    updated,
    run_count,
    state_id,
    state_type,
    state_name,
    state_timestamp,
    state_message,
    expected_start_time,
    start_time,
    end_time,
    total_run_time
  FROM {{ prefect_table('task_runs') }} AS task_runs
), tag_rows AS (
  SELECT
    'flow' AS run_kind,
    _dlt_parent_id,
    value
  FROM {{ prefect_table('flow_runs__tags') }} AS flow_runs__tags
  UNION ALL
  SELECT
    'task' AS run_kind,
    _dlt_parent_id,
    value
  FROM {{ prefect_table('task_runs__tags') }} AS task_runs__tags
), tags AS (
  SELECT
    run_kind,
    _dlt_parent_id,
    LISTAGG(value, ','
    ORDER BY
      value) AS tags
  FROM tag_rows
  GROUP BY
    run_kind,
    _dlt_parent_id
), marked AS (
  SELECT
    runs.run_kind,
    runs.id,
    runs.workspace,
    runs.name,
    runs.created,
    runs.updated,
    runs.expected_start_time,
    runs.start_time,
    runs.end_time,
    runs.total_run_time,
    runs.run_count,
    runs.state_id,
    runs.state_type,
    runs.state_name,
    runs.state_timestamp,
    runs.state_message,
    tags.tags,
    gone.id IS NULL AS is_live,
    gone.noticed_at AS gone_at,
    gone.reason AS gone_reason,
    COALESCE(copied.copied_until, CURRENT_TIMESTAMP) AS as_of,
    COALESCE(runs.state_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED'), FALSE) AS is_terminal
  FROM runs
  LEFT JOIN tags
    ON tags.run_kind = runs.run_kind AND tags._dlt_parent_id = runs._dlt_id
  LEFT JOIN {{ prefect_table('tombstones') }} AS gone
    ON gone.resource = runs.run_kind || '_runs' AND gone.id = runs.id
  LEFT JOIN {{ ref('stg_copied_until') }} AS copied
    ON copied.workspace = runs.workspace
)
SELECT
  run_kind,
  id,
  workspace,
  name,
  tags,
  created,
  updated,
  expected_start_time,
  start_time,
  end_time,
  state_id,
  state_type,
  state_name,
  state_timestamp,
  state_message,
  is_terminal,
  CASE
    WHEN state_name = 'TimedOut'
    THEN 'timed out'
    WHEN is_terminal
    THEN LOWER(state_type)
  END AS outcome,
  run_count AS attempts,
  CASE WHEN is_terminal THEN state_type = 'COMPLETED' END AS is_success,
  CASE
    WHEN state_type = 'RUNNING' AND is_live AND as_of > state_timestamp
    THEN total_run_time + EXTRACT(EPOCH FROM as_of) - EXTRACT(EPOCH FROM state_timestamp)
    ELSE total_run_time
  END AS run_seconds,
  CASE WHEN is_terminal AND run_count > 0 THEN total_run_time END AS duration_seconds,
  EXTRACT(EPOCH FROM end_time) - EXTRACT(EPOCH FROM start_time) AS wall_seconds,
  COALESCE(run_count, 0) > 0
  OR (
    expected_start_time < as_of
    AND (
      is_live
      OR (
        gone_at >= expected_start_time
        AND (
          COALESCE(state_type, '') <> 'SCHEDULED' OR COALESCE(state_name, '') = 'Late'
        )
      )
    )
  ) AS was_due,
  as_of,
  is_live,
  gone_at,
  gone_reason
FROM marked
