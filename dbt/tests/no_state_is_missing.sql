-- made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those
-- Runs whose states do not number from 1 on without a gap: a state was lost.
select run_kind, run_id
from {{ ref("stg_run_states") }}
where sequence is not null
group by run_kind, run_id
having max(sequence) <> count(*) or min(sequence) <> 1
