-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
SELECT
  *
FROM {{ ref('run_figures') }} AS run_figures
WHERE
  period = 'day'
