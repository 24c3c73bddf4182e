-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  workspace,
  CASE
    WHEN MAX(window_end) < CURRENT_TIMESTAMP
    THEN MAX(window_end)
    ELSE CURRENT_TIMESTAMP
  END AS copied_until
FROM {{ prefect_table('syncs') }} AS syncs
GROUP BY
  workspace
