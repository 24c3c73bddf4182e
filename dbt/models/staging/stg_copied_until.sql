-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
WITH ends AS (
  SELECT
    workspace,
    MAX(
      CASE
        WHEN resources IS NULL OR CAST(resources AS TEXT) LIKE '%"flow_runs"%'
        THEN window_end
      END
    ) AS window_end
  FROM {{ prefect_table('syncs') }} AS syncs
  GROUP BY
    workspace
)
SELECT
  workspace,
  CASE WHEN window_end < CURRENT_TIMESTAMP THEN window_end ELSE CURRENT_TIMESTAMP END AS copied_until
FROM ends
