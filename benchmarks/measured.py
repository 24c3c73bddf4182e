"""A command in a process of its own: how long it took, and how much memory it had at its peak.

    python -I -S measured.py RESULT COMMAND…

as a script is the small process in between, which `measured` starts: Linux counts the memory that a process had when
it started another one towards the other's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One run of a command: seconds of wall time from start to exit, peak memory in MB, the JSON that it printed."""

    seconds: float
    peak_mb: float
    report: dict[str, Any]


def measured(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> Measured:
    """Run a command in `folder` that prints one JSON object.

    Raises:
        RuntimeError: it ended with another exit code than 0; with what it said.
    """
    with tempfile.TemporaryDirectory() as aside:
        result = Path(aside) / "result.json"
        launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(result)]
        ended = subprocess.run(
            [*launcher, *map(str, command)],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        found = json.loads(result.read_text())
    if found["code"]:
        raise RuntimeError(f"{command} ended with {found['code']}:\n{ended.stdout[-2000:]}{ended.stderr[-4000:]}")
    return Measured(found["seconds"], found["peak_mb"], json.loads(ended.stdout))


def _launch(result: Path, command: Sequence[str]) -> None:
    started = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts in kB
    found = {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024, "code": process.returncode}
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    _launch(Path(sys.argv[1]), sys.argv[2:])
