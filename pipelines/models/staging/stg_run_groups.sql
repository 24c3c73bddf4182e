-- What flow runs are counted by: one row for each run and each group that it belongs to.
-- run_id: The flow run.
-- grouped_by: all, flow, deployment, work_pool or tag.
-- group_id: Id of the flow or the deployment; the name of the work pool; the tag.
-- group_name: Name of the group, as a person knows it.
SELECT id AS run_id, workspace, 'all' AS grouped_by, 'all' AS group_id, 'all' AS group_name
FROM flow_runs
UNION ALL
SELECT run.id, run.workspace, 'flow', run.flow_id, flow.name
FROM flow_runs AS run
LEFT JOIN flows AS flow ON flow.id = run.flow_id
WHERE run.flow_id IS NOT NULL
UNION ALL
SELECT run.id, run.workspace, 'deployment', run.deployment_id, deployment.name
FROM flow_runs AS run
LEFT JOIN deployments AS deployment ON deployment.id = run.deployment_id
WHERE run.deployment_id IS NOT NULL
UNION ALL
SELECT id, workspace, 'work_pool', work_pool_name, work_pool_name
FROM flow_runs
WHERE work_pool_name IS NOT NULL
UNION ALL
SELECT DISTINCT run.id, run.workspace, 'tag', tag.value, tag.value
FROM flow_runs AS run
JOIN flow_runs__tags AS tag ON tag._dlt_parent_id = run._dlt_id
