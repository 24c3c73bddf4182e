-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH RECURSIVE parents AS (
  SELECT
    child.id,
    child.workspace,
    task.flow_run_id AS parent_id
  FROM {{ prefect_table('flow_runs') }} AS child
  JOIN {{ prefect_table('task_runs') }} AS task
    ON task.id = child.parent_task_run_id
  WHERE
    NOT task.flow_run_id IS NULL
), ancestors(id, workspace, ancestor_id, depth) AS (
  SELECT
    id,
    workspace,
    parent_id AS ancestor_id,
    1 AS depth
  FROM parents
  UNION ALL
  SELECT
    below.id,
    below.workspace,
    parents.parent_id,
    below.depth + 1
  FROM ancestors AS below
  JOIN parents
    ON parents.id = below.ancestor_id
  WHERE
    below.depth < 100
)
SELECT
  ancestors.id,
  ancestors.workspace,
  ancestors.ancestor_id AS root_flow_run_id
FROM ancestors
LEFT JOIN parents
  ON parents.id = ancestors.ancestor_id
WHERE
  parents.id IS NULL
