"""Loads run metadata of a Prefect server into DuckDB: an example to start from.

With nothing configured it reads the server that Prefect's own client would use, or http://127.0.0.1:4200/api.
"""

import dlt

from prefect_runs import prefect_runs, unfinished


def load_everything() -> None:
    """Load what changed since the last run; at first everything, in chunks that survive a kill."""
    pipeline = dlt.pipeline("prefect_runs", destination="duckdb", dataset_name="prefect", progress="log")
    while True:
        print(pipeline.run(prefect_runs(), loader_file_format="parquet"))
        if not unfinished(dict(pipeline.state)):
            return


def load_failed_runs() -> None:
    """Load runs that ended badly, with their state history."""
    pipeline = dlt.pipeline("prefect_failures", destination="duckdb", dataset_name="prefect")
    source = prefect_runs(filters={"state_types": ["FAILED", "CRASHED"]})
    print(pipeline.run(source.with_resources("flow_runs", "flow_run_states", "flows")))


if __name__ == "__main__":
    load_everything()
