"""The dbt package and the views: green and the same on DuckDB and PostgreSQL, on what was synced from one server."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
import yaml
from warehouses import Answers, answers, postgresql

from prefect_runs import ConfigurationError
from prefect_runs.clock import as_utc
from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.dbt import dbt_environment
from prefect_runs_pipelines.dbt_package import write_package
from prefect_runs_pipelines.demo import IMPATIENT, play
from prefect_runs_pipelines.local.server import local_server
from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.models.queries import Query
from prefect_runs_pipelines.models.questions import QUESTIONS
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.report import write_report
from prefect_runs_pipelines.sync import sync
from prefect_runs_pipelines.views import create_views

COMMITTED = Path(__file__).parents[1] / "dbt"
OTHER_DIALECTS = ("snowflake", "bigquery", "databricks", "redshift", "clickhouse", "trino")
# what depends on when it was asked, and how far that may be apart
ASKED_LATER = re.compile(
    r"run_seconds|run_hours|seconds_since_success|start_delay_seconds|delay_p\d+|copied_until|as_of"
)
ASKED_WITHIN_SECONDS = 300

PROFILES = {
    "duckdb": {"type": "duckdb", "path": "{{ env_var('WAREHOUSE') }}", "schema": "dbt_models", "threads": 1},
    "postgres": {
        "type": "postgres",
        "host": "{{ env_var('WAREHOUSE') }}",
        "user": "postgres",
        "password": "none",
        "port": 5432,
        "dbname": "postgres",
        "schema": "dbt_models",
        "threads": 2,
    },
}


@dataclass
class Warehouse:
    """One warehouse: how commands are told of it, the URL of a PostgreSQL, what it answers."""

    kind: str
    options: SyncOptions
    url: str | None

    @contextlib.contextmanager
    def answers(self) -> Iterator[Answers]:
        with answers(self.options, self.url) as rows:
            yield rows

    def dbt(self, package: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run dbt as a user of the package does."""
        profile = {"prefect_runs": {"target": "test", "outputs": {"test": PROFILES[self.kind]}}}
        (package / "profiles.yml").write_text(yaml.safe_dump(profile))
        socket = re.search(r"host=([^&]+)", self.url or "")
        environment = {**os.environ, "WAREHOUSE": socket[1] if socket else self.options.where}
        dbt = Path(dbt_environment(self.kind).context.env_exe).with_name("dbt")
        return subprocess.run(
            [str(dbt), "--no-use-colors", *command, "--profiles-dir", "."],
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def warehouses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Warehouse]]:
    """Two warehouses with what one server had after sample flows ran, and the views."""
    folder = tmp_path_factory.mktemp("warehouses")
    with postgresql(folder) as url:
        found = {}
        with local_server(settings=IMPATIENT) as server:
            play(server, "run", io.StringIO())
            for kind in ("duckdb", "postgres"):
                options = SyncOptions(
                    api_url=server.url,
                    workspace="sample",
                    destination=kind,
                    database=str(folder / "sample.duckdb") if kind == "duckdb" else None,
                    pipelines_dir=str(folder / "pipelines"),
                )
                found[kind] = Warehouse(kind, options, url if kind == "postgres" else None)
            # a server writes some of it late, and marks runs as late
            while sum(brought(warehouse) for warehouse in found.values()):
                pass
        for warehouse in found.values():
            create_views(warehouse.options)
        yield found


def brought(warehouse: Warehouse) -> int:
    """How much a sync changed."""
    report = sync(warehouse.options)
    assert report.whole
    return sum(report.new[table] + report.changed[table] for table in (*RUN_TABLES, *STATE_TABLES))


def plain(value: Any) -> Any:
    return as_utc(value) if isinstance(value, datetime) else value


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stable = [{name: plain(value) for name, value in row.items()} for row in rows]
    return sorted(stable, key=lambda row: str([value for value in row.values() if not isinstance(value, float)]))


@pytest.mark.long
@pytest.mark.parametrize("name", [model.name for model in models()])
def test_gives_the_same_answer_on_both(warehouses: dict[str, Warehouse], name: str) -> None:
    answered = []
    for warehouse in warehouses.values():
        with warehouse.answers() as rows:
            answered.append(in_order(rows(f"SELECT * FROM prefect.{name}")))
    on_duckdb, on_postgres = answered
    assert len(on_duckdb) == len(on_postgres)
    for one, other in zip(on_duckdb, on_postgres, strict=True):
        assert one.keys() == other.keys()
        for column, value in one.items():
            if isinstance(value, datetime) and ASKED_LATER.fullmatch(column):
                assert abs(value - other[column]) <= timedelta(seconds=ASKED_WITHIN_SECONDS), (column, one, other)
            elif isinstance(value, int | float) and not isinstance(value, bool) and other[column] is not None:
                tolerance = ASKED_WITHIN_SECONDS if ASKED_LATER.fullmatch(column) else 0.002
                assert value == pytest.approx(other[column], abs=tolerance), (column, one, other)
            else:
                assert value == other[column], (column, one, other)


def test_the_samples_have_something_to_say(warehouses: dict[str, Warehouse]) -> None:
    """Else the answers above would be the same for want of runs."""
    with warehouses["duckdb"].answers() as rows:
        counts = {model.name: len(rows(f"SELECT 1 FROM prefect.{model.name}")) for model in models()}
        outcomes = {row["outcome"] for row in rows("SELECT DISTINCT outcome FROM prefect.flow_run_facts")}
    assert [name for name, count in counts.items() if not count] == []
    assert {"completed", "failed", "crashed"} <= outcomes


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_ten_questions_have_answers(warehouses: dict[str, Warehouse], question: Query) -> None:
    with warehouses["duckdb"].answers() as rows:
        # nobody forced a state in these
        assert rows(question.sql) or question.name == "forced"


def test_the_report_reads_postgresql_too(warehouses: dict[str, Warehouse], tmp_path: Path) -> None:
    now = datetime.now(UTC)
    one, other = [
        write_report(warehouse.options, tmp_path / f"{kind}.html", 14, now) for kind, warehouse in warehouses.items()
    ]
    assert one.runs == other.runs > 5
    assert [run["id"] for run in one.lanes] == [run["id"] for run in other.lanes]
    assert [len(run["tasks"]) for run in one.inside] == [len(run["tasks"]) for run in other.inside]
    assert [flow["flow_name"] for flow in one.flows] == [flow["flow_name"] for flow in other.flows]
    assert one.recovery == other.recovery


class TestPackage:
    @pytest.mark.parametrize("kind", ["duckdb", "postgres"])
    def test_builds_and_is_tested(self, warehouses: dict[str, Warehouse], kind: str, tmp_path: Path) -> None:
        package = tmp_path / "prefect_runs"
        if kind == "duckdb":
            shutil.copytree(COMMITTED, package)
        else:
            write_package(package, kind)
        built = warehouses[kind].dbt(package, "build")
        assert built.returncode == 0, built.stdout[-3000:]
        assert re.search(r"PASS=1\d\d WARN=0 ERROR=0 SKIP=0", built.stdout), built.stdout[-500:]
        with warehouses[kind].answers() as rows:
            for model in models():
                made = rows(f"SELECT count(*) AS n FROM dbt_models.{model.name}")
                assert made == rows(f"SELECT count(*) AS n FROM prefect.{model.name}"), model.name

    def test_knows_how_fresh_the_copy_is(self, warehouses: dict[str, Warehouse], tmp_path: Path) -> None:
        package = tmp_path / "prefect_runs"
        shutil.copytree(COMMITTED, package)
        fresh = warehouses["duckdb"].dbt(package, "source", "freshness")
        assert fresh.returncode == 0, fresh.stdout[-2000:]
        assert "PASS freshness of prefect.syncs" in fresh.stdout

    def test_is_the_one_that_is_generated(self, tmp_path: Path) -> None:
        write_package(tmp_path)
        own = ("target", "logs", ".user.yml")
        committed = {
            path.relative_to(COMMITTED): path.read_text()
            for path in COMMITTED.rglob("*")
            if path.is_file() and path.relative_to(COMMITTED).parts[0] not in own
        }
        generated = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
        assert committed == generated, "run prefect-runs dbt --write dbt"

    @pytest.mark.parametrize("dialect", OTHER_DIALECTS)
    def test_can_be_read_in_dialects_that_it_never_ran_in(self, dialect: str, tmp_path: Path) -> None:
        write_package(tmp_path, dialect)
        files = list((tmp_path / "models").rglob("*.sql"))
        assert len(files) == len(models())
        for file in files:
            rendered = re.sub(r"\{\{ \w+\('(\w+)'\) \}\}", r"\1", file.read_text())
            assert "{" not in rendered
            assert isinstance(sqlglot.parse_one(rendered, read=dialect), sqlglot.exp.Query), file

    @pytest.mark.parametrize(("name", "text"), [("thesis.txt", "all my work"), ("dbt_project.yml", "name: my_company")])
    def test_is_not_written_over_something_else(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigurationError, match="is not this package"):
            write_package(tmp_path)
        assert [path.read_text() for path in tmp_path.iterdir()] == [text]

    def test_replaces_an_earlier_one(self, tmp_path: Path) -> None:
        write_package(tmp_path, "snowflake")
        no_more = tmp_path / "models" / "marts" / "no_more.sql"
        no_more.write_text((tmp_path / "models" / "marts" / "daily_figures.sql").read_text())
        write_package(tmp_path, "duckdb")
        assert not no_more.exists()

    @pytest.mark.parametrize("place", ["models/marts/mine.sql", "models/mine.yml", "macros/m.sql", "tests/a/t.sql"])
    def test_is_not_written_over_files_of_somebody_else(self, tmp_path: Path, place: str) -> None:
        write_package(tmp_path)
        mine = tmp_path / place
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("select 1")
        before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(ConfigurationError, match=f"would be lost: {place}"):
            write_package(tmp_path, "snowflake")
        assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_of_an_unknown_dialect(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="Unknown dialect 'klingon'"):
            write_package(tmp_path, "klingon")


class TestCommand:
    @pytest.mark.long
    def test_says_what_failed(self, warehouses: dict[str, Warehouse], capfd: pytest.CaptureFixture[str]) -> None:
        options = warehouses["duckdb"].options
        command = ["dbt", "--database", options.where, "--workspace", "sample", "--json"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DLT_DATA_DIR", str(Path(options.where).with_name("dlt")))
            with duckdb.connect(options.where) as connection:
                connection.execute("BEGIN")
                lost = "(SELECT id FROM prefect.task_runs WHERE state_id IS NOT NULL ORDER BY id LIMIT 1)"
                connection.execute("CREATE TABLE kept AS SELECT * FROM prefect.task_runs")
                connection.execute(f"DELETE FROM prefect.task_runs WHERE id = {lost}")
                untold = "(SELECT max(id) FROM prefect.flow_runs WHERE state_id IS NOT NULL)"
                connection.execute("CREATE TABLE kept_states AS SELECT * FROM prefect.flow_run_states")
                connection.execute(f"DELETE FROM prefect.flow_run_states WHERE flow_run_id = {untold}")
                connection.execute("COMMIT")
            try:
                assert main(command) == 5
            finally:
                with duckdb.connect(options.where) as connection:
                    connection.execute("DELETE FROM prefect.task_runs")
                    connection.execute("INSERT INTO prefect.task_runs SELECT * FROM kept")
                    connection.execute("DROP TABLE kept")
                    connection.execute("DELETE FROM prefect.flow_run_states")
                    connection.execute("INSERT INTO prefect.flow_run_states SELECT * FROM kept_states")
                    connection.execute("DROP TABLE kept_states")
        report = json.loads(capfd.readouterr().out)
        assert set(report["models"]) == {model.name for model in models()}
        # all others
        assert report["tests_passed"] > 80
        untold_run, lost_run = sorted(report["failures"])
        assert untold_run.startswith("every_run_has_its_present_state (fail)")
        assert lost_run.startswith("every_state_has_its_run (fail)")
        assert (report["source_dataset"], report["models_dataset"]) == ("prefect", "prefect_models")

    def test_needs_a_first_load(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DLT_DATA_DIR", str(tmp_path))
            assert main(["dbt", "--database", str(tmp_path / "empty.duckdb")]) == 2
        assert "prefect-runs sync" in capfd.readouterr().err

    def test_leaves_the_loaded_dataset_alone(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        assert main(["dbt", "--database", str(tmp_path / "x.duckdb"), "--models-dataset", "prefect"]) == 2
        assert "a dataset of their own" in capfd.readouterr().err
