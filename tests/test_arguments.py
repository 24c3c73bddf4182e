"""The command line: every command has its page of the manual, and what the pages say holds."""

from __future__ import annotations

import importlib.metadata
import shlex
import tomllib
from pathlib import Path

import pytest

from prefect_runs_pipelines import cli
from prefect_runs_pipelines.arguments import parser
from prefect_runs_pipelines.manual import COMMAND, PAGES

ROOT = Path(__file__).parents[1]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints before it ends at once."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert list(PAGES) == list(cli.COMMANDS)


@pytest.mark.parametrize("command", ["", *PAGES])
def test_help_fits_a_terminal_and_has_every_part(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *command.split(), "--help")
    assert max(map(len, text.splitlines())) <= 80
    parts = ["usage: prefect-runs", "options:", "examples:", "configuration:", "exit codes:", "see also:"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


@pytest.mark.parametrize("command", ["", *PAGES])
def test_examples_of_the_manual_are_understood(command: str) -> None:
    page = PAGES.get(command, COMMAND)
    for example, _ in page.examples:
        program, *arguments = shlex.split(example)
        assert program == "prefect-runs"
        if "--help" not in arguments:
            assert parser().parse_args(arguments).command in ([command] if command else PAGES)


def test_commands_that_a_page_leads_to_are_there() -> None:
    for page in [COMMAND, *PAGES.values()]:
        for line in page.see_also:
            program, command, *_ = line.split()
            assert program != "prefect-runs" or command in [*PAGES, "COMMAND"]


def test_version_is_the_one_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dlt = importlib.metadata.version("dlt")
    assert shown(capsys, "--version").startswith(f"prefect-runs {version} (dlt {dlt}, Python 3.")
