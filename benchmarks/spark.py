"""Has Spark read lakes with sample flows, and compares the latest row of every run with DuckDB's copy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from outcome import ROOT, Place

from prefect_runs.tables import TABLES, Table
from prefect_runs_pipelines.demo import IMPATIENT, play
from prefect_runs_pipelines.destination.lake.views import latest_views
from prefect_runs_pipelines.local.environments import environment_python
from prefect_runs_pipelines.local.server import local_server
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.sync import sync

READER = Path(__file__).with_name("spark_reader.py")
PYSPARK = ("pyspark", "setuptools")
PINS = Path(__file__).with_name("environments") / "spark"
PLACE = Place(ROOT / "docs" / "destinations.md", "make spark")
DATASET = "prefect"
COMPARED = ("flow_runs", "task_runs", "flow_run_states", "task_run_states")
FORMATS = {
    "parquet": "parquet files, latest rows by the views of `prefect-runs models --print`",
    "delta": "Delta, the present files as `DeltaTable.file_uris()` names them",
    "iceberg": "Iceberg, the present files as `scan().plan_files()` names them",
}


@dataclass(frozen=True)
class Compared:
    """One table of one lake: rows of Spark, of DuckDB's copy, and how many of either the other lacks."""

    format: str
    table: str
    spark: int
    copy: int
    differing: int

    @property
    def same(self) -> bool:
        """Whether Spark gave the rows of the copy."""
        return self.spark == self.copy > 0 and not self.differing


def without_java() -> str | None:
    """Why Spark cannot be run here, or None."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return None
    return "Spark was not run: there is no Java on this machine (Debian: apt-get install default-jre-headless)"


def load(folder: Path, say: Any) -> None:
    """Sample flows, copied into DuckDB and each lake, then changed, and copied again."""
    with local_server(settings=IMPATIENT) as server:
        for round_name in ("run", "change"):
            play(server, round_name, say)
            for format_ in ("duckdb", *FORMATS):
                os.environ["DESTINATION__FILESYSTEM__BUCKET_URL"] = str(folder / format_)
                os.environ["DESTINATION__FILESYSTEM__TABLE_FORMAT"] = format_ if format_ in FORMATS else "parquet"
                to: dict[str, Any] = {"destination": "filesystem"}
                if format_ == "duckdb":
                    to = {"database": str(folder / "copy.duckdb")}
                options = SyncOptions(server.url, "demo", pipelines_dir=str(folder / f"{format_} pipelines"), **to)
                print(f"{format_}: {sync(options).rows}", flush=True)


def files(folder: Path, format_: str, table: str) -> list[str]:
    """The parquet files that hold the present rows of a table, or its folder, where all of them do."""
    place = folder / format_ / DATASET / table
    if format_ == "delta":
        from deltalake import DeltaTable

        return DeltaTable(place).file_uris()
    if format_ == "iceberg":
        from pyiceberg.table import StaticTable

        newest = max((place / "metadata").glob("*.metadata.json"))
        return [task.file.file_path for task in StaticTable.from_metadata(str(newest)).scan().plan_files()]
    return [str(place)]


def question(table: Table, dataset: str = "") -> str:
    """Every column of a table's rows, and how many tags each has and the last of them."""
    columns = [
        f"CAST(run.{column.name} AS VARCHAR) AS {column.name}" if column.type == "json" else f"run.{column.name}"
        for column in table.columns
    ]
    if "tags" in table.children:
        tags = f"FROM {dataset}{table.name}__tags AS tag WHERE tag._dlt_parent_id = run._dlt_id"
        columns += [f"(SELECT count(*) {tags}) AS tags", f"(SELECT max(value) {tags}) AS last_tag"]
    return f"SELECT {', '.join(columns)} FROM {dataset}{table.name} AS run"


def read_with_spark(folder: Path, format_: str) -> str:
    """Have Spark answer the questions into a folder of each table; Spark's version."""
    names = (*COMPARED, "flow_runs__tags", "task_runs__tags")
    raw = "files_" if format_ == "parquet" else ""
    job: dict[str, Any] = {
        "tables": {f"{raw}{name}": files(folder, format_, name) for name in names},
        "views": {
            name: sqlglot.transpile(sql.replace("prefect.", ""), read="duckdb", write="spark")[0]
            for name, sql in latest_views(DATASET, lambda table: f"files_{table}")
            if name in names and raw
        },
        "answers": {
            str(folder / "answers" / format_ / name): sqlglot.transpile(
                question(TABLES[name]), read="duckdb", write="spark"
            )[0]
            for name in COMPARED
        },
    }
    (folder / "job.json").write_text(json.dumps(job))
    python = environment_python("spark", str(PINS), *PYSPARK)
    command = [str(python), str(READER), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Spark could not read {format_}:\n{done.stderr[-3000:]}")
    return done.stdout.split()[-1]


def compared(folder: Path, format_: str) -> Iterator[Compared]:
    """What Spark answered beside what DuckDB's copy has."""
    with duckdb.connect(str(folder / "copy.duckdb"), read_only=True) as copy:
        for name in COMPARED:
            theirs = f"SELECT * FROM read_parquet('{folder}/answers/{format_}/{name}/*.parquet')"
            ours = question(TABLES[name], f"{DATASET}.")
            counts = []
            for sql in (theirs, ours, f"({theirs}) EXCEPT ALL ({ours})", f"({ours}) EXCEPT ALL ({theirs})"):
                [(count,)] = copy.execute(f"SELECT count(*) FROM ({sql})").fetchall()
                counts.append(count)
            yield Compared(format_, name, counts[0], counts[1], counts[2] + counts[3])


def table(results: list[Compared], version: str) -> str:
    """The results as Markdown."""
    lines = [f"| lake | table | rows by Spark {version} | rows in DuckDB's copy | differing |", "|" + "---|" * 5]
    for one in results:
        lines.append(f"| {FORMATS[one.format]} | `{one.table}` | {one.spark} | {one.copy} | {one.differing} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it; 1 when any row differs."""
    reason = without_java()
    if reason:
        print(reason)
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="prefect-runs-") as temporary:
        folder = Path(temporary)
        load(folder, sys.stdout)
        versions = {format_: read_with_spark(folder, format_) for format_ in FORMATS}
        results = [result for format_ in FORMATS for result in compared(folder, format_)]
    made = table(results, versions["iceberg"])
    print(f"\n{made}\n{time.monotonic() - started:.0f} s")
    PLACE.write(made)
    return 0 if all(result.same for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
