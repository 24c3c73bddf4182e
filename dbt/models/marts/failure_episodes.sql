-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH ended AS (
  SELECT
    workspace,
    CASE WHEN deployment_id IS NULL THEN 'flow' ELSE 'deployment' END AS grouped_by,
    COALESCE(deployment_id, flow_id) AS group_id,
    COALESCE(deployment_name, flow_name) AS group_name,
    id,
    end_time,
    CASE WHEN state_type = 'COMPLETED' THEN 1 ELSE 0 END AS good
  FROM {{ ref('flow_run_facts') }} AS flow_run_facts
  WHERE
    state_type IN ('COMPLETED', 'FAILED', 'CRASHED') AND NOT end_time IS NULL
), counted AS (
  SELECT
    ended.*,
    SUM(good) OVER (
      PARTITION BY workspace, grouped_by, group_id
      ORDER BY end_time, id
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS successes_before
  FROM ended
), broken AS (
  SELECT
    workspace,
    grouped_by,
    group_id,
    MAX(group_name) AS group_name,
    successes_before,
    MIN(end_time) AS broken_at,
    COUNT(*) AS failures
  FROM counted
  WHERE
    good = 0
  GROUP BY
    workspace,
    grouped_by,
    group_id,
    successes_before
), recovered AS (
  SELECT
    broken.*,
    good.end_time AS recovered_at,
    ROW_NUMBER() OVER history AS episode,
    LAG(good.end_time) OVER history AS recovered_before
  FROM broken
  LEFT JOIN counted AS good
    ON good.workspace = broken.workspace
    AND good.grouped_by = broken.grouped_by
    AND good.group_id = broken.group_id
    AND good.good = 1
    AND good.successes_before = broken.successes_before + 1
  WINDOW history AS (
    PARTITION BY broken.workspace, broken.grouped_by, broken.group_id
    ORDER BY broken.broken_at
  )
)
SELECT
  workspace,
  grouped_by,
  group_id,
  group_name,
  episode,
  broken_at,
  recovered_at,
  failures,
  EXTRACT(EPOCH FROM recovered_at) - EXTRACT(EPOCH FROM broken_at) AS seconds_to_recover,
  EXTRACT(EPOCH FROM broken_at) - EXTRACT(EPOCH FROM recovered_before) AS seconds_since_recovery
FROM recovered
