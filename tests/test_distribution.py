"""What dlt's own commands make of the source, and of the pipelines that the command has run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from conftest import Copy
from packaging.requirements import Requirement
from prefect_api import PrefectApi

from prefect_runs_pipelines.local.server import LocalServer

SOURCES = Path(__file__).parents[1] / "sources"
PAGE = (Path(__file__).parents[1] / "docs/dlt.md").read_text()
BIN = Path(sys.executable).parent

Run = Callable[..., str]


@pytest.fixture
def run(server: LocalServer, tmp_path: Path) -> Run:
    """Runs a program of this environment in a folder, and gives what it said; it has to end well."""

    def told(folder: Path, *command: str, **environment: str) -> str:
        folder.mkdir(exist_ok=True)
        clean = {
            "PATH": f"{BIN}{os.pathsep}/usr/bin:/bin",
            "HOME": str(tmp_path),
            "DLT_DATA_DIR": str(tmp_path / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "PREFECT_API_URL": server.url,
        }
        result = subprocess.run(
            command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    return told


@pytest.fixture
def repository(tmp_path: Path, run: Run) -> Path:
    """A git repository with the source in it, for `dlt init` takes what is committed."""
    folder = tmp_path / "repository"
    shutil.copytree(SOURCES, folder / "sources", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "The source")
    return folder


def test_copy_made_by_dlt_init_loads(run: Run, repository: Path, tmp_path: Path, api: PrefectApi) -> None:
    run_id = api.flow_run("COMPLETED", tags=["copied"])
    project = tmp_path / "project"
    run(project, "dlt", "init", "prefect_runs", "duckdb", "--location", str(repository))
    # nothing is left to be filled in, and the copy is what runs
    assert not tomllib.loads((project / ".dlt/secrets.toml").read_text())
    where = run(project, "python", "-c", "import prefect_runs; print(prefect_runs.__file__)")
    assert where.strip() == str(project / "prefect_runs/__init__.py")
    run(project, "python", "prefect_runs_pipeline.py")
    with duckdb.connect(str(project / "prefect_runs.duckdb"), read_only=True) as warehouse:
        found = warehouse.execute("SELECT id FROM prefect.flow_runs WHERE id = ?", [run_id]).fetchall()
    assert found == [(run_id,)]


def test_dlt_init_for_a_server_asks_for_its_credentials_alone(run: Run, repository: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    run(project, "dlt", "init", "prefect_runs", "postgres", "--location", str(repository))
    secrets = tomllib.loads((project / ".dlt/secrets.toml").read_text())
    assert list(secrets) == ["destination"]
    assert set(secrets["destination"]["postgres"]["credentials"]) >= {"host", "database", "username", "password"}
    assert "destination='postgres'" in (project / "prefect_runs_pipeline.py").read_text()
    asked = (project / "requirements.txt").read_text().split()
    assert asked[0].startswith("dlt[postgres]")
    ours = (SOURCES / "prefect_runs/requirements.txt").read_text().split()
    # dlt writes the bounds of one package in an order of its own
    assert [Requirement(line) for line in asked[1:]] == [Requirement(line) for line in ours[1:]]


def test_commands_of_dlt_work_on_the_pipeline_of_a_sync(copy: Copy, api: PrefectApi, run: Run, tmp_path: Path) -> None:
    run_id = api.flow_run("COMPLETED")
    since = {"SOURCES__PREFECT_RUNS__FILTERS__START_DATE": copy.since.isoformat()}
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    run(here, "prefect-runs", "sync", "--database", "mine.duckdb", **since)
    told = json.loads(run(here, "prefect-runs", "status", "--database", "mine.duckdb", "--json"))
    name = told["pipeline"]
    commands = re.findall(r"^\$ (dlt pipeline .*)$", PAGE, re.MULTILINE)
    said = {line.split()[3]: run(elsewhere, "bash", "-c", line, NAME=name) for line in commands}
    assert f"pipeline_name: {name}" in said["info"]
    assert "COMPLETED" in said["trace"]
    assert "No failed jobs" in said["failed-jobs"]
    assert "flow_run_states:" in (elsewhere / "prefect_runs.schema.yaml").read_text()
    # what the dashboard does: it attaches to the pipeline, wherever it was started, and asks for rows
    rows = f"import dlt; print(dlt.attach({name!r}).dataset()['flow_runs'].select('id').fetchall())"
    assert run_id in run(elsewhere, "python", "-c", rows)
    assert list(tmp_path.rglob("*.duckdb")) == [here / "mine.duckdb"]


def test_pipeline_of_the_page_loads_and_reads(run: Run, api: PrefectApi, tmp_path: Path) -> None:
    run_id = api.flow_run("COMPLETED", tags=["nightly"])
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert run_id in run(tmp_path / "own", "python", "-c", code)
