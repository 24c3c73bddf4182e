-- One row a flow run, with its times, its outcome and where it came from.
-- started_by: schedule, automation, parent (a subflow) or user.
-- flow_name: Name of the flow.
-- deployment_name: Name of the deployment it was made from, if any.
-- parent_flow_run_id: The flow run that this subflow run belongs to.
-- retries: Times that the run began anew, as its history tells: a resume after a pause is none. Without a history, attempts beyond the first.
-- is_first_try_success: Whether the run ran and completed without a retry, and had not ended otherwise before; null while it has not ended.
-- is_forced: Whether somebody set the run from one terminal state to another.
-- queue_seconds: Seconds from when the run was due until something took it up (PENDING); 0 where that was before.
-- startup_seconds: Seconds from PENDING to RUNNING.
-- start_delay_seconds: Seconds from when the run was due to its start, or to the last sync; as the server's estimated_start_time_delta. Null for a run that ended, or is gone, and never started.
-- late_seconds: Seconds from Late to RUNNING or CRASHED: Prefect's metric lateness. Null for a run that did not come so far, or was never Late.
-- is_late: Whether the server marked the run as Late, whatever became of it; null where no history was loaded.
-- is_prefect_success: Prefect's metric successes: the run went Pending, and its state is neither FAILED nor CRASHED; null where no history was loaded.
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
        WHEN own.parent_task_run_id IS NOT NULL THEN 'parent'
        WHEN own.auto_scheduled THEN 'schedule'
        WHEN REPLACE(CAST(own.created_by AS VARCHAR), ' ', '') LIKE '%"type":"AUTOMATION"%' THEN 'automation'
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
            THEN run.is_success AND run.attempts > 0 AND COALESCE(reached.retries, run.attempts - 1) <= 0 AND COALESCE(reached.ends_left, 0) = 0
    END AS is_first_try_success,
    run.is_success,
    COALESCE(reached.forced_changes, 0) > 0 AS is_forced,
    CASE
        WHEN reached.first_pending_at > run.expected_start_time
            THEN EXTRACT(EPOCH FROM reached.first_pending_at) - EXTRACT(EPOCH FROM run.expected_start_time)
        WHEN reached.first_pending_at IS NOT NULL THEN 0
    END AS queue_seconds,
    EXTRACT(EPOCH FROM reached.first_running_at) - EXTRACT(EPOCH FROM reached.first_pending_at) AS startup_seconds,
    CASE
        -- servers from 3.6.14 on give a run that is cancelled before it starts the time of that as its start
        WHEN run.is_terminal AND run.attempts = 0 THEN NULL
        WHEN run.start_time > run.expected_start_time
            THEN EXTRACT(EPOCH FROM run.start_time) - EXTRACT(EPOCH FROM run.expected_start_time)
        WHEN run.start_time IS NULL AND NOT run.is_live THEN NULL
        WHEN run.start_time IS NULL AND NOT run.is_terminal
            AND run.expected_start_time < run.as_of
            THEN EXTRACT(EPOCH FROM run.as_of) - EXTRACT(EPOCH FROM run.expected_start_time)
        ELSE 0
    END AS start_delay_seconds,
    EXTRACT(EPOCH FROM reached.first_late_over_at) - EXTRACT(EPOCH FROM reached.first_late_at) AS late_seconds,
    CASE
        WHEN reached.first_late_at IS NOT NULL OR run.state_name = 'Late' THEN TRUE
        WHEN reached.run_id IS NOT NULL THEN FALSE
    END AS is_late,
    run.run_seconds,
    run.duration_seconds,
    run.wall_seconds,
    CASE
        WHEN reached.run_id IS NOT NULL
            THEN reached.first_pending_at IS NOT NULL AND run.state_type NOT IN ('FAILED', 'CRASHED')
    END AS is_prefect_success,
    run.was_due,
    run.is_live,
    run.gone_at,
    run.gone_reason
FROM flow_runs AS own
JOIN stg_runs AS run ON run.run_kind = 'flow' AND run.id = own.id
LEFT JOIN run_milestones AS reached ON reached.run_kind = 'flow' AND reached.run_id = run.id
LEFT JOIN flows AS flow ON flow.id = own.flow_id
LEFT JOIN deployments AS deployment ON deployment.id = own.deployment_id
LEFT JOIN task_runs AS parent ON parent.id = own.parent_task_run_id
LEFT JOIN stg_flow_run_roots AS root ON root.id = run.id
