"""Installs the wheel on each Python with the lowest and the newest dependencies, and writes how it loaded.

Each time the wheel goes into a fresh environment, and the command, in an empty folder, syncs from a real server twice
with a change in between, verifies and makes the views. On each Python `dlt init` also makes a copy of the source, whose
script loads with no more than its requirements.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from outcome import ROOT, Place
from prefect_api import PrefectApi

from prefect_runs_pipelines.local.environments import environment_python
from prefect_runs_pipelines.local.server import DEFAULT_VERSION, local_server

PLACE = Place(ROOT / "docs" / "compatibility.md", "make compatibility")
PYTHONS = ("3.11", "3.12", "3.13")
# how the wheel's dependencies are chosen, as uv calls it → as a person does
DEPENDENCIES = {"lowest-direct": "lowest allowed", "highest": "newest"}
INIT = "dlt init"
HOW = {**DEPENDENCIES, INIT: "those of the copy made by `dlt init`"}
SHOWN = ("dlt", "duckdb", "pendulum", "sqlglot")


class Failed(Exception):
    """A command ended as it should not."""


@dataclass(frozen=True)
class Target:
    """What to install: a Python, and how the dependencies are chosen, a key of `HOW`."""

    python: str
    how: str

    def __str__(self) -> str:
        return f"Python {self.python}, dependencies: {HOW[self.how]}"


@dataclass
class Result:
    """What came out. `failure` is None where all went well."""

    target: Target
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    failure: str | None = None
    seconds: float = 0.0


def tools() -> Path:
    """The folder with `uv`, `twine` and a Python that has `build`."""
    return environment_python("release", "release", "build", "twine", "uv").parent


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built into `folder`; the wheel from the sdist, so nothing of an old build is in it."""
    ran([tools() / "python", "-m", "build", "--outdir", folder, ROOT])
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def ran(command: Sequence[str | Path], **options: Any) -> str:
    """What a command prints.

    Raises:
        Failed: it ended with another exit code than 0; with what it said last.
    """
    result = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    if result.returncode:
        said = (result.stderr.strip() or result.stdout.strip() or "nothing").splitlines()
        shown = " ".join(Path(str(part)).name for part in command[:2])
        raise Failed(f"{shown} ended with {result.returncode}: {said[-1][:300]}")
    return result.stdout


def interpreter(version: str) -> Path | None:
    """A Python of that version on this machine: this one, one of the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = shutil.which(f"python{version}")
    candidates = [sys.executable, *([named] if named else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in map(Path, candidates):
        asked = [str(candidate), "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
        # a shim of pyenv is in the path, and fails, where that version is not switched on
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == version:
            return candidate
    return None


def run(target: Target, wheel: Path, api: PrefectApi) -> Result:
    """Install and load; a failure is named in the result."""
    result, started = Result(target), time.monotonic()
    python = interpreter(target.python)
    if python is None:
        result.failure = f"not run: there is no Python {target.python} on the machine"
        return result
    try:
        with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
            environment, empty = Path(folder) / "environment", Path(folder) / "empty"
            empty.mkdir()
            ran([tools() / "uv", "venv", "--python", python, environment])
            result.python = ran([environment / "bin" / "python", "--version"]).split()[1]
            if target.how == INIT:
                _load_copy(environment, empty, api)
            else:
                _install(environment, "--resolution", target.how, "-r", ROOT / "pyproject.toml")
                # alone, for to uv the dependencies of a wheel are indirect: `lowest-direct` leaves them as they are
                _install(environment, "--no-deps", wheel)
                _load(environment / "bin" / "prefect-runs", empty, api)
            listed = [tools() / "uv", "pip", "list", "--format=json", "--python", environment / "bin" / "python"]
            result.versions = {package["name"]: package["version"] for package in json.loads(ran(listed))}
    except Failed as failure:
        result.failure = str(failure)
    result.seconds = time.monotonic() - started
    return result


def _install(environment: Path, *what: str | Path) -> None:
    ran([tools() / "uv", "pip", "install", "--python", environment / "bin" / "python", *what])


def _clean(folder: Path, api: PrefectApi) -> dict[str, Any]:
    """Next to nothing of this process's own: what was installed is all that there is."""
    # as root dlt would keep its pipelines in /var
    home = {"HOME": str(folder), "DLT_DATA_DIR": str(folder / ".dlt-data")}
    return {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "PREFECT_API_URL": api.url, **home}}


def _load_copy(environment: Path, folder: Path, api: PrefectApi) -> None:
    """Load with the script that `dlt init` makes, as somebody who has dlt and git, and no clone."""
    _install(environment, "dlt")
    clean = _clean(folder, api)
    ran([environment / "bin" / "dlt", "init", "prefect_runs", "duckdb", "--location", ROOT], **clean)
    _install(environment, "-r", folder / "requirements.txt")
    said = ran([environment / "bin" / "python", "prefect_runs_pipeline.py"], **clean)
    if "loaded to destination duckdb" not in said:
        raise Failed(f"the copied script said {said[-300:]}")
    _ask_dataset(environment, "prefect_runs", clean)


def _load(command: Path, folder: Path, api: PrefectApi) -> None:
    """Load with the installed command."""

    def told(*arguments: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(ran([command, *arguments, "--json"], **_clean(folder, api)))
        return report

    first = told("sync")
    run = api.flow_run("FAILED")
    api.task_run("COMPLETED", flow_run_id=run)
    second = told("sync")
    if not (first["first_load"] and first["whole"] and second["whole"] and second["new"]["flow_runs"] == 1):
        raise Failed(f"the second sync loaded {second['new']}, not the one flow run that is new")
    # exit code 5 where anything differs
    told("verify")
    told("models")
    status = told("status")
    if not status["rows"]["flow_runs"]:
        raise Failed("status shows no flow runs")
    _ask_dataset(command.parent.parent, status["pipeline"], _clean(folder, api))


def _ask_dataset(environment: Path, pipeline: str, clean: Mapping[str, Any]) -> None:
    """Read through dlt's `dataset()`, which not every sqlglot goes with."""
    asked = f"import dlt; print(len(dlt.attach({pipeline!r}).dataset()['flow_runs'].select('id').fetchall()))"
    if not int(ran([environment / "bin" / "python", "-c", asked], **clean)):
        raise Failed("pipeline.dataset() shows no flow runs")


def table(results: Sequence[Result]) -> str:
    """The results as Markdown."""
    lines = [f"| Python | dependencies | {' | '.join(SHOWN)} | outcome |", "|" + "---|" * (len(SHOWN) + 3)]
    for result in results:
        cells = [
            result.python or result.target.python,
            HOW[result.target.how],
            *(result.versions.get(name, "") for name in SHOWN),
            result.failure or "whole",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    day = datetime.now(UTC).date()
    return "\n".join([*lines, "", f"Run on {day} against Prefect {DEFAULT_VERSION} on SQLite."]) + "\n"


def targets(only: str | None) -> Iterator[Target]:
    """Those that are to be run, of one Python or of all."""
    return (Target(python, how) for python in PYTHONS if only in (None, python) for how in HOW)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 when anything failed or could not be run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="PYTHON", choices=PYTHONS, help="one Python; writes nothing")
    only = parser.parse_args(arguments).only
    results = []
    with tempfile.TemporaryDirectory() as folder, local_server() as server:
        wheel, api = built(Path(folder))[0], PrefectApi(server.url)
        api.task_run("COMPLETED", flow_run_id=api.flow_run("COMPLETED", tags=["nightly"]))
        for target in targets(only):
            results.append(run(target, wheel, api))
            print(f"{target}: {results[-1].failure or 'whole'}, {results[-1].seconds:.0f} s", flush=True)
        api.close()
    print(f"\n{table(results)}")
    if only is None:
        PLACE.write(table(results))
    return 1 if any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
