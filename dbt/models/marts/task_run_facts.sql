-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH children AS (
  SELECT
    parent_task_run_id,
    MIN(id) AS child_flow_run_id
  FROM {{ prefect_table('flow_runs') }} AS flow_runs
  WHERE
    NOT parent_task_run_id IS NULL
  GROUP BY
    parent_task_run_id
)
SELECT
  run.id,
  run.workspace,
  run.name,
  own.task_key,
  own.flow_run_id,
  parent.flow_id,
  parent.deployment_id,
  children.child_flow_run_id,
  run.tags,
  own.flow_run_run_count,
  run.created,
  run.expected_start_time,
  run.start_time,
  run.end_time,
  run.state_type,
  run.state_name,
  run.state_timestamp,
  run.is_terminal,
  run.outcome,
  run.attempts,
  COALESCE(reached.retries, CASE WHEN run.attempts > 1 THEN run.attempts - 1 ELSE 0 END) AS retries,
  CASE
    WHEN run.is_terminal
    THEN run.is_success
    AND COALESCE(reached.retries, run.attempts - 1) <= 0
    AND COALESCE(reached.ends_left, 0) = 0
  END AS is_first_try_success,
  run.is_success,
  COALESCE(reached.forced_changes, 0) > 0 AS is_forced,
  COALESCE(run.state_name = 'Cached', FALSE) AS is_cached,
  EXTRACT(EPOCH FROM reached.first_running_at) - EXTRACT(EPOCH FROM reached.first_pending_at) AS startup_seconds,
  run.run_seconds,
  run.duration_seconds,
  run.wall_seconds,
  run.is_live,
  run.gone_at,
  run.gone_reason
FROM {{ prefect_table('task_runs') }} AS own
JOIN {{ ref('stg_runs') }} AS run
  ON run.run_kind = 'task' AND run.id = own.id
LEFT JOIN {{ ref('run_milestones') }} AS reached
  ON reached.run_kind = 'task' AND reached.run_id = run.id
LEFT JOIN {{ prefect_table('flow_runs') }} AS parent
  ON parent.id = own.flow_run_id
LEFT JOIN children
  ON children.parent_task_run_id = run.id
