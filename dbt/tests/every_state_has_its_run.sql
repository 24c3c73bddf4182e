-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
-- States whose run is not there, though runs of its kind are: the run's row was lost. Of task runs that the server itself
-- lost, only a tombstone tells.
select state.run_kind, state.run_id
from {{ ref("stg_run_states") }} as state
left join {{ ref("stg_runs") }} as run on run.run_kind = state.run_kind and run.id = state.run_id
left join {{ prefect_table("tombstones") }} as gone on gone.id = state.run_id and gone.reason = 'events_only'
where run.id is null
  and gone.id is null
  and state.run_kind in (select run_kind from {{ ref("stg_runs") }})
