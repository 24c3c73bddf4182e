"""Everything in the READMEs is run: commands, queries, configuration, code, and the names they mention."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import Copy
from pages import with_examples
from prefect_api import PrefectApi

from prefect_runs import RESOURCES, PrefectCredentials, PrivacyRules, ReadSettings, RunFilters
from prefect_runs.tables import TABLES
from prefect_runs_pipelines import cli
from prefect_runs_pipelines.local.server import LocalServer
from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.models.queries import QUERIES

ROOT = Path(__file__).parent.parent
READMES = {"main": ROOT / "README.md", "source": ROOT / "sources/prefect_runs/README.md"}
SPECS = {
    "settings": ReadSettings,
    "filters": RunFilters,
    "privacy": PrivacyRules,
    "credentials": PrefectCredentials,
}


def blocks(readme: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", READMES[readme].read_text(), re.MULTILINE | re.DOTALL)


def commands(readme: str) -> list[str]:
    """What stands behind a `$` in its console blocks."""
    return [line[2:] for block in blocks(readme, "console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def in_a_folder(server: LocalServer, api: PrefectApi, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody whose Prefect client is set up, with a run to copy."""
    api.task_run("COMPLETED", flow_run_id=api.flow_run("COMPLETED", tags=["nightly"]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PREFECT_API_URL": server.url, "DLT_DATA_DIR": str(tmp_path / "dlt")}


def test_commands_of_the_readme_are_known() -> None:
    known = {
        "make demo",
        "make test",
        *(f"prefect-runs {name}" for name in ("sync", "verify", "models", "dbt", "report")),
    }
    assert {command for command in commands("main") if not command.startswith("export PREFECT_API_")} == known
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: " in makefile for target in ("demo", "test", "bench"))


def test_sync_and_verify_print_the_screens_that_the_readme_shows(in_a_folder: dict[str, str], tmp_path: Path) -> None:
    for command in ("sync", "verify"):
        result = subprocess.run(
            ["prefect-runs", command], env=in_a_folder, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == cli.EXIT_OK, result.stderr
        start = f"$ prefect-runs {command}\n"
        shown = next(block for block in blocks("main", "console") if block.startswith(start) and "dataset" in block)
        screen = result.stdout
        if command == "verify":
            # the tests' server goes on working after the sync; what it did since is named, and no drift
            screen = re.sub(r"\n\ntable +expected from.*?\n\n", "\n\n", screen, flags=re.DOTALL)
        assert shape(screen) == shape(shown.removeprefix(start))
    # dbt's environment takes a minute to install; test_dbt.py runs that command
    for command in ("models", "report"):
        made = subprocess.run(
            ["prefect-runs", command], env=in_a_folder, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert made.returncode == cli.EXIT_OK, made.stderr
    assert (tmp_path / "prefect_runs.duckdb").exists()
    assert (tmp_path / "prefect_runs.html").exists()
    listed = re.findall(r"`(\w+)`", READMES["main"].read_text().partition("\n## Views\n")[2].partition("\n## ")[0])
    assert {model.name for model in models() if model.layer == "marts"} - {"run_figures", "running_peaks"} == set(
        listed
    )


def shape(screen: str) -> list[str]:
    """A screen without what differs from day to day: numbers, times, ports, widths."""
    words = re.sub(r"\d[\d.,:-]*", "0", re.sub(r"-{2,}", "--", screen))
    # tables appear when they have their first row
    optional = ("deployments", "work_pools", "work_queues")
    return [re.sub(r" +", " ", line).strip() for line in words.strip().splitlines() if not line.startswith(optional)]


def test_python_of_the_readmes_runs(in_a_folder: dict[str, str], tmp_path: Path) -> None:
    # the server that dlt's configuration names, and none that Prefect's client would find
    configured = {**in_a_folder, "SOURCES__PREFECT_RUNS__CREDENTIALS__API_URL": in_a_folder["PREFECT_API_URL"]}
    del configured["PREFECT_API_URL"]
    for readme in READMES:
        for code in blocks(readme, "python"):
            result = subprocess.run(
                [sys.executable, "-c", code], env=configured, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
    with duckdb.connect(str(tmp_path / "my_runs.duckdb"), read_only=True) as warehouse:
        assert (warehouse.execute("SELECT count(*) FROM prefect.flow_runs").fetchone() or (0,))[0] > 0


# what the one query begins with that the demo does not ask
OF_LIVE_RUNS = "select r.* from prefect.flow_runs"


@pytest.mark.parametrize("number", range(5))
def test_query_of_the_readme_is_the_demo_s_and_has_the_columns_shown(copy: Copy, api: PrefectApi, number: int) -> None:
    sql = [block for block in blocks("main", "sql") if OF_LIVE_RUNS not in block][number]
    assert sql.strip() == QUERIES[number].sql.strip()
    assert QUERIES[number].question in READMES["main"].read_text()
    api.task_run("COMPLETED", flow_run_id=api.flow_run("FAILED"))
    copy.sync()
    header = re.search(rf"{re.escape(sql)}```\n\n```text\n(.*?)\n", READMES["main"].read_text())
    assert header
    with duckdb.connect(str(copy.database), read_only=True) as warehouse:
        columns = [column[0] for column in warehouse.execute(sql).description or ()]
    assert header[1].split() == columns


def test_query_of_live_runs_leaves_out_what_is_gone(copy: Copy, api: PrefectApi) -> None:
    [sql] = [block for block in blocks("main", "sql") if OF_LIVE_RUNS in block]
    live, gone = api.flow_run("RUNNING"), api.flow_run("RUNNING")
    copy.sync()
    api.call("DELETE", f"/flow_runs/{gone}")
    copy.sync()
    assert copy.values(sql) == [live]


@pytest.mark.parametrize("readme", READMES)
def test_configuration_of_the_readmes_exists(readme: str) -> None:
    found = 0
    for block in blocks(readme, "toml"):
        configured: dict[str, Any] = tomllib.loads(with_examples(block))["sources"]["prefect_runs"]
        for section, spec in SPECS.items():
            for key in configured.get(section, {}):
                names = {field.name for field in fields(spec)}
                assert key in names, f"{section}.{key}"
                found += 1
    assert found


def test_settings_that_are_no_examples_have_their_defaults() -> None:
    [block] = [block for block in blocks("source", "toml") if "[sources.prefect_runs.settings]" in block]
    shown, examples = tomllib.loads(block), tomllib.loads(with_examples(block))
    settings = shown["sources"]["prefect_runs"].pop("settings")
    defaults = {field.name: getattr(ReadSettings(), field.name) for field in fields(ReadSettings)}
    assert settings == {name: value for name, value in defaults.items() if name in settings}
    # and nothing else is configured by who pastes it all
    assert shown == {"sources": {"prefect_runs": {"filters": {}, "privacy": {}}}}
    for name in examples["sources"]["prefect_runs"]["settings"].keys() - settings:
        assert defaults[name] in (None, False), f"{name} is commented out, and has a default to show"


def test_every_setting_filter_resource_and_table_is_in_a_readme() -> None:
    text = "".join(path.read_text() for path in READMES.values())
    names = [
        field.name
        for spec in (ReadSettings, RunFilters, PrivacyRules)
        for field in fields(spec)
        if field.name[0] != "_"
    ]
    for name in [*names, *RESOURCES, *TABLES]:
        assert name in text, name


def test_exit_codes_and_options_of_the_readme_are_the_command_s(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    for command in ("", "sync", "verify", "backfill", "status"):
        with pytest.raises(SystemExit):
            cli.main([*command.split(), "--help"])
        shown += " ".join(capsys.readouterr().out.split())
    readme = READMES["main"].read_text()
    for code, meaning in re.findall(r"^\| (\d) \| (.*) \|$", readme, re.MULTILINE):
        assert f"{code} {meaning.replace('`', '')}" in shown
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help", "--version"}
    assert options <= set(re.findall(r"--[a-z-]+", readme))


def test_links_lead_somewhere() -> None:
    for path in READMES.values():
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), link
