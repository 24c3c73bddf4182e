"""Flows run and are changed at random while syncs go through a faulty proxy and are killed; then the copy is compared.

    python benchmarks/soak.py [--minutes 15] [--seed 4711] [--server 3.8.8] [--database sqlite]

When the load stops, one sync follows, and what it left different from the server is listed: edits and deletes of runs
that ended before the lookback, which no read of a sync shows. Then `prefect-runs verify --sweep --repair` makes the
copy true, and every row and state is compared. Exit code 1 when anything is missing, stale, double or lost, when a
sync left what it could have read, or when a command ended as none should.

One seed makes every choice, in the order of the log `changes.jsonl`; when each happens is up to the machine.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from comparison import EVER, STATES_OF, Difference, compared, select, server_rows
from fault_proxy import FaultProxy
from prefect_api import PrefectApi, now
from soak_changes import Changes, LoggedApi
from soak_findings import FINDING, Findings, Left
from soak_syncs import Syncs
from soundness import unsound
from warehouses import DuckdbFile

from prefect_runs.clock import as_utc
from prefect_runs_pipelines.local.server import DEFAULT_VERSION, Database, LocalServer

HORIZON = timedelta(hours=24)
FLOWS = Path(__file__).with_name("soak_flows.py")
# a server that does at once what others do after minutes; nothing about its answers differs
IMPATIENT = {
    # a duration, not a number: older servers refuse to start with one
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "PT2S",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS": "3",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.2",
}
REST_SECONDS = 600.0
LONGEST_DELAY_SECONDS = 180.0
TELL_SECONDS = 15.0
# the cleanup of cancelled runs looks at those of some seconds ago
QUIET_SECONDS = 15.0
USUAL_MINUTES = 15.0


@dataclass(frozen=True)
class SoakOptions:
    """What to do: for how long at least, and for how many `syncs`, which on a busy machine take longer.

    `lookback_seconds` is short, so that most runs grow older than it. After a pause of `pause_seconds`, one in eight, a
    sync comes late and goes in parts.
    """

    minutes: float = USUAL_MINUTES
    seed: int = 0
    version: str = DEFAULT_VERSION
    database: Database = "sqlite"
    lookback_seconds: float = 20.0
    pause_seconds: float = 60.0
    syncs: int = 10


@dataclass
class SoakReport:
    """What happened, and what differed at the end."""

    options: SoakOptions
    folder: Path
    changes: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    flows: int = 0
    flows_killed: int = 0
    syncs: Counter[str] = field(default_factory=Counter)
    holds: int = 0
    parts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    left: list[Left] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    tombstones: int = 0
    differences: list[Difference] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def left_by_kind(self) -> Counter[str]:
        """Runs that the last sync left different, by kind."""
        return Counter(left.kind for left in self.left)

    @property
    def findings(self) -> list[Left]:
        """What the last sync left although syncs had read it."""
        return [left for left in self.left if left.kind == FINDING]

    @property
    def counts(self) -> dict[str, int]:
        """What still differs after verify: missing, stale and double runs, and lost states."""
        runs = Counter(difference.what for difference in self.differences if difference.table in STATES_OF)
        return {
            "missing": runs.pop("missing", 0),
            "stale": runs.pop("stale", 0),
            "double": runs.pop("double", 0),
            "lost states": sum(difference.table not in STATES_OF for difference in self.differences),
            **({"otherwise wrong": runs.total()} if runs else {}),
        }

    @property
    def passed(self) -> bool:
        """Whether the copy is true and nothing ended as it should not."""
        return not (self.differences or self.problems or self.findings)

    def lines(self) -> list[str]:
        """The report in words."""
        changes, syncs, faults = self.changes.total(), self.syncs.total(), self.faults.total()
        return [
            f"{changes:,} changes ({self.refused:,} more were refused): {_listed(self.changes)}",
            f"{self.flows:,} flows run to their end, {self.flows_killed} times their process was killed",
            f"{syncs:,} syncs: {_listed(self.syncs)}; {self.holds} times a reader held the file; "
            f"{self.parts} loads left the rest of a pause to the next",
            f"{faults:,} faults: {_listed(self.faults)}",
            f"left by the last sync: {_listed(self.left_by_kind) or 'nothing'}",
            *(str(left) for left in self.findings),
            f"compared: {_listed(self.rows)}; {self.tombstones:,} deleted runs have a tombstone",
            *(str(difference) for difference in self.differences),
            *(f"PROBLEM: {problem}" for problem in self.problems),
            ", ".join(f"{number} {what}" for what, number in self.counts.items()),
            f"seed {self.options.seed}: {'passed' if self.passed else f'FAILED, its logs are in {self.folder}'}",
        ]


def soak(options: SoakOptions, folder: Path, tell: Callable[[str], object] = lambda line: None) -> SoakReport:
    """Run a soak.

    Args:
        options: how long, with which seed, which server.
        folder: for the warehouse and the logs.
        tell: is told how it goes.
    """
    with ExitStack() as stack:
        server = _server(options)
        stack.callback(server.close)
        server.start()
        proxy = stack.enter_context(FaultProxy(server.url))
        return _Soak(options, folder, server, proxy, tell).run()


def _server(options: SoakOptions) -> LocalServer:
    return LocalServer(options.version, settings=IMPATIENT, database=options.database)


class _Soak:
    def __init__(
        self, options: SoakOptions, folder: Path, server: LocalServer, proxy: FaultProxy, tell: Callable[[str], object]
    ) -> None:
        self.options = options
        self.server = server
        self.proxy = proxy
        self.tell = tell
        self.report = SoakReport(options, folder)
        # a generator for each thread, or the threads would take each other's numbers
        seeds = random.Random(options.seed)
        changes, syncs, self._flows = (random.Random(seeds.getrandbits(32)) for _ in range(3))
        self.api = LoggedApi(server.url)
        self.changes = Changes(self.api, changes, folder / "changes.jsonl")
        self.syncs = Syncs(proxy, syncs, folder, options.lookback_seconds, options.pause_seconds)
        self._flow_errors: list[Exception] = []

    def run(self) -> SoakReport:
        self._load()
        self.proxy.clear()
        self.report.faults = self.syncs.faults
        self.changes.rest()
        self._wait_at_rest()
        self._whole_sync()
        self._compare()
        self.report.changes = self.changes.counts
        self.report.refused = sum(bool(change.refused) for change in self.changes.made)
        self.report.syncs, self.report.holds = self.syncs.outcomes, self.syncs.holds
        self.report.problems += [
            f"sync {sync.number} ended with {sync.outcome}:\n{sync.output}" for sync in self.syncs.made if sync.is_bug
        ]
        for closing in (self.changes, self.syncs, self.api):
            closing.close()
        return self.report

    def _load(self) -> None:
        stop = threading.Event()
        work = (self.changes.until, self.syncs.until, self._flows_until)
        threads = [threading.Thread(target=target, args=(stop,)) for target in work]
        for thread in threads:
            thread.start()
        told = time.monotonic()
        end = told + self.options.minutes * 60
        try:
            while self._goes_on(end) and all(thread.is_alive() for thread in threads):
                time.sleep(1)
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    self.tell(f"{len(self.changes.made):,} changes, {len(self.syncs.made)} syncs")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for error in (*self.changes.errors, *self.syncs.errors, *self._flow_errors):
            raise error

    def _goes_on(self, end: float) -> bool:
        late = time.monotonic() - end
        return late < 0 or (len(self.syncs.made) < self.options.syncs and late < LONGEST_DELAY_SECONDS)

    def _flows_until(self, stop: threading.Event) -> None:
        """Let flows run, in a process that is killed now and then."""
        try:
            while not stop.is_set():
                process = self._start_flows()
                if not stop.wait(self._flows.uniform(20, 90)):
                    process.kill()
                    self.report.flows_killed += 1
                output, _ = process.communicate(timeout=120)
                self.report.flows += len(output.splitlines())
        except Exception as error:  # noqa: BLE001 - raised by whoever joins the thread
            self._flow_errors.append(error)

    def _start_flows(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.server.python), str(FLOWS), str(self._flows.randrange(1_000_000))],
            env=self.server.environment(),
            cwd=self.server.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _wait_at_rest(self) -> None:
        """Wait until the server writes nothing any more: task runs late, ends of pauses, cleanups."""
        self.tell("the load has stopped; waiting for the server to come to rest")
        deadline = time.monotonic() + REST_SECONDS
        before, since = None, time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server did not come to rest in {REST_SECONDS} s")
            time.sleep(3)
            seen = _fingerprint(self.api)
            if seen != before:
                before, since = seen, time.monotonic()

    def _whole_sync(self) -> None:
        last = self.syncs.whole()
        if last.exit_code:
            self.report.problems.append(f"the last sync ended with {last.outcome}")

    def _compare(self) -> None:
        """Compare after the sync alone; then verify and repair, and compare again."""
        database = self.syncs.database
        warehouse = DuckdbFile(database.parent, database.name)
        ahead = _ceiling(database) + HORIZON
        self.tell("reading everything from the server")
        fingerprint = _fingerprint(self.api)
        server = server_rows(self.api, EVER, ahead)
        findings = Findings(server, database, self.changes.made)
        self.report.left = findings.left(findings.without_earlier_lives(compared(server, warehouse, ahead)))
        self.tell(f"left by the last sync: {_listed(self.report.left_by_kind) or 'nothing'}")
        (self.report.folder / "left.txt").write_text("\n".join(map(str, self.report.left)))
        self._verify("--sweep", "--repair", "--json")
        self.report.differences = findings.without_earlier_lives(compared(server, warehouse, ahead))
        self._verify()
        self.report.problems += unsound(warehouse)
        self.report.rows = {table: len(rows) for table, rows in server.items()}
        self.report.problems += self._tombstones(server, database, ahead)
        with warehouse.reading() as connection:
            of_parts = "SELECT count(*) AS n FROM prefect.syncs WHERE gaps::TEXT LIKE '%of a long pause%'"
            self.report.parts = select(connection, of_parts)[0]["n"]
        if not self.report.parts and self.options.minutes >= USUAL_MINUTES:
            self.report.problems.append("no sync came so late that it went in parts")
        if _fingerprint(self.api) != fingerprint:
            self.report.problems.append("the server changed while it was compared")

    def _verify(self, *options: str) -> None:
        process = self.syncs.start("verify", *options)
        output, errors = process.communicate(timeout=300)
        (self.report.folder / f"verify{'-'.join(options)}.txt").write_text(output + errors)
        if process.returncode or "Traceback" in errors:
            self.report.problems.append(f"verify {' '.join(options)} ended with {process.returncode}: {output}{errors}")

    def _tombstones(self, server: Mapping[str, list[Any]], database: Path, ahead: datetime) -> list[str]:
        """Runs with a tombstone that the server has, and rows that are neither live nor dead."""
        found = []
        with duckdb.connect(str(database), read_only=True) as warehouse:
            for kind in STATES_OF:
                gone = {
                    row["id"]
                    for row in select(warehouse, f"SELECT id FROM prefect.tombstones WHERE resource = '{kind}'")
                }
                held = {
                    row["id"]
                    for row in select(warehouse, f"SELECT id, state_type, expected_start_time FROM prefect.{kind}")
                    if row["state_type"] != "SCHEDULED" or as_utc(row["expected_start_time"]) < ahead
                }
                live = {row["id"] for row in server[kind]}
                self.report.tombstones += len(gone)
                found += [f"{kind}: {id_} has a tombstone, and the server has it" for id_ in gone & live]
                if len(held - gone) != len(live):
                    found.append(f"{kind}: {len(held - gone)} live runs in the warehouse, {len(live)} on the server")
        return found


def _fingerprint(api: PrefectApi) -> list[tuple[Any, ...]]:
    """Changes whenever a run does."""
    return [
        (kind, *sorted((row["id"], row["updated"], row["state"] is None) for row in api.runs(kind, EVER)))
        for kind in STATES_OF
    ]


def _ceiling(database: Path) -> datetime:
    """Up to when the last sync read."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        [row] = select(warehouse, "SELECT max(window_end) AS ceiling FROM prefect.syncs")
    return as_utc(row["ceiling"])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in sorted(counts.items(), key=lambda item: -item[1]))


def main() -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=SoakOptions.minutes, help="how long the load lasts (15)")
    parser.add_argument("--seed", type=int, help="makes every choice; a random one unless given")
    parser.add_argument("--server", default=DEFAULT_VERSION, help=f"version of the Prefect server ({DEFAULT_VERSION})")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="of the server (sqlite)")
    parser.add_argument("--lookback-seconds", type=float, default=SoakOptions.lookback_seconds)
    parser.add_argument("--folder", type=Path, help="keep the warehouse and the logs there, also when it passed")
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    options = SoakOptions(asked.minutes, seed, asked.server, asked.database, asked.lookback_seconds)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    tell = Teller()
    tell(f"seed {seed}: {options.minutes:g} minutes, Prefect {options.version} on {options.database}, in {folder}")
    report = soak(options, folder, tell)
    print("\n".join(report.lines()))
    if report.passed and not asked.folder:
        shutil.rmtree(folder)
    return 0 if report.passed else 1


class Teller:
    """Prints lines at once, with the time."""

    def __call__(self, line: str) -> None:
        """Print a line."""
        print(f"{now():%H:%M:%S} {line}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
