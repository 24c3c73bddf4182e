-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  id,
  workspace,
  'flow' AS run_kind,
  flow_run_id AS run_id,
  sequence,
  type,
  name,
  timestamp,
  message
FROM {{ prefect_table('flow_run_states') }} AS flow_run_states
UNION ALL
SELECT
  id,
  workspace,
  'task' AS run_kind,
  task_run_id AS run_id,
  sequence,
  type,
  name,
  timestamp,
  message
FROM {{ prefect_table('task_run_states') }} AS task_run_states
