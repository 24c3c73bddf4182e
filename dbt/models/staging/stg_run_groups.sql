-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  id AS run_id,
  workspace,
  'all' AS grouped_by,
  'all' AS group_id,
  'all' AS group_name
FROM {{ prefect_table('flow_runs') }} AS flow_runs
UNION ALL
SELECT
  run.id,
  run.workspace,
  'flow',
  run.flow_id,
  flow.name
FROM {{ prefect_table('flow_runs') }} AS run
LEFT JOIN {{ prefect_table('flows') }} AS flow
  ON flow.id = run.flow_id
WHERE
  NOT run.flow_id IS NULL
UNION ALL
SELECT
  run.id,
  run.workspace,
  'deployment',
  run.deployment_id,
  deployment.name
FROM {{ prefect_table('flow_runs') }} AS run
LEFT JOIN {{ prefect_table('deployments') }} AS deployment
  ON deployment.id = run.deployment_id
WHERE
  NOT run.deployment_id IS NULL
UNION ALL
SELECT
  id,
  workspace,
  'work_pool',
  work_pool_name,
  work_pool_name
FROM {{ prefect_table('flow_runs') }} AS flow_runs
WHERE
  NOT work_pool_name IS NULL
UNION ALL
SELECT DISTINCT
  run.id,
  run.workspace,
  'tag',
  tag.value,
  tag.value
FROM {{ prefect_table('flow_runs') }} AS run
JOIN {{ prefect_table('flow_runs__tags') }} AS tag
  ON tag._dlt_parent_id = run._dlt_id
