-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  run.workspace,
  run.work_pool_name,
  run.work_queue_name,
  DATE_TRUNC('HOUR', run.expected_start_time AT TIME ZONE 'UTC') AS hour,
  COUNT(*) AS runs,
  CASE
    WHEN COUNT(run.is_prefect_success) > 0
    THEN SUM(CASE WHEN NOT run.queue_seconds IS NULL THEN 1 ELSE 0 END)
  END AS taken_up,
  SUM(
    CASE
      WHEN run.state_type = 'SCHEDULED' AND run.start_time IS NULL AND run.is_live
      THEN 1
      ELSE 0
    END
  ) AS waiting,
  CASE
    WHEN COUNT(run.is_late) > 0
    THEN SUM(CASE WHEN run.is_late THEN 1 ELSE 0 END)
  END AS marked_late,
  QUANTILE_CONT(run.queue_seconds, 0.5) AS queue_p50,
  QUANTILE_CONT(run.queue_seconds, 0.95) AS queue_p95
FROM {{ ref('flow_run_facts') }} AS run
WHERE
  run.was_due AND NOT run.work_queue_name IS NULL
GROUP BY
  run.workspace,
  run.work_pool_name,
  run.work_queue_name,
  DATE_TRUNC('HOUR', run.expected_start_time AT TIME ZONE 'UTC')
