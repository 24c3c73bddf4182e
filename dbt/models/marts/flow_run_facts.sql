-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  run.id,
  run.workspace,
  run.name,
  own.flow_id,
  flow.name AS flow_name,
  own.deployment_id,
  deployment.name AS deployment_name,
  own.work_pool_name,
  own.work_queue_name,
  run.tags,
  own.parent_task_run_id,
  parent.flow_run_id AS parent_flow_run_id,
  COALESCE(root.root_flow_run_id, run.id) AS root_flow_run_id,
  CASE
    WHEN NOT own.parent_task_run_id IS NULL
    THEN 'parent'
    WHEN own.auto_scheduled
    THEN 'schedule'
    WHEN REPLACE(CAST(own.created_by AS TEXT), ' ', '') LIKE '%"type":"AUTOMATION"%'
    THEN 'automation'
    ELSE 'user'
  END AS started_by,
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
    AND run.attempts > 0
    AND COALESCE(reached.retries, run.attempts - 1) <= 0
    AND COALESCE(reached.ends_left, 0) = 0
  END AS is_first_try_success,
  run.is_success,
  COALESCE(reached.forced_changes, 0) > 0 AS is_forced,
  CASE
    WHEN reached.first_pending_at > run.expected_start_time
    THEN EXTRACT(EPOCH FROM reached.first_pending_at) - EXTRACT(EPOCH FROM run.expected_start_time)
    WHEN NOT reached.first_pending_at IS NULL
    THEN 0
  END AS queue_seconds,
  EXTRACT(EPOCH FROM reached.first_running_at) - EXTRACT(EPOCH FROM reached.first_pending_at) AS startup_seconds,
  CASE
    WHEN run.is_terminal AND run.attempts = 0
    THEN NULL
    WHEN run.start_time > run.expected_start_time
    THEN EXTRACT(EPOCH FROM run.start_time) - EXTRACT(EPOCH FROM run.expected_start_time)
    WHEN run.start_time IS NULL AND NOT run.is_live
    THEN NULL
    WHEN run.start_time IS NULL
    AND NOT run.is_terminal
    AND run.expected_start_time < run.as_of
    THEN EXTRACT(EPOCH FROM run.as_of) - EXTRACT(EPOCH FROM run.expected_start_time)
    ELSE 0
  END AS start_delay_seconds,
  EXTRACT(EPOCH FROM reached.first_late_over_at) - EXTRACT(EPOCH FROM reached.first_late_at) AS late_seconds,
  CASE
    WHEN NOT reached.first_late_at IS NULL OR run.state_name = 'Late'
    THEN TRUE
    WHEN NOT reached.run_id IS NULL
    THEN FALSE
  END AS is_late,
  run.run_seconds,
  run.duration_seconds,
  run.wall_seconds,
  CASE
    WHEN NOT reached.run_id IS NULL
    THEN NOT reached.first_pending_at IS NULL
    AND NOT run.state_type IN ('FAILED', 'CRASHED')
  END AS is_prefect_success,
  run.was_due,
  run.is_live,
  run.gone_at,
  run.gone_reason
FROM {{ prefect_table('flow_runs') }} AS own
JOIN {{ ref('stg_runs') }} AS run
  ON run.run_kind = 'flow' AND run.id = own.id
LEFT JOIN {{ ref('run_milestones') }} AS reached
  ON reached.run_kind = 'flow' AND reached.run_id = run.id
LEFT JOIN {{ prefect_table('flows') }} AS flow
  ON flow.id = own.flow_id
LEFT JOIN {{ prefect_table('deployments') }} AS deployment
  ON deployment.id = own.deployment_id
LEFT JOIN {{ prefect_table('task_runs') }} AS parent
  ON parent.id = own.parent_task_run_id
LEFT JOIN {{ ref('stg_flow_run_roots') }} AS root
  ON root.id = run.id
