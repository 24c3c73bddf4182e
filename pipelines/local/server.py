"""A real Prefect server on this machine, in a virtual environment of its own.

The demo, the tests and the benchmarks start it. The connector itself never imports Prefect: a server's
dependencies are no business of the connector's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import requests

from .environments import environment_python
from .postgresql import LocalPostgresql

DEFAULT_VERSION = "3.8.8"
PORTS = range(10_000, 32_000)
START_SECONDS = 300.0

Database = Literal["sqlite", "postgresql"]

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    # a quarter of what a start takes; a client that uses a block registers it
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}


def server_python(version: str = DEFAULT_VERSION) -> Path:
    """The Python of an environment that holds ``prefect==version``; made on the first call (about a minute)."""
    return environment_python(f"server-{version}", f"prefect-{version}", f"prefect=={version}")


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
                command = [_prefect(python), "server", "database", "upgrade", "--yes"]
                subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True)
                (Path(folder) / "prefect.db").rename(database)
    return database


def _prefect(python: Path) -> str:
    # not `python -m prefect`, which 3.0 does not know
    return str(python.with_name("prefect"))


def _without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PREFECT_")}


def free_port() -> int:
    """A TCP port of the loopback interface that nobody has at this moment.

    It is none of those that systems give to outgoing connections, one of which might get it before a server does.
    """
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("there is no free port")


class LocalServer:
    """A running Prefect server: ``url`` (of its API), ``home`` (its PREFECT_HOME), ``python``.

    Its database is in its home too: SQLite's file `prefect.db`, or a PostgreSQL of its own that runs while it runs.
    """

    def __init__(
        self,
        version: str = DEFAULT_VERSION,
        home: Path | None = None,
        settings: Mapping[str, str] | None = None,
        database: Database = "sqlite",
    ) -> None:
        self.version = version
        self.database = database
        self.python = server_python(version)
        self._own_home = home is None
        self.home = home or Path(tempfile.mkdtemp(prefix="prefect-home-"))
        self.port = free_port()
        self._settings = dict(settings or {})
        self.url = f"http://127.0.0.1:{self.port}{self._settings.get('PREFECT_SERVER_API_BASE_PATH', '/api')}"
        self._process: subprocess.Popen[bytes] | None = None
        self._postgresql = LocalPostgresql(self.home / "postgresql") if database == "postgresql" else None
        self._database_url: dict[str, str] = {}

    def environment(self, **extra: str) -> dict[str, str]:
        """Variables with which a Prefect client process talks to this server and nothing else."""
        return {
            **_without_prefect(os.environ),
            **QUIET,
            "PREFECT_HOME": str(self.home),
            # 3.4 keeps these in the user's own home whatever PREFECT_HOME says
            "PREFECT_LOCAL_STORAGE_PATH": str(self.home / "storage"),
            "PREFECT_MEMO_STORE_PATH": str(self.home / "memo_store.toml"),
            "PREFECT_API_URL": self.url,
            **self._database_url,
            **self._settings,
            **extra,
        }

    def start(self) -> LocalServer:
        """Start the server and wait until it answers."""
        if self._postgresql:
            self._database_url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self._postgresql.start()}
        elif not (self.home / "prefect.db").exists():
            shutil.copyfile(empty_database(self.version), self.home / "prefect.db")
        log = (self.home / "server.log").open("ab")
        command = [_prefect(self.python), "server", "start", "--port", str(self.port), "--no-ui"]
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
        """Stop the server and everything it started; with ``kill``, at once. Its database is stopped orderly."""
        if self._process is not None:
            self._stop_server(self._process, kill)
            self._process = None
        if self._postgresql:
            self._postgresql.stop()

    def _stop_server(self, process: subprocess.Popen[bytes], kill: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

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
def local_server(
    version: str = DEFAULT_VERSION, settings: Mapping[str, str] | None = None, database: Database = "sqlite"
) -> Iterator[LocalServer]:
    """A server for the length of a ``with`` block, with a home of its own that is removed at the end."""
    server = LocalServer(version, settings=settings, database=database)
    try:
        yield server.start()
    finally:
        server.close()
