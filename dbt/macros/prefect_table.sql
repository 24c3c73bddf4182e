-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
{#- A table that prefect-runs loads, or no rows where it is not there: dlt makes a table when it gets its first row. -#}
{% macro prefect_table(name) %}
  {%- set table = source("prefect", name) -%}
  {%- if not execute or model.resource_type == "unit_test" or load_relation(table) is not none -%}
    {{ table }}
  {%- else -%}
    ({{ prefect_empty(name) }})
  {%- endif -%}
{% endmacro %}
