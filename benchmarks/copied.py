"""A warehouse and the working folder of its pipeline, kept together, so that both can be put back as they were."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
from measured import Measured, measured

HERE = Path(__file__).resolve().parent
# not measured: how far away the server is that dlt tells of its use
QUIET = {"RUNTIME__DLTHUB_TELEMETRY": "false"}


class Copy:
    """What `prefect-runs` makes of one server in an empty folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._aside = folder.with_name(f"{folder.name} as it was")
        folder.mkdir()

    @property
    def database(self) -> Path:
        """The warehouse."""
        return self.folder / "bench.duckdb"

    def command(self, name: str, *options: str) -> Measured:
        """Measure a command of `prefect-runs`, start-up included, as a user runs it."""
        return self._measured(Path(sys.executable).parent / "prefect-runs", name, *options)

    def recorded(self, requests: Path, name: str, *options: str) -> Measured:
        """The same with its requests written to a file."""
        return self._measured(sys.executable, HERE / "recording.py", requests, name, *options)

    def profiled(self, result: Path, name: str, *options: str) -> Measured:
        """The same under a profiler, which writes whose code took how long to a file."""
        return self._measured(sys.executable, HERE / "profiled.py", result, name, *options)

    def _measured(self, *command: str | Path) -> Measured:
        options = ["--api-url", self.url, "--workspace", "bench", "--database", self.database, "--json"]
        return measured([*command, *options], self.folder, {**QUIET, "DLT_DATA_DIR": str(self.folder / "dlt")})

    def keep(self) -> None:
        """Remember the warehouse as it is now."""
        shutil.rmtree(self._aside, ignore_errors=True)
        shutil.copytree(self.folder, self._aside)

    def put_back(self) -> None:
        """Make the warehouse what it was when it was kept."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._aside, self.folder)

    def rows(self, *tables: str) -> int:
        """Rows of tables, together."""
        with duckdb.connect(str(self.database), read_only=True) as warehouse:
            counts = [warehouse.execute(f"SELECT count(*) FROM prefect.{table}").fetchone() for table in tables]
        return sum(count[0] for count in counts if count)

    @property
    def state_bytes(self) -> int:
        """Size of the largest pipeline state that the destination keeps: compressed text."""
        with duckdb.connect(str(self.database), read_only=True) as warehouse:
            sql = "SELECT max(length(state)) FROM prefect._dlt_pipeline_state"
            return int((warehouse.execute(sql).fetchone() or (0,))[0])

    def remove(self) -> None:
        """Remove both folders."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._aside, ignore_errors=True)


def routes(requests: Path) -> Counter[str]:
    """How many of the recorded requests went to which route; those for events by what they asked for."""
    found: Counter[str] = Counter()
    with requests.open() as lines:
        for method, url, body in map(json.loads, lines):
            path = urlsplit(url).path.removeprefix("/api")
            if path == "/events/filter":
                path += " of " + " and ".join(json.loads(body)["filter"]["event"]["prefix"])
            found[f"{method} {path}"] += 1
    return found
