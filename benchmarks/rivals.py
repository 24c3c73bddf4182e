"""What a user would write instead, each as a command that prints requests, bytes and rows.

    python benchmarks/rivals.py rest_api|rest_api_tuned|requests URL [--states] [--before TIME]

`rest_api` is dlt's generic source: offset paging, merge on id, states as a child resource of the runs; `rest_api_tuned`
is the same with what its performance guide adds: resources extracted in parallel, parquet files. `requests` is a loop
over pages and runs that writes NDJSON, which DuckDB reads. All load into `rival.duckdb` in the present folder.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import requests
from requests.adapters import HTTPAdapter

DATABASE, SCHEMA = "rival.duckdb", "prefect"
PAGE = 200
KINDS = ("flow", "task")
# free-form values: without these hints dlt makes a column of every key of every run's parameters
FREE_FORM = ("parameters", "labels", "context", "empirical_policy", "task_inputs", "job_variables", "created_by")


def page_filter(kind: str, before: str | None) -> dict[str, Any]:
    """The body that asks for runs expected before a time; by id, for only then are offsets of a still table sound."""
    wanted = {f"{kind}_runs": {"expected_start_time": {"before_": before}}} if before else {}
    return {**wanted, "sort": "ID_DESC"}


def rest_api(url: str, states: bool, before: str | None, tuned: bool = False) -> None:
    """dlt's generic source, merged into DuckDB."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    def runs(kind: str) -> dict[str, Any]:
        paginator = {
            "type": "offset",
            "limit": PAGE,
            "offset_body_path": "offset",
            "limit_body_path": "limit",
            "total_path": None,
        }
        return {
            "name": f"{kind}_runs",
            "columns": {name: {"data_type": "json"} for name in FREE_FORM},
            "endpoint": {
                "path": f"{kind}_runs/filter",
                "method": "POST",
                "json": page_filter(kind, before),
                "paginator": paginator,
                "data_selector": "$",
            },
        }

    def history(kind: str) -> dict[str, Any]:
        return {
            "name": f"{kind}_run_states",
            "include_from_parent": ["id"],
            "endpoint": {
                "path": f"{kind}_run_states/",
                "params": {f"{kind}_run_id": f"{{resources.{kind}_runs.id}}"},
                "paginator": "single_page",
                "data_selector": "$",
            },
        }

    config: Any = {
        "client": {"base_url": f"{url}/"},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge", "parallelized": tuned},
        "resources": [*map(runs, KINDS), *(map(history, KINDS) if states else ())],
    }
    pipeline = dlt.pipeline("rival", destination=dlt.destinations.duckdb(DATABASE), dataset_name=SCHEMA)
    pipeline.run(rest_api_source(config, max_table_nesting=1), loader_file_format="parquet" if tuned else None)


def loop(url: str, states: bool, before: str | None) -> None:
    """Pages and runs one after the other, NDJSON, DuckDB."""
    session = requests.Session()

    def pages(kind: str) -> Iterator[list[dict[str, Any]]]:
        offset = 0
        while True:
            body = {**page_filter(kind, before), "offset": offset, "limit": PAGE}
            reply = session.post(f"{url}/{kind}_runs/filter", json=body, timeout=60)
            reply.raise_for_status()
            yield reply.json()
            if len(reply.json()) < PAGE:
                return
            offset += PAGE

    tables = []
    for kind in KINDS:
        with Path(f"{kind}_runs.ndjson").open("w") as runs, Path(f"{kind}_run_states.ndjson").open("w") as histories:
            for page in pages(kind):
                for run in page:
                    runs.write(json.dumps(run) + "\n")
                    if states:
                        params = {f"{kind}_run_id": run["id"]}
                        reply = session.get(f"{url}/{kind}_run_states/", params=params, timeout=60)
                        reply.raise_for_status()
                        # the endpoint does not say whose states they are where the details do not
                        histories.writelines(json.dumps({**state, **params}) + "\n" for state in reply.json())
        tables += [f"{kind}_runs", *([f"{kind}_run_states"] if states else [])]
    with duckdb.connect(DATABASE) as warehouse:
        warehouse.execute(f"CREATE SCHEMA {SCHEMA}")
        for table in tables:
            warehouse.execute(
                f"CREATE TABLE {SCHEMA}.{table} AS FROM read_json('{table}.ndjson', format = 'newline_delimited')"
            )


def loaded_rows(states: bool) -> int:
    """Runs and states in the warehouse."""
    tables = [f"{kind}_{what}" for kind in KINDS for what in ("runs", *(["run_states"] if states else []))]
    with duckdb.connect(DATABASE, read_only=True) as warehouse:
        counts = [warehouse.execute(f"SELECT count(*) FROM {SCHEMA}.{table}").fetchone() for table in tables]
    return sum(count[0] for count in counts if count)


def counted() -> Counter[str]:
    """Requests and bytes of all sessions of this process from now on."""
    counts: Counter[str] = Counter()
    send = HTTPAdapter.send

    def counting(self: HTTPAdapter, *args: Any, **kwargs: Any) -> requests.Response:
        reply = send(self, *args, **kwargs)
        # read now as it would be read a moment later
        _ = reply.content
        counts.update({"requests": 1, "bytes": int(reply.raw.tell())})
        return reply

    HTTPAdapter.send = counting  # type: ignore[method-assign]
    return counts


RIVALS = {"rest_api": rest_api, "rest_api_tuned": partial(rest_api, tuned=True), "requests": loop}


def main() -> None:
    """Load, and print what that took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("url")
    parser.add_argument("--states", action="store_true")
    parser.add_argument("--before")
    asked = parser.parse_args()
    counts = counted()
    RIVALS[asked.rival](asked.url, asked.states, asked.before)
    print(json.dumps({**counts, "rows": loaded_rows(asked.states)}))


if __name__ == "__main__":
    main()
