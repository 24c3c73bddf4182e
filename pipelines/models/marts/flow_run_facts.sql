-- One row a flow run, with its times, its outcome and where it came from.
-- started_by: schedule, automation, parent (a subflow) or user.
-- flow_name: Name of the flow.
-- deployment_name: Name of the deployment it was made from, if any.
-- parent_flow_run_id: The flow run that this subflow run belongs to.
-- outcome: completed, failed, crashed, cancelled, timed out; null while it has not ended.
-- attempts: Times that the run entered RUNNING, resumes included.
-- is_first_try_success: Whether the run completed at its first attempt; null while it has not ended.
-- is_success: Whether the run completed, at whatever attempt; null while it has not ended.
-- is_forced: Whether somebody set the run from one terminal state to another.
-- queue_seconds: Seconds from when the run was due until something took it up (PENDING); 0 where that was before.
-- startup_seconds: Seconds from PENDING to RUNNING.
-- start_delay_seconds: Seconds from when the run was due to its start, or to now; as the server's estimated_start_time_delta. Null for a run that is gone and never started.
-- late_seconds: Seconds from Late to RUNNING or CRASHED: Prefect's metric lateness. Null for a run never marked Late.
-- run_seconds: Seconds in RUNNING, over all attempts, until now while it runs; as the server's estimated_run_time.
-- duration_seconds: Seconds in RUNNING until the run ended: Prefect's metric duration. Null while it has not ended.
-- wall_seconds: Seconds from first start to end, waiting between attempts included.
-- is_prefect_success: Prefect's metric successes: the run went Pending, and its state is neither FAILED nor CRASHED.
SELECT
    run.id,
    run.workspace,
    run.name,
    run.flow_id,
    flow.name AS flow_name,
    run.deployment_id,
    deployment.name AS deployment_name,
    run.work_pool_name,
    run.work_queue_name,
    run.tags,
    run.parent_task_run_id,
    parent.flow_run_id AS parent_flow_run_id,
    CASE
        WHEN run.parent_task_run_id IS NOT NULL THEN 'parent'
        WHEN run.auto_scheduled THEN 'schedule'
        WHEN REPLACE(CAST(run.created_by AS VARCHAR), ' ', '') LIKE '%"type":"AUTOMATION"%' THEN 'automation'
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
    CASE
        WHEN run.state_name = 'TimedOut' THEN 'timed out'
        WHEN run.is_terminal THEN LOWER(run.state_type)
    END AS outcome,
    run.run_count AS attempts,
    CASE WHEN run.is_terminal THEN run.state_type = 'COMPLETED' AND run.run_count <= 1 END AS is_first_try_success,
    CASE WHEN run.is_terminal THEN run.state_type = 'COMPLETED' END AS is_success,
    COALESCE(reached.forced_changes, 0) > 0 AS is_forced,
    CASE
        WHEN reached.first_pending_at > run.expected_start_time
            THEN EXTRACT(EPOCH FROM reached.first_pending_at) - EXTRACT(EPOCH FROM run.expected_start_time)
        WHEN reached.first_pending_at IS NOT NULL THEN 0
    END AS queue_seconds,
    EXTRACT(EPOCH FROM reached.first_running_at) - EXTRACT(EPOCH FROM reached.first_pending_at) AS startup_seconds,
    CASE
        WHEN run.start_time > run.expected_start_time
            THEN EXTRACT(EPOCH FROM run.start_time) - EXTRACT(EPOCH FROM run.expected_start_time)
        WHEN run.start_time IS NULL AND NOT run.is_live THEN NULL
        WHEN run.start_time IS NULL AND NOT run.is_terminal AND run.expected_start_time < CURRENT_TIMESTAMP
            THEN EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) - EXTRACT(EPOCH FROM run.expected_start_time)
        ELSE 0
    END AS start_delay_seconds,
    EXTRACT(EPOCH FROM reached.first_late_over_at) - EXTRACT(EPOCH FROM reached.first_late_at) AS late_seconds,
    CASE
        WHEN run.state_type = 'RUNNING' AND run.is_live
            THEN run.total_run_time + EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) - EXTRACT(EPOCH FROM run.state_timestamp)
        ELSE run.total_run_time
    END AS run_seconds,
    CASE WHEN run.is_terminal THEN run.total_run_time END AS duration_seconds,
    EXTRACT(EPOCH FROM run.end_time) - EXTRACT(EPOCH FROM run.start_time) AS wall_seconds,
    reached.first_pending_at IS NOT NULL AND run.state_type NOT IN ('FAILED', 'CRASHED') AS is_prefect_success,
    run.is_live,
    run.gone_at,
    run.gone_reason
FROM stg_flow_runs AS run
LEFT JOIN run_milestones AS reached ON reached.run_kind = 'flow' AND reached.run_id = run.id
LEFT JOIN flows AS flow ON flow.id = run.flow_id
LEFT JOIN deployments AS deployment ON deployment.id = run.deployment_id
LEFT JOIN task_runs AS parent ON parent.id = run.parent_task_run_id
