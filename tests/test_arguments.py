"""The command line: every command has its page of the manual, and what the pages say holds."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from prefect_runs_pipelines import cli
from prefect_runs_pipelines.command.arguments import parser
from prefect_runs_pipelines.command.completion import completion
from prefect_runs_pipelines.command.manual import COMMAND, PAGES

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
