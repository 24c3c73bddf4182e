"""The command line: every command has its page of the manual, and what the pages say holds."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import duckdb
import pytest

from prefect_runs import ConfigurationError
from prefect_runs_pipelines import cli
from prefect_runs_pipelines.command.arguments import parser
from prefect_runs_pipelines.command.completion import completion
from prefect_runs_pipelines.command.manual import COMMAND, PAGES
from prefect_runs_pipelines.command.outcomes import EXIT_CONFIGURATION, EXIT_OK
from prefect_runs_pipelines.options import check_file_name

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
    if command == "completion":
        parts = [part for part in parts if part not in ("configuration:", "see also:")]
    assert re.findall(rf"^(?:{'|'.join(parts)})", text, re.MULTILINE) == parts


@pytest.mark.parametrize("command", ["", *PAGES])
def test_examples_of_the_manual_are_understood(command: str) -> None:
    page = PAGES.get(command, COMMAND)
    for example, _ in page.examples:
        [arguments] = [shlex.split(line) for line in re.findall(r"prefect-runs ([^|)]+)", example)]
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


@pytest.mark.parametrize("command", ["status", "verify", "models", "report", "dbt"])
def test_command_that_reads_refuses_a_file_that_is_not_there_and_makes_none(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--api-url", "http://127.0.0.1:9/api"]) == EXIT_CONFIGURATION
    told = "prefect-runs: there are no runs in prefect_runs.duckdb yet: run prefect-runs sync first\n"
    assert capsys.readouterr() == ("", told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["prefect.duckdb", "Prefect", ".prefect.db", "prefect.1.duckdb"])
def test_file_whose_catalogue_would_be_called_like_the_dataset_is_refused(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    # what every query of the documentation would meet
    with duckdb.connect(str(file)) as connection, pytest.raises(duckdb.BinderException, match="Ambiguous reference"):
        connection.execute("CREATE SCHEMA prefect; CREATE TABLE prefect.flow_runs (id VARCHAR)")
    with pytest.raises(ConfigurationError, match=r"--database .* and the dataset prefect have one name: .* Name anoth"):
        check_file_name("--database", str(file), "prefect")


@pytest.mark.parametrize("name", ["prefect_runs.duckdb", "my-prefect.duckdb", "a.prefect.duckdb"])
def test_file_of_another_name_holds_a_dataset_that_can_be_asked(name: str, tmp_path: Path) -> None:
    check_file_name("--database", str(tmp_path / name), "prefect")
    with duckdb.connect(str(tmp_path / name)) as connection:
        connection.execute("CREATE SCHEMA prefect; CREATE TABLE prefect.flow_runs (id VARCHAR)")
        assert connection.execute("SELECT * FROM prefect.flow_runs").fetchall() == []


@pytest.mark.parametrize("option", ["--database", "--publish"])
def test_sync_into_such_a_file_ends_before_anything_is_made(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    assert cli.main(["sync", "--api-url", "http://127.0.0.1:9/api", option, "runs.duckdb", "--dataset", "runs"]) == (
        EXIT_CONFIGURATION
    )
    assert f"{option} runs.duckdb and the dataset runs have one name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("models --dialect snowflake", "--dialect is for statements that are printed, with --print"),
        ("models --dialect duckdb", "--dialect is for statements that are printed, with --print"),
        ("models --print --json", "--print prints SQL statements, and --json one JSON object: leave one of them out"),
        ("models --print --destination postgres", "statements for postgres want --dialect"),
        ("dbt --dialect snowflake", "--dialect is for a package that is written, with --write DIR"),
        ("dbt --write p --dataset runs", "--write asks no server and no destination"),
        ("dbt --write p --models-dataset m", "--write asks no server and no destination"),
    ],
)
def test_option_that_would_be_ignored_is_refused(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == EXIT_CONFIGURATION
    printed, told = capsys.readouterr()
    assert printed == ""
    assert f"prefect-runs: {words}" in told


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake"])
def test_command_that_writes_the_dbt_package_says_where(
    dialect: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if dialect == "duckdb" else ["--dialect", dialect]
    assert cli.main(["dbt", "--write", str(tmp_path / "p"), *given]) == EXIT_OK
    assert capsys.readouterr().out == f"the package, in the SQL of {dialect}: {tmp_path}/p\n"
    assert cli.main(["dbt", "--write", str(tmp_path / "p"), *given, "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"package": f"{tmp_path}/p", "dialect": dialect}


def text_options() -> list[tuple[str, str]]:
    """Each option of each command that takes a text."""
    made = parser()
    commands = next(action for action in made._actions if isinstance(action, argparse._SubParsersAction))
    return [
        (name, action.option_strings[0])
        for name, command in commands.choices.items()
        for action in command._actions
        if action.option_strings and action.nargs is None and action.type is None
    ]


def test_text_options_are_those_of_the_manual() -> None:
    options = text_options()
    assert {("sync", "--database"), ("sync", "--with"), ("status", "--workspace"), ("demo", "--database")} < set(
        options
    )


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(("command", "option"), text_options())
def test_empty_value_is_refused_and_no_default_taken(
    command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, option, value])
    assert end.value.code == EXIT_CONFIGURATION
    assert f"argument {option}: the value is empty: leave the option out" in capsys.readouterr().err


READING = ("status", "verify", "models", "report")


@pytest.mark.parametrize("command", ["sync", *READING])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/x.duckdb", "there is no folder no for x.duckdb: make it, or name another file"),
        ("text.duckdb/x.duckdb", "there is no folder text.duckdb for x.duckdb: make it, or name another file"),
        ("folder", "folder is a folder: name a file in it"),
        ("text.duckdb", "the file is no DuckDB database, and was left as it is (IO Error: "),
    ],
)
def test_database_that_can_be_no_duckdb_file_is_refused_in_one_line(
    command: str,
    name: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.duckdb").write_text("a text, and no database")
    assert cli.main([command, "--api-url", "http://127.0.0.1:9/api", "--database", name]) == EXIT_CONFIGURATION
    told = capsys.readouterr().err
    assert told.startswith(f"prefect-runs: {words}")
    assert told.count("\n") == 1
    assert "dlt" not in told.replace(str(tmp_path), "")
    assert (tmp_path / "text.duckdb").read_text() == "a text, and no database"


@pytest.mark.parametrize("command", READING)
def test_command_that_reads_takes_an_empty_file_for_one_without_runs(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.duckdb").touch()
    assert cli.main([command, "--api-url", "http://127.0.0.1:9/api", "--database", "empty.duckdb"]) == (
        EXIT_CONFIGURATION
    )
    assert "there are no runs in empty.duckdb yet: run prefect-runs sync first" in capsys.readouterr().err
    assert (tmp_path / "empty.duckdb").stat().st_size == 0


COMPLETED = {
    "prefect-runs s": {"sync", "status"},
    "prefect-runs sync --da": {"--database", "--dataset"},
    "prefect-runs sync --database here/pr": {"here/prefect.duckdb"},
    "prefect-runs completion ": {"bash", "zsh", "fish"},
}
# what bash does when TAB is pressed: the words of the line so far go to the function that `complete` names
BASH = """
eval "$(prefect-runs completion bash)"
set -- $(complete -p prefect-runs)
while [ "$1" != -F ]; do shift; done
COMP_WORDS=({words}) COMP_CWORD={last}
"$2" prefect-runs "${{COMP_WORDS[COMP_CWORD]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "prefect-runs completion fish | source; complete --do-complete '{line}'"


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize("line", COMPLETED)
def test_shell_completes_commands_options_and_files(shell: str, line: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} on this machine")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/prefect.duckdb").touch()
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = {"bash": BASH.format(words=quoted, last=len(words) - 1), "fish": FISH.format(line=line)}[shell]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(tmp_path)}
    result = subprocess.run(
        [shell, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert {line.partition("\t")[0] for line in result.stdout.splitlines()} == COMPLETED[line]


def test_zsh_understands_its_script() -> None:
    if not shutil.which("zsh"):
        pytest.skip("there is no zsh on this machine")
    script = completion("zsh")
    # what compdef is told is the function that the script defines
    check = f"autoload -U compinit; compinit -D; eval {shlex.quote(script)}; print $_comps[prefect-runs]"
    result = subprocess.run(["zsh", "-f", "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip()
    assert result.stdout.strip() in script
    assert result.stderr == ""


@pytest.mark.parametrize("line", ["sync --start 2026-01-01", "sync --f", "verify --r"])
def test_an_option_is_not_guessed_from_its_beginning(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == EXIT_CONFIGURATION
    assert "unrecognized arguments" in capsys.readouterr().err
