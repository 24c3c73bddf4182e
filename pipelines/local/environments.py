"""Virtual environments of what the connector never imports: servers, PostgreSQL, dbt. Made once, kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CONSTRAINTS = Path(__file__).parent / "servers"


def environments_dir() -> Path:
    """Where environments are kept between runs: ``$PREFECT_RUNS_CACHE`` or the user's cache folder."""
    cache = os.environ.get("PREFECT_RUNS_CACHE")
    if cache:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-runs"


def environment_python(label: str, pins: str, *requirements: str) -> Path:
    """The Python of an environment that holds `requirements` with the versions of ``servers/<pins>.txt``.

    `pins` may be a path, without its ending, to a file elsewhere.

    It is made on the first call (about a minute). Other pins are another environment. A killed install leaves none
    behind that looks whole, and two processes that want the same one make it once.
    """
    constraints = CONSTRAINTS / f"{pins}.txt"
    if not constraints.exists():
        known = ", ".join(sorted(path.stem for path in CONSTRAINTS.glob("*.txt")))
        raise ValueError(f"{pins} cannot be installed here, only: {known}")
    digest = hashlib.sha256(constraints.read_bytes()).hexdigest()[:6]
    home = environments_dir() / f"{label}-py{sys.version_info.major}{sys.version_info.minor}-{digest}"
    python = home / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _install(requirements, constraints, home, python)
    return python


def _install(requirements: Sequence[str], constraints: Path, home: Path, python: Path) -> None:
    what = ", ".join(requirements)
    print(f"installing {what} into {home} (once) …", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command = [*pip, *requirements, "-c", str(constraints)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"pip could not install {what}:\n{result.stderr[-2000:]}")
    (home / "complete").touch()
