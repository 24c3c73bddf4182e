"""What a sync costs, next to its floor and to what a user would write instead, on a real server filled with runs.

    python benchmarks/bench.py [--flow-runs 20000] [--task-runs 50000] [--repeat 3] [--no-tenfold] [--no-rivals]
                               [--homes FOLDER] [--write-docs [PAGE]]

All of one kind is measured in turns, each in a process of its own, start-up included; each figure is printed as it
comes, medians at the end. `--write-docs` writes them to docs/benchmarks.md, or to another page.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from changes import Changes
from copied import HERE, QUIET, Copy, routes
from figures import FLOOR, LOOP, OURS, REST_API, REST_API_TUNED, Figure, Server, page
from fill_server import UNDISTURBED
from measured import Measured, measured
from sampled import differences

from prefect_runs.settings import RUN_TABLES, STATE_TABLES
from prefect_runs_pipelines.local.server import DEFAULT_VERSION, LocalServer

DOCS = HERE.parent / "docs" / "benchmarks.md"
# all runs and states lie within what a self-hosted server keeps of its events
DAYS = 7
# the larger server has as many runs a day, for so many times as many days, and keeps their events
LARGER = 10
# what takes a second or two is measured more often
SHORT_REPEAT = 5
SAMPLE = 2_000
RIVALS = {REST_API: "rest_api", REST_API_TUNED: "rest_api_tuned", LOOP: "requests"}
# run histories one by one take the rivals so long that they are measured on the oldest of the runs
RIVALS_PART = 10

ROW_TABLES = (*RUN_TABLES, *STATE_TABLES)

RUNS = "full sync of runs"
EVERYTHING = "full sync with state history"
CHANGED = "sync after 1 % changed"
IDLE = "idle sync"
VERIFY = "verify"
ONLY_RUNS = ("--resources", ",".join(RUN_TABLES))

INTRO = """\
Written by `bench.py {arguments}`.

Every line is the median of several runs (of a full sync: {repeat}), measured in turns in one go, each in a process of
its own: seconds from its start to its end, peak memory as the operating system counts it, bytes as the server sends
them (compressed). What is compared is compared round by round. A real Prefect {prefect} server on SQLite runs on the
same machine; its runs are generated, {days} days of them, with states and events as a server writes them. The larger
server has {larger} times the history: as many runs a day for {larger} times as many days, with all their events.
*Growth* compares rounds in which both were measured in turns.

- **floor**: the requests that the sync sends, sent again over as many connections, the replies thrown away.
- **prefect-runs**: the command. *Full sync of runs* is a first load of flow runs and task runs. *Full sync with state
  history* is a first load of everything. *Sync after 1 % changed* loads {flow_changes:,} flow runs and {task_changes:,}
  task runs that ran, or were forced into another state, since the last sync: as many on a larger server. *Idle sync*
  finds that nothing changed."""

RIVALS_INTRO = """\
- **dlt rest_api**: dlt's generic source for the same endpoints: pages by offset, merge on id, states as a child
  resource. *Tuned*: the same with resources in parallel and parquet files.
- **requests loop**: pages by offset and histories one after the other, written as NDJSON, read by DuckDB.

The last three cannot tell what changed, nor what is missing: their next sync is the full one again."""


class Bench:
    """The measurements of one server; `copies` is an empty folder, `changes` how many runs of each kind change.

    `copy` is what was loaded last.
    """

    copy: Copy

    def __init__(self, url: str, copies: Path, figures: Server, changes: tuple[int, int]) -> None:
        self.url = url
        self.figures = figures
        self._copies = copies
        self._changes = changes
        self._requests = copies / "requests.jsonl"

    def beside(self) -> Bench:
        """Measurements of the same warehouse, with figures of their own."""
        other = Bench(self.url, self._copies, Server(self.figures.title), self._changes)
        other.copy = self.copy
        return other

    def full(self, what: str, repeat: int, tables: tuple[str, ...], *options: str, rivals: str | None = None) -> None:
        """First loads into empty warehouses, next to their floor; the last one is kept."""
        first = self._empty(f"{what} recorded")
        first.recorded(self._requests, "sync", *options)
        first.remove()
        for number in range(repeat):
            self._floor(what)
            copy = self._empty(f"{what} {number}")
            self._add(what, copy.command("sync", *options), copy.rows(*tables))
            if rivals is not None:
                self._rivals(what, states=tables != RUN_TABLES, before=rivals)
            if number < repeat - 1:
                copy.remove()
        self.copy = copy

    def load(self, what: str) -> None:
        """One first load of everything, without its floor."""
        self.copy = self._empty(what)
        self._add(what, self.copy.command("sync"), self.copy.rows(*ROW_TABLES))

    def keep(self, command: str) -> None:
        """Remember the warehouse, and what the command asks the server for on it."""
        self.copy.keep()
        self.copy.recorded(self._requests, command)

    def once(self, what: str, command: str) -> None:
        """The command on the warehouse as it was kept, next to its floor."""
        self._floor(what)
        self.copy.put_back()
        found = self.copy.command(command)
        self._add(what, found, _loaded(found) if command == "sync" else 0)

    def profile(self, what: str) -> None:
        """Say whose code a sync's time was spent in; the profiler makes it slower, so in parts of the whole."""
        self.copy.put_back()
        result = self._copies / "profile.json"
        self.copy.profiled(result, "sync")
        seconds: dict[str, float] = json.loads(result.read_text())
        whole = sum(seconds.values())
        parts = [(name, round(100 * own / whole)) for name, own in seconds.items()]
        said = ", ".join(f"{name} {percent} %" for name, percent in parts if percent >= 1 or name == "prefect_runs")
        self.figures.note(f"{what.capitalize()}, whose code its main thread spent its time in: {said}.")

    def change(self) -> None:
        """Change runs on the server."""
        Changes(self.url).make(*self._changes)

    def history_requests(self, flow_runs: int, task_runs: int) -> None:
        """Say how many requests the histories of the sync recorded last took."""
        found: Counter[str] = routes(self._requests)
        tasks = found["GET /task_run_states/"] + found["POST /events/filter of prefect.task-run."]
        self.figures.note(
            f"State history: {tasks:,} requests for {task_runs:,} task runs, of which "
            f"{found['GET /task_run_states/']:,} for a single run; {found['GET /flow_run_states/']:,} for "
            f"{flow_runs:,} flow runs."
        )

    def sample(self) -> None:
        """Compare histories with the endpoint."""
        runs, states, found = differences(self.url, self.copy.database, SAMPLE)
        self.figures.note(f"{runs:,} runs drawn by lot, {states:,} states: {len(found)} runs differ from the endpoint.")
        for difference in found[:5]:
            print(difference, flush=True)

    def before(self, flow_runs: int) -> str:
        """The expected start before which the rivals' part of the flow runs lies."""
        body = {"sort": "EXPECTED_START_TIME_ASC", "offset": flow_runs // RIVALS_PART, "limit": 1}
        reply = requests.post(f"{self.url}/flow_runs/filter", json=body, timeout=60)
        reply.raise_for_status()
        return str(reply.json()[0]["expected_start_time"])

    def _empty(self, name: str) -> Copy:
        return Copy(self.url, self._copies / name)

    def _add(self, what: str, found: Measured, rows: int) -> None:
        # the same requests had the same replies in the floor
        floor = self.figures.of(what, FLOOR)
        bytes_ = round(floor.median("bytes")) if floor else 0
        self.figures.add(what, OURS, Figure(found.report["requests"], bytes_, found.seconds, found.peak_mb, rows))

    def _floor(self, what: str) -> None:
        found = measured([sys.executable, HERE / "floor.py", self._requests], self._copies, {})
        self.figures.add(
            what,
            FLOOR,
            Figure(found.report["requests"], found.report["bytes"], found.seconds, found.peak_mb, 0),
        )

    def _rivals(self, what: str, states: bool, before: str) -> None:
        for by, name in RIVALS.items():
            folder = self._copies / name
            folder.mkdir()
            options = [*(["--states"] if states else []), *(["--before", before] if before else [])]
            environment = {**QUIET, "DLT_DATA_DIR": str(folder / "dlt")}
            found = measured([sys.executable, HERE / "rivals.py", name, self.url, *options], folder, environment)
            shutil.rmtree(folder)
            counts = found.report
            figure = Figure(counts["requests"], counts["bytes"], found.seconds, found.peak_mb, counts["rows"])
            self.figures.add(what, by, figure, f"the oldest 1/{RIVALS_PART} of the runs" if before else "")


def _loaded(sync: Measured) -> int:
    """Runs and states that a sync brought, new ones and changed ones."""
    return sum(sync.report[which].get(table, 0) for which in ("new", "changed") for table in ROW_TABLES)


def filled(home: Path, options: Sequence[object]) -> str:
    """Fill the server in the folder `home` unless that was done; what it holds, a table a line. Options of the fill."""
    told = home / "filled.txt"
    if not told.exists():
        # in a process of its own, whose memory is then free again
        fill = [sys.executable, HERE / "fill_server.py", "--events", "--home", home, *options]
        found = subprocess.run([*map(str, fill)], check=True, capture_output=True, text=True)
        told.write_text(found.stdout)
    return told.read_text()


@contextmanager
def server(
    homes: Path | None, flow_runs: int, task_runs: int, days: int, *options: str
) -> Iterator[tuple[LocalServer, str]]:
    """A started server with generated runs of `days` and their events, and what it holds in words.

    Args:
        homes: where a filled server is kept, or was kept by an earlier benchmark; what is measured is a copy of it.
        options: of the fill.
    """
    runs = ["--flow-runs", flow_runs, "--task-runs", task_runs, "--days", days, "--event-days", days]
    with tempfile.TemporaryDirectory(prefix="prefect-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        kept = homes / f"{flow_runs}-{task_runs}-{days}" if homes else home
        kept.mkdir(parents=True, exist_ok=True)
        told = filled(kept, [*runs, *options])
        if kept != home:
            shutil.copytree(kept, home)
        rows = {words[0]: int(words[1].replace(",", "")) for words in map(str.split, told.splitlines()[:-1])}
        states = rows["flow_run_state"] + rows["task_run_state"]
        title = f"{rows['flow_run']:,} flow runs, {rows['task_run']:,} task runs, {states:,} states"
        title += f", {rows['events']:,} events"
        print(f"\n{title}", flush=True)
        started = LocalServer(DEFAULT_VERSION, home=home, settings=UNDISTURBED)
        try:
            yield started.start(), title
        finally:
            started.close()


def again(what: str, benches: Sequence[Bench], repeat: int, command: str = "sync") -> None:
    """A command on the warehouse of each of `benches`, in turns; all are put back before each time."""
    for bench in benches:
        bench.keep(command)
    for _ in range(repeat):
        for bench in benches:
            bench.once(what, command)


@contextmanager
def measured_server(asked: argparse.Namespace, times: int, *beside: Bench) -> Iterator[Bench]:
    """A server with `times` the history, and all its figures; of a larger one without rivals and what takes an hour.

    What is measured again and again is measured of `beside` in the same rounds.
    """
    flow_runs, task_runs = asked.flow_runs * times, asked.task_runs * times
    # nobody here asks for the events of a resource, whose rows are a third of the database
    lean = ["--no-event-resources"] if times > 1 else []
    filled_server = server(asked.homes, flow_runs, task_runs, DAYS * times, *lean)
    with filled_server as (started, title), tempfile.TemporaryDirectory() as folder:
        figures = Server(title)
        bench = Bench(started.url, Path(folder), figures, (asked.flow_runs // 100, asked.task_runs // 100))
        if times == 1:
            bench.full(RUNS, asked.repeat, RUN_TABLES, *ONLY_RUNS, rivals="" if asked.rivals else None)
            bench.copy.remove()
            part = bench.before(flow_runs) if asked.rivals else None
            bench.full(EVERYTHING, asked.repeat, ROW_TABLES, rivals=part)
            bench.history_requests(flow_runs, task_runs)
        else:
            bench.load(EVERYTHING)
        bench.sample()
        benches = (bench, *beside)
        for each in benches:
            # the first sync after a load counts what the next ones compare with
            each.copy.command("sync")
        again(IDLE, benches, SHORT_REPEAT)
        bench.profile(IDLE)
        again(VERIFY, benches, SHORT_REPEAT, "verify")
        for each in benches:
            each.change()
        again(CHANGED, benches, SHORT_REPEAT)
        figures.note(f"Pipeline state in the warehouse: at most {bench.copy.state_bytes:,} bytes.")
        yield bench


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flow-runs", type=int, default=20_000)
    parser.add_argument("--task-runs", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3, help="runs of what takes long (3)")
    parser.add_argument("--tenfold", action=argparse.BooleanOptionalAction, default=True, help="a larger server too")
    parser.add_argument("--rivals", action=argparse.BooleanOptionalAction, default=True, help="rivals too")
    parser.add_argument("--homes", type=Path, help="keep the filled servers in this folder, and take those in it")
    shown = DOCS.relative_to(HERE.parent)
    parser.add_argument("--write-docs", type=Path, nargs="?", const=DOCS, help=f"write a page ({shown})")
    asked = parser.parse_args()
    # else the server would outlive a benchmark that is ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    intro = INTRO.format(
        arguments=" ".join(sys.argv[1:]),
        repeat=asked.repeat,
        prefect=DEFAULT_VERSION,
        days=DAYS,
        larger=LARGER,
        flow_changes=asked.flow_runs // 100,
        task_changes=asked.task_runs // 100,
    )
    intro += f"\n{RIVALS_INTRO}" if asked.rivals else ""

    def show(servers: Sequence[Server], beside: Server | None = None) -> None:
        text = page(servers, intro, beside)
        print(f"\n{text}")
        if asked.write_docs:
            asked.write_docs.write_text(text)

    with measured_server(asked, 1) as small:
        # the larger one takes an hour more, and may be given up
        show([small.figures])
        if asked.tenfold:
            beside = small.beside()
            with measured_server(asked, LARGER, beside) as large:
                show([small.figures, large.figures], beside.figures)


if __name__ == "__main__":
    main()
