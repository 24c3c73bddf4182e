-- The flow run at the top of each subflow run: one row a flow run that another one called, however deep.
-- root_flow_run_id: The flow run that called it, or called the one that did, and that none called; itself for those.
WITH RECURSIVE parents AS (
    SELECT child.id, child.workspace, task.flow_run_id AS parent_id
    FROM flow_runs AS child
    JOIN task_runs AS task ON task.id = child.parent_task_run_id
    WHERE task.flow_run_id IS NOT NULL
),
ancestors (id, workspace, ancestor_id, depth) AS (
    SELECT id, workspace, parent_id AS ancestor_id, 1 AS depth
    FROM parents
    UNION ALL
    SELECT below.id, below.workspace, parents.parent_id, below.depth + 1
    FROM ancestors AS below
    JOIN parents ON parents.id = below.ancestor_id
    WHERE below.depth < 100
)
SELECT ancestors.id, ancestors.workspace, ancestors.ancestor_id AS root_flow_run_id
FROM ancestors
LEFT JOIN parents ON parents.id = ancestors.ancestor_id
WHERE parents.id IS NULL
