"""`prefect-runs` in a process of its own, as a scheduler starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from conftest import SHORT_LOOKBACK_SECONDS, Copy

from prefect_runs_pipelines.command.screen import sync_screen
from prefect_runs_pipelines.sync import sync

# the command, with the patience that a test has
COMMAND = """
import os, sys
from prefect_runs_pipelines.destination import failures
failures.PATIENCE_SECONDS = float(os.environ.get("PATIENCE_SECONDS", "2"))
from prefect_runs_pipelines.cli import main
sys.exit(main())
"""


def run_command(copy: Copy, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command on a test's warehouse, run to its end with next to no environment."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "DLT_DATA_DIR": str(copy.folder),
        "HOME": str(copy.folder),
        # other tests share the server
        "SOURCES__PREFECT_RUNS__FILTERS__START_DATE": copy.since.isoformat(),
        **copy.warehouse.environment,
    }
    command = [Path(sys.executable).parent / "prefect-runs", *arguments]
    place = ["--api-url", copy.url, "--workspace", "test", *copy.warehouse.arguments]
    return subprocess.run(
        [*command, *place], env=environment, cwd=copy.folder, capture_output=True, text=True, check=False
    )


@dataclass
class Command:
    """`prefect-runs sync` of a test's warehouse, in a process of its own.

    Attributes:
        environment: variables on top of this process's own.
    """

    copy: Copy
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, url: str | None = None, **options: Any) -> subprocess.Popen[str]:
        """A sync that has just begun; `options` go to the process."""
        arguments = [*self.copy.warehouse.arguments, "--workspace", "test"]
        arguments += ["--api-url", url or self.copy.url, "--start-date", self.copy.since.isoformat()]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = {
            **clean,
            "NO_PROXY": "127.0.0.1",
            "PREFECT_HOME": str(self.copy.folder / "no settings of Prefect"),
            "DLT_DATA_DIR": str(self.copy.folder / "dlt"),
            "RUNTIME__REQUEST_MAX_ATTEMPTS": "2",
            "RUNTIME__REQUEST_BACKOFF_FACTOR": "0.01",
            "RUNTIME__REQUEST_TIMEOUT": "10",
            "SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES": str(SHORT_LOOKBACK_SECONDS / 60),
            **self.copy.warehouse.environment,
            **self.environment,
        }
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "sync", *arguments],
            cwd=self.copy.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def fails(self, code: int, *words: str, url: str | None = None, **options: Any) -> str:
        """Sync, and check how it fails; returns what it said."""
        return self.failed(self.start(url, **options), code, *words)

    def failed(self, process: subprocess.Popen[str], code: int, *words: str) -> str:
        """Check how a sync ends that was started: exit code, words of its message, no traceback."""
        output, error = process.communicate(timeout=120)
        assert process.returncode == code, f"{process.returncode}: {output}{error}"
        assert "Traceback" not in error
        assert "this is an unexpected" not in error
        missing = [word for word in words if word not in error]
        assert not missing, f"{missing} not in {error}"
        return error

    def works(self, url: str | None = None) -> str:
        """Sync, which makes the copy whole; returns what it said.

        In this process, where that is the same and takes half the time: with the same working folder.
        """
        if url is None and self.environment.keys() <= {"DLT_DATA_DIR"}:
            folder = Path(self.environment.get("DLT_DATA_DIR", self.copy.folder / "dlt"))
            report = sync(replace(self.copy.sync_options(), pipelines_dir=str(folder / "pipelines")))
            said = sync_screen(report)
        else:
            output, error = self.start(url).communicate(timeout=120)
            said = output + error
        assert "nothing is known to be missing" in said, said
        self.copy.assert_true()
        return said
