-- Flow runs, with their tags as one text and with what became of them on the server.
-- tags: Tags in alphabetical order, with a comma between them; null without any.
-- is_live: Whether the server still has the run.
-- gone_at: When it was first seen that the server no longer has the run.
-- gone_reason: Why: deleted, or aged_out by retention.
-- is_terminal: Whether the run has ended: COMPLETED, FAILED, CRASHED or CANCELLED.
WITH tags AS (
    SELECT _dlt_parent_id, STRING_AGG(value, ',' ORDER BY value) AS tags
    FROM flow_runs__tags
    GROUP BY _dlt_parent_id
)
SELECT
    run.id,
    run.workspace,
    run.name,
    run.flow_id,
    run.deployment_id,
    run.work_pool_name,
    run.work_queue_name,
    run.parent_task_run_id,
    run.created,
    run.updated,
    run.state_id,
    run.state_type,
    run.state_name,
    run.state_timestamp,
    run.state_message,
    run.run_count,
    run.expected_start_time,
    run.start_time,
    run.end_time,
    run.total_run_time,
    run.auto_scheduled,
    run.created_by,
    tags.tags,
    gone.id IS NULL AS is_live,
    gone.noticed_at AS gone_at,
    gone.reason AS gone_reason,
    COALESCE(run.state_type IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED'), FALSE) AS is_terminal
FROM flow_runs AS run
LEFT JOIN tags ON tags._dlt_parent_id = run._dlt_id
LEFT JOIN tombstones AS gone ON gone.resource = 'flow_runs' AND gone.id = run.id
