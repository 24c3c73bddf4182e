-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
-- Runs of the source that a mart lacks, or has though the source does not.
{% for kind in ("flow", "task") %}
select '{{ kind }}' as run_kind, coalesce(loaded.id, mart.id) as run_id
from {{ prefect_table(kind ~ "_runs") }} as loaded
full outer join {{ ref(kind ~ "_run_facts") }} as mart on mart.id = loaded.id
where loaded.id is null or mart.id is null
{{ "union all" if not loop.last }}
{% endfor %}
