"""The demo: a Prefect server starts, sample flows run, two syncs copy them, and five queries read the copy.

Nothing needs to be installed or configured first. What stays is the DuckDB file, the installed server for the next
time, and dlt's folder of the pipeline.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, CalledProcessError, Popen
from typing import Any, NamedTuple, TextIO

import duckdb
import requests

from prefect_runs import ConfigurationError

from ..command.screen import sync_screen, text_table
from ..destination.in_place import check_place
from ..local.server import LocalServer, local_server
from ..models.queries import QUERIES, Query
from ..options import DEFAULT_DATASET, SyncOptions, check_file_name
from ..sync import sync

FLOWS = Path(__file__).with_name("flows.py")
WORKSPACE = "demo"

# a server does all of this on its own time, up to a minute; nobody wants to watch a demo wait for it
IMPATIENT = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "3",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    # a whole number: of less than one second the recorder makes none, and never rests
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
# half of the sample flows fail on purpose: their tracebacks would hide what happens
NO_TRACEBACKS = {"PREFECT_LOGGING_LEVEL": "CRITICAL"}
RECORDED_SECONDS = 60.0

RUNS = """\
select r.id, f.name as flow, r.name as run, r.state_name as state,
       (select count(*) from prefect.flow_run_states as s where s.flow_run_id = r.id) as transitions
from prefect.flow_runs as r join prefect.flows as f on f.id = r.flow_id
order by r.expected_start_time"""


class Run(NamedTuple):
    """A flow run as the warehouse knows it: names, and how many transitions of it are there."""

    flow: str
    name: str
    state: str
    transitions: int


def run_demo(database: Path, out: TextIO = sys.stdout) -> int:
    """Show a whole life of the copy in about a minute, in ``database``, which must not exist yet.

    Returns the process's exit code, 0.

    Raises:
        ConfigurationError: the file is there already (it is left alone), cannot be made, or is called like the dataset.
    """
    if database.exists():
        raise ConfigurationError(f"{database} exists already: remove it, or name another file with --database")
    check_file_name("--database", str(database), DEFAULT_DATASET)
    check_place(database)
    with local_server(settings=IMPATIENT) as server:
        say(out, f"A Prefect {server.version} server runs at {server.url}")
        say(out, "\n1. Sample flows run")
        play(server, "run", out)
        say(out, f"\n2. The first sync copies them into {database}")
        sync_into(database, server, out)
        before = read_runs(database)
        say(out, "\n3. Later, old runs change on the server, and new ones come")
        play(server, "change", out)
        say(out, "\n4. The second sync finds what changed")
        sync_into(database, server, out)
    after = read_runs(database)
    rows = list(changed(before, after))
    say(out, f"\n{len(rows)} flow runs are new or changed, {len(after) - len(rows)} are as they were:\n")
    say(out, text_table(("flow", "run", "state before", "state after", "new transitions"), rows))
    say(out, "\n5. What an analyst asks")
    for query in QUERIES:
        show(query, database, out)
    say(out, f"The server is stopped, its data is gone. The copy stays: {database}")
    # the Python that has duckdb, wherever the command was started from
    say(out, f'Try next: {sys.executable} -c "import duckdb; {next_step(database)}"')
    return 0


def next_step(database: Path) -> str:
    return f"duckdb.connect('{database}').sql('from prefect.flow_run_states').show()"


def say(out: TextIO, text: str) -> None:
    print(text, file=out, flush=True)


def play(server: LocalServer, round_name: str, out: TextIO) -> None:
    """Run one round of the sample flows, tell each step as it happens, and wait until all is recorded."""
    # -P: this folder's modules must not stand in for modules of the server's environment
    command = [str(server.python), "-P", str(FLOWS), round_name]
    environment = server.environment(**NO_TRACEBACKS)
    # a group of its own: the flows start processes too, and an interrupted demo must leave none of them
    with Popen(command, env=environment, cwd=server.home, stdout=PIPE, text=True, start_new_session=True) as process:
        try:
            for line in process.stdout or ():
                step = json.loads(line)
                say(out, f"   {step['did']}: {step['run']}")
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise CalledProcessError(process.returncode, command)
    wait_until_recorded(server)


def wait_until_recorded(server: LocalServer) -> None:
    """Wait until the server counts the same task runs twice: it writes them after their flow has ended."""
    deadline = time.monotonic() + RECORDED_SECONDS
    seen = None
    while time.monotonic() < deadline:
        counts = [count_task_runs(server, kind) for kind in ({}, {"type": {"any_": ["COMPLETED"]}})]
        if counts == seen:
            return
        seen = counts
        # longer than the server holds them back
        time.sleep(2.5)


def count_task_runs(server: LocalServer, state: dict[str, Any]) -> int:
    reply = requests.post(f"{server.url}/task_runs/count", json={"task_runs": {"state": state}}, timeout=30)
    reply.raise_for_status()
    return int(reply.json())


def sync_into(database: Path, server: LocalServer, out: TextIO) -> None:
    report = sync(SyncOptions(api_url=server.url, database=str(database), workspace=WORKSPACE))
    say(out, sync_screen(report))


def read_runs(database: Path) -> dict[str, Run]:
    """Every flow run in the warehouse by its id."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        return {row[0]: Run(*row[1:]) for row in warehouse.execute(RUNS).fetchall()}


def changed(before: dict[str, Run], after: dict[str, Run]) -> Iterator[tuple[object, ...]]:
    """Flow, run, state before (empty when the run is new), state after, and transitions added."""
    for run_id, now in after.items():
        was = before.get(run_id)
        if now != was:
            added = now.transitions - (was.transitions if was else 0)
            yield now.flow, now.name, was.state if was else None, now.state, added


def show(query: Query, database: Path, out: TextIO) -> None:
    """Print a query's question, its SQL and its rows."""
    with duckdb.connect(str(database), read_only=True) as warehouse:
        result = warehouse.execute(query.sql)
        columns = [column[0] for column in result.description or ()]
        rows = result.fetchall()
    say(out, f"\n-- {query.question}\n{query.sql};\n\n{text_table(columns, rows)}\n")
