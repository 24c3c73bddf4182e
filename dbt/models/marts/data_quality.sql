-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  workspace,
  'syncs with gaps' AS name,
  SUM(CASE WHEN whole OR COALESCE(unfinished, FALSE) THEN 0 ELSE 1 END) AS found,
  'loads after which something was known to be missing; their gaps are in syncs' AS meaning
FROM {{ prefect_table('syncs') }} AS syncs
GROUP BY
  workspace
UNION ALL
SELECT
  run.workspace,
  'completed flow runs without task runs',
  SUM(
    CASE
      WHEN run.state_type = 'COMPLETED' AND task.flow_run_id IS NULL
      THEN 1
      ELSE 0
    END
  ),
  'flows that call no task, or task runs that the server lost'
FROM {{ prefect_table('flow_runs') }} AS run
JOIN (
  SELECT DISTINCT
    workspace
  FROM {{ prefect_table('task_runs') }} AS task_runs
) AS loaded
  ON loaded.workspace = run.workspace
LEFT JOIN (
  SELECT DISTINCT
    flow_run_id
  FROM {{ prefect_table('task_runs') }} AS task_runs
) AS task
  ON task.flow_run_id = run.id
GROUP BY
  run.workspace
UNION ALL
SELECT
  run.workspace,
  'task runs of unknown flow runs',
  SUM(CASE WHEN NOT run.flow_run_id IS NULL AND parent.id IS NULL THEN 1 ELSE 0 END),
  'their flow run was deleted before it was loaded, or is outside the filters'
FROM {{ prefect_table('task_runs') }} AS run
LEFT JOIN {{ prefect_table('flow_runs') }} AS parent
  ON parent.id = run.flow_run_id
GROUP BY
  run.workspace
UNION ALL
SELECT
  run.workspace,
  run.run_kind || ' runs without state history',
  SUM(CASE WHEN NOT run.state_id IS NULL AND reached.run_id IS NULL THEN 1 ELSE 0 END),
  'their history was not loaded: verify --repair reads it again'
FROM {{ ref('stg_runs') }} AS run
JOIN (
  SELECT DISTINCT
    workspace,
    run_kind
  FROM {{ ref('stg_run_states') }} AS stg_run_states
) AS loaded
  ON loaded.workspace = run.workspace AND loaded.run_kind = run.run_kind
LEFT JOIN {{ ref('run_milestones') }} AS reached
  ON reached.run_kind = run.run_kind AND reached.run_id = run.id
GROUP BY
  run.workspace,
  run.run_kind
UNION ALL
SELECT
  workspace,
  'task runs known from events alone',
  SUM(CASE WHEN reason = 'events_only' THEN 1 ELSE 0 END),
  'the server told of them in events and has no row of them'
FROM {{ prefect_table('tombstones') }} AS tombstones
GROUP BY
  workspace
UNION ALL
SELECT
  workspace,
  'flow runs in flight for over a day',
  SUM(
    CASE
      WHEN NOT is_terminal AND is_live AND start_time < as_of - INTERVAL '1' DAY
      THEN 1
      ELSE 0
    END
  ),
  'still running, or killed without a word: such runs stay RUNNING for ever'
FROM {{ ref('stg_runs') }} AS stg_runs
WHERE
  run_kind = 'flow'
GROUP BY
  workspace
