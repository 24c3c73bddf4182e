"""A real Prefect server on this machine, in a virtual environment of its own.

The demo, the tests and the benchmarks start it. The connector itself never imports Prefect: a server's
dependencies are no business of the connector's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

DEFAULT_VERSION = "3.8.8"
CONSTRAINTS = Path(__file__).parent / "servers"
START_SECONDS = 120.0

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def environments_dir() -> Path:
    """Where server environments are kept between runs: ``$PREFECT_RUNS_CACHE`` or the user's cache folder."""
    cache = os.environ.get("PREFECT_RUNS_CACHE")
    if cache:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefect-runs"


def server_python(version: str = DEFAULT_VERSION) -> Path:
    """The Python of an environment that holds ``prefect==version``; made on the first call (about a minute).

    It holds the versions that ``servers/`` pins; other pins are another environment. A killed install leaves
    none behind that looks whole, and two processes that want the same one make it once.
    """
    constraints = CONSTRAINTS / f"prefect-{version}.txt"
    digest = hashlib.sha256(constraints.read_bytes()).hexdigest()[:6]
    home = environments_dir() / f"server-{version}-py{sys.version_info.major}{sys.version_info.minor}-{digest}"
    python = home / "bin" / "python"
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _install(version, constraints, home, python)
    return python


def _install(version: str, constraints: Path, home: Path, python: Path) -> None:
    print(f"installing a Prefect {version} server into {home} (once) …", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command = [*pip, f"prefect=={version}", "-c", str(constraints)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"pip could not install a Prefect {version} server:\n{result.stderr[-2000:]}")
    (home / "complete").touch()


def empty_database(version: str = DEFAULT_VERSION) -> Path:
    """An SQLite database without a row, as a server of that version makes it; made on the first call.

    Its hundred migrations take a server longer than all else of its start.
    """
    python = server_python(version)
    home = python.parent.parent
    database = home / "empty.db"
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            with tempfile.TemporaryDirectory(dir=home) as folder:
                environment = {**_without_prefect(os.environ), **QUIET, "PREFECT_HOME": folder}
                command = [str(python), "-m", "prefect", "server", "database", "upgrade", "--yes"]
                subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
                (Path(folder) / "prefect.db").rename(database)
    return database


def _without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalServer:
    """A running Prefect server: ``url`` (ends in ``/api``), ``home`` (its PREFECT_HOME), ``python``."""

    def __init__(
        self, version: str = DEFAULT_VERSION, home: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.version = version
        self.python = server_python(version)
        self._own_home = home is None
        self.home = home or Path(tempfile.mkdtemp(prefix="prefect-home-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, **extra: str) -> dict[str, str]:
        """Variables with which a Prefect client process talks to this server and nothing else."""
        return {
            **_without_prefect(os.environ),
            **QUIET,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            **self._settings,
            **extra,
        }

    def start(self) -> LocalServer:
        """Start the server and wait until it answers."""
        if not (self.home / "prefect.db").exists():
            shutil.copyfile(empty_database(self.version), self.home / "prefect.db")
        log = (self.home / "server.log").open("ab")
        command = [str(self.python), "-m", "prefect", "server", "start", "--port", str(self.port), "--no-ui"]
        self._process = subprocess.Popen(
            command,
            env=self.environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            start_new_session=True,
        )
        log.close()
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            time.sleep(0.2)
        tail = (self.home / "server.log").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"the Prefect {self.version} server did not start; its log ends with:\n{tail}")

    def stop(self, kill: bool = False) -> None:
        """Stop the server and everything it started; with ``kill``, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def run(self, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run the server environment's Python with ``arguments`` against this server; output is captured."""
        return subprocess.run(
            [str(self.python), *arguments],
            env=self.environment(**extra),
            cwd=self.home,
            check=check,
            capture_output=True,
            text=True,
        )

    def close(self) -> None:
        """Stop the server and remove its home when it was made for it."""
        self.stop()
        if self._own_home:
            shutil.rmtree(self.home, ignore_errors=True)


@contextlib.contextmanager
def local_server(version: str = DEFAULT_VERSION, settings: Mapping[str, str] | None = None) -> Iterator[LocalServer]:
    """A server for the length of a ``with`` block, with a home of its own that is removed at the end."""
    server = LocalServer(version, settings=settings)
    try:
        yield server.start()
    finally:
        server.close()
