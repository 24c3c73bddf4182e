"""The pages of docs/schedulers: what is there to be pasted is pasted and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml
from comparison import column_values
from conftest import Copy
from pages import files
from prefect_api import PrefectApi
from warehouses import DuckdbFile, postgresql

from prefect_runs_pipelines.command.outcomes import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_GAPS, EXIT_OK, EXIT_RETRY
from prefect_runs_pipelines.local.server import free_port

BIN = Path(sys.executable).parent
# what cron gives a command
CRON_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "prefect-runs"}
CODES = {EXIT_ERROR, EXIT_CONFIGURATION, EXIT_RETRY, EXIT_GAPS}


class Unit(ConfigParser):
    """A unit of systemd: names are as they are written, and a `%` is no reference."""

    def __init__(self, text: str) -> None:
        super().__init__(interpolation=None)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read_string(text)


@pytest.fixture
def installed(copy: Copy, api: PrefectApi) -> dict[str, str]:
    """The files of the page about systemd and cron, with the places and the server of this test."""
    api.flow_run("COMPLETED", name="to be copied")
    places = {
        "/opt/prefect-runs/bin": str(BIN),
        "/var/lib/prefect-runs": str(copy.folder),
        "/etc/prefect-runs": str(copy.folder),
        "http://127.0.0.1:4200/api": copy.url,
        "User=prefect-runs": "User=root",
    }
    pasted = {}
    for name, text in files("schedulers/cron.md").items():
        for place, here in places.items():
            text = text.replace(place, here)
        pasted[name] = text
    # other tests share the server
    pasted["environment"] += f"SOURCES__PREFECT_RUNS__FILTERS__START_DATE={copy.since.isoformat()}\n"
    for name, text in pasted.items():
        (copy.folder / name).write_text(text)
    return pasted


def loaded(database: Path) -> list[str]:
    """Names of the flow runs in a DuckDB file."""
    return column_values(DuckdbFile(database.parent, database.name), "SELECT name FROM prefect.flow_runs")


class TestSystemd:
    def test_systemd_takes_the_units(self, installed: dict[str, str], copy: Copy) -> None:
        if not shutil.which("systemd-analyze"):
            pytest.skip("there is no systemd-analyze here")
        names = ["prefect-runs.service", "prefect-runs.timer"]
        checked = subprocess.run(
            ["systemd-analyze", "verify", *names], cwd=copy.folder, capture_output=True, text=True, check=False
        )
        own = [line for line in checked.stderr.splitlines() if "prefect-runs" in line]
        assert (checked.returncode, own) == (0, []), checked.stderr
        when = Unit(installed["prefect-runs.timer"])["Timer"]["OnCalendar"]
        told = subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, text=True, check=True)
        assert re.search(r"Normalized form: \*-\*-\* \*:00/5:00", told.stdout), told.stdout

    def test_the_service_syncs(self, installed: dict[str, str], copy: Copy) -> None:
        service = Unit(installed["prefect-runs.service"])["Service"]
        done = self._start(service)
        assert done.returncode == EXIT_OK, done.stderr
        assert "to be copied" in loaded(copy.folder / "prefect_runs.duckdb")
        assert "nothing is known to be missing" in done.stdout

    def test_what_can_help_is_tried_again_and_gaps_are_no_failure(self, installed: dict[str, str]) -> None:
        service = Unit(installed["prefect-runs.service"])["Service"]
        assert service["Restart"] == "on-failure"
        fine = {int(code) for code in service["SuccessExitStatus"].split()}
        left = {int(code) for code in service["RestartPreventExitStatus"].split()}
        assert fine == {EXIT_GAPS}
        assert CODES - fine - left == {EXIT_RETRY}
        nobody = f"http://127.0.0.1:{free_port()}/api"
        unanswered = self._start(service, PREFECT_API_URL=nobody, RUNTIME__REQUEST_MAX_ATTEMPTS="1")
        assert unanswered.returncode == EXIT_RETRY

    @staticmethod
    def _start(service: Any, **instead: str) -> subprocess.CompletedProcess[str]:
        """What systemd does to start it: the environment is that of the file and next to nothing else."""
        lines = Path(service["EnvironmentFile"]).read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
        return subprocess.run(
            shlex.split(service["ExecStart"]),
            env={"PATH": "/usr/bin:/bin", **given, **instead},
            cwd=service["WorkingDirectory"],
            capture_output=True,
            text=True,
            check=False,
        )


def test_the_line_of_cron_syncs_and_says_nothing(installed: dict[str, str], copy: Copy) -> None:
    [line] = [line for line in installed["prefect-runs"].splitlines() if line[0] != "#"]
    *when, user, command = line.split(" ", 6)
    assert (len(when), user) == (5, "prefect-runs")
    # cron would make a new line of it
    assert "%" not in command
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=CRON_ENVIRONMENT, cwd="/", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "to be copied" in loaded(copy.folder / "prefect_runs.duckdb")
    assert json.loads((copy.folder / "last-sync.json").read_text())["whole"]
    (copy.folder / "environment").write_text(
        "PREFECT_API_URL=http://127.0.0.1:1/api\nRUNTIME__REQUEST_MAX_ATTEMPTS=1\n"
    )
    failed = subprocess.run(
        ["/bin/sh", "-c", command], env=CRON_ENVIRONMENT, cwd="/", capture_output=True, text=True, check=False
    )
    assert "got no answer" in failed.stdout


@pytest.fixture(scope="module")
def warehouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("workflow")) as url:
        yield url


class TestGithubActions:
    PAGE = "schedulers/github-actions.md"

    def _workflow(self) -> Any:
        return yaml.safe_load(files(self.PAGE)["prefect-runs.yml"])

    def _run(self, copy: Copy, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A `run:` step, as GitHub's machines start it."""
        return subprocess.run(
            ["bash", "-e", "-c", script],
            env={
                "PATH": f"{BIN}{os.pathsep}/usr/bin:/bin",
                "HOME": str(copy.folder),
                "SOURCES__PREFECT_RUNS__FILTERS__START_DATE": copy.since.isoformat(),
                **environment,
            },
            cwd=copy.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_the_workflow_is_whole(self) -> None:
        workflow = self._workflow()
        # YAML takes the key `on` for a truth value
        assert workflow[True].keys() == {"schedule", "workflow_dispatch"}
        assert workflow["concurrency"] == {"group": "prefect-runs", "cancel-in-progress": False}
        assert [step.get("name") or step["uses"] for step in workflow["jobs"]["sync"]["steps"]] == [
            "actions/setup-python@v5",
            "install",
            "sync",
        ]

    def test_the_sync_step_syncs_and_gaps_are_a_warning(self, copy: Copy, api: PrefectApi, warehouse_url: str) -> None:
        job = self._workflow()["jobs"]["sync"]
        # a socket of this machine instead of a host: the only place where the test's PostgreSQL listens
        secrets = {
            "PREFECT_API_URL": copy.url,
            "PREFECT_API_KEY": "",
            "WAREHOUSE": re.sub(r"@/", "@localhost:5432/", warehouse_url),
        }
        environment = {
            name: re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda found: secrets[found[1]], value)
            for name, value in job["env"].items()
        }
        run_id = api.flow_run("RUNNING")
        *_, sync = job["steps"]
        done = self._run(copy, sync["run"], environment)
        assert done.returncode == 0, done.stderr
        with psycopg2.connect(warehouse_url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM prefect.flow_runs")
            assert cursor.fetchall() == [(run_id,)]
        connection.close()
        for code, ends, said in (
            (EXIT_GAPS, 0, "::warning::"),
            (EXIT_RETRY, EXIT_RETRY, ""),
        ):
            (copy.folder / "prefect-runs").write_text(f"#!/bin/sh\nexit {code}\n")
            (copy.folder / "prefect-runs").chmod(0o755)
            instead = {**environment, "PATH": f"{copy.folder}{os.pathsep}/usr/bin:/bin"}
            ended = self._run(copy, sync["run"], instead)
            assert ended.returncode == ends
            assert said in ended.stdout

    def test_the_steps_with_a_file_go_on_from_the_file_alone(self, copy: Copy, api: PrefectApi) -> None:
        steps = yaml.safe_load(files(self.PAGE)["duckdb-steps.yml"])
        [script] = [step["run"] for step in steps if step.get("name") == "sync"]
        [kept] = {step["with"]["path"] for step in steps if "with" in step}
        environment = {"PREFECT_API_URL": copy.url}
        api.flow_run("RUNNING", name="first")
        first = self._run(copy, script, environment)
        assert "first load" in first.stdout, first.stderr
        # the next machine has what the cache kept, and nothing else
        copy.folder.rename(copy.folder.with_name("before"))
        copy.folder.mkdir()
        shutil.move(copy.folder.with_name("before") / kept, copy.folder / kept)
        api.flow_run("RUNNING", name="second")
        second = self._run(copy, script, environment)
        assert "changes since" in second.stdout, second.stderr
        assert {"first", "second"} <= set(loaded(copy.folder / kept))
