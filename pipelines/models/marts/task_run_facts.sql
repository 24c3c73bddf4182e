-- One row a task run, with its times and its outcome.
-- flow_id: The flow whose run it belongs to; null outside any flow.
-- deployment_id: The deployment whose run it belongs to, if any.
-- child_flow_run_id: The subflow run that this task run stands for, if it stands for one.
-- outcome: completed, failed, crashed, cancelled, timed out; null while it has not ended.
-- attempts: Times that the run entered RUNNING.
-- is_first_try_success: Whether the run completed at its first attempt; null while it has not ended.
-- is_success: Whether the run completed, at whatever attempt; null while it has not ended.
-- is_forced: Whether somebody set the run from one terminal state to another.
-- is_cached: Whether the run took a cached result instead of running.
-- startup_seconds: Seconds from PENDING to RUNNING.
-- run_seconds: Seconds in RUNNING, over all attempts, until now while it runs; as the server's estimated_run_time.
-- duration_seconds: Seconds in RUNNING until the run ended. Null while it has not ended.
-- wall_seconds: Seconds from first start to end, waiting between attempts included.
WITH children AS (
    SELECT parent_task_run_id, MIN(id) AS child_flow_run_id
    FROM flow_runs
    WHERE parent_task_run_id IS NOT NULL
    GROUP BY parent_task_run_id
)
SELECT
    run.id,
    run.workspace,
    run.name,
    run.task_key,
    run.flow_run_id,
    parent.flow_id,
    parent.deployment_id,
    children.child_flow_run_id,
    run.tags,
    run.flow_run_run_count,
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
    COALESCE(run.state_name = 'Cached', FALSE) AS is_cached,
    EXTRACT(EPOCH FROM reached.first_running_at) - EXTRACT(EPOCH FROM reached.first_pending_at) AS startup_seconds,
    CASE
        WHEN run.state_type = 'RUNNING' AND run.is_live
            THEN run.total_run_time + EXTRACT(EPOCH FROM CURRENT_TIMESTAMP) - EXTRACT(EPOCH FROM run.state_timestamp)
        ELSE run.total_run_time
    END AS run_seconds,
    CASE WHEN run.is_terminal THEN run.total_run_time END AS duration_seconds,
    EXTRACT(EPOCH FROM run.end_time) - EXTRACT(EPOCH FROM run.start_time) AS wall_seconds,
    run.is_live,
    run.gone_at,
    run.gone_reason
FROM stg_task_runs AS run
LEFT JOIN run_milestones AS reached ON reached.run_kind = 'task' AND reached.run_id = run.id
LEFT JOIN flow_runs AS parent ON parent.id = run.flow_run_id
LEFT JOIN children ON children.parent_task_run_id = run.id
