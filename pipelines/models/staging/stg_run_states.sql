-- State history of flow runs and task runs in one table: one row a state that a run entered.
-- run_kind: flow or task.
-- run_id: The run (flow_runs.id or task_runs.id).
SELECT id, workspace, 'flow' AS run_kind, flow_run_id AS run_id, sequence, type, name, timestamp, message
FROM flow_run_states
UNION ALL
SELECT id, workspace, 'task' AS run_kind, task_run_id AS run_id, sequence, type, name, timestamp, message
FROM task_run_states
