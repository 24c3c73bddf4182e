-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
-- Runs whose present state is not in their history: the newest state was lost, or all of them. Of a run that is gone the
-- history may never have been loaded.
select run.run_kind, run.id
from {{ ref("stg_runs") }} as run
left join {{ ref("stg_run_states") }} as present on present.id = run.state_id
where run.state_id is not null
  and present.id is null
  and exists (
    select 1
    from {{ ref("stg_run_states") }} as state
    where state.workspace = run.workspace
      and state.run_kind = run.run_kind
      and (run.is_live or state.run_id = run.id)
  )
