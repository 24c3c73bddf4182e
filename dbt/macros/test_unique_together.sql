-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
{#- No two rows agree in all of these columns. -#}
{% test unique_together(model, columns) %}
  select {{ columns | join(", ") }}
  from {{ model }}
  group by {{ columns | join(", ") }}
  having count(*) > 1
{% endtest %}
