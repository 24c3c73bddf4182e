"""Syncs of a soak: processes of their own, through a faulty proxy, some of them killed, some kept from their file."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import duckdb
from fault_proxy import (
    Fault,
    FaultProxy,
    close,
    cut_body,
    cut_json,
    duplicated,
    hang,
    login_page,
    reset,
    stale,
    status,
    trickle,
)
from prefect_api import now

T = TypeVar("T")

COMMAND = Path(sys.executable).parent / "prefect-runs"
# the command ends with these when something else than itself is at fault
EXPECTED_EXITS = {0: "whole", 2: "login page", 3: "not available"}
LONGEST_SECONDS = 600.0
# a sync of a small warehouse; the first guess for the moments of kills
USUAL_SECONDS = 3.0
REQUEST_TIMEOUT = 6
FAULTS = [
    status(429),
    status(429, retry_after="1"),
    status(500),
    status(502),
    status(503),
    reset(),
    close(),
    hang(0.5),
    hang(2),
    hang(REQUEST_TIMEOUT + 2),
    trickle(2_000, 0.05),
    cut_body(),
    cut_json(),
    duplicated(),
    stale(),
]
FATAL: list[Fault] = [login_page()]


@dataclass(frozen=True)
class SyncRun:
    """One sync: when, how it ended, and what was done to it."""

    number: int
    began: datetime
    ended: datetime
    exit_code: int
    sent: str = ""
    output: str = ""

    @property
    def line(self) -> str:
        """The sync as a line of JSON."""
        return json.dumps(asdict(self), default=str)

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.exit_code == -signal.SIGKILL:
            return "killed"
        # before Python has its handler; afterwards the command says so itself
        if self.exit_code == -signal.SIGTERM or (self.exit_code == 3 and self.sent == "SIGTERM"):
            return "terminated"
        return f"exit code {self.exit_code}"

    @property
    def is_bug(self) -> bool:
        """Whether it ended in a way that no fault and no kill explains."""
        fine = self.exit_code in EXPECTED_EXITS or self.outcome in ("killed", "terminated")
        return not fine or "Traceback" in self.output or "unexpected" in self.output


class Deck(Generic[T]):
    """Gives its cards at random, each as often as the others: of a few syncs too some are killed."""

    def __init__(self, generator: random.Random, cards: Sequence[T]) -> None:
        self._random = generator
        self._cards = list(cards)
        self._left: list[T] = []

    def next(self) -> T:
        """The next card; shuffled anew when none is left."""
        if not self._left:
            self._left = self._random.sample(self._cards, len(self._cards))
        return self._left.pop()


class Syncs:
    """Syncs of one warehouse.

    Args:
        proxy: in front of the server.
        generator: makes every choice.
        folder: for the warehouse, dlt's files and the log.
        lookback_seconds: the syncs' setting.
        pause_seconds: for how long, now and then, there is no sync.
    """

    def __init__(
        self,
        proxy: FaultProxy,
        generator: random.Random,
        folder: Path,
        lookback_seconds: float,
        pause_seconds: float,
    ) -> None:
        self.proxy = proxy
        self.database = folder / "soak.duckdb"
        self.made: list[SyncRun] = []
        self.errors: list[Exception] = []
        self.holds = 0
        self._random = generator
        self._folder = folder
        self._log = (folder / "syncs.jsonl").open("w")
        self._whole_seconds = USUAL_SECONDS
        self._weathers = Deck(generator, [*("calm",) * 3, *("gusty",) * 3, *("stormy",) * 2, "outage", "login"])
        self._treatments = Deck(generator, [*("",) * 5, *("SIGKILL",) * 2, "SIGTERM"])
        self._held = Deck(generator, [*(False,) * 5, True])
        self._pauses = Deck(generator, [*(0.0,) * 7, pause_seconds])
        self.environment = {
            **os.environ,
            "DLT_DATA_DIR": str(folder / "dlt"),
            "RUNTIME__REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
            "RUNTIME__REQUEST_BACKOFF_FACTOR": "0.2",
            "SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES": str(lookback_seconds / 60),
            # several chunks in the first load and parts in a late sync, each of which may be killed
            "SOURCES__PREFECT_RUNS__SETTINGS__CHUNK_ROWS": "50",
        }

    @property
    def outcomes(self) -> Counter[str]:
        """Syncs by how they ended."""
        return Counter(sync.outcome for sync in self.made)

    @property
    def faults(self) -> Counter[str]:
        """Requests that a fault hit, by its name."""
        return Counter(request.fault for request in list(self.proxy.requests) if request.fault)

    def until(self, stop: threading.Event) -> None:
        """Sync every few seconds until told to stop; what goes wrong is put into `errors`."""
        try:
            while not stop.wait(self._pauses.next() + self._random.uniform(0.5, 4)):
                self._change_weather()
                self.disturbed()
        except Exception as error:  # noqa: BLE001 - raised by whoever joins the thread
            self.errors.append(error)

    def disturbed(self) -> None:
        """A sync that may be killed, terminated, or kept from its file."""
        sent, held = self._treatments.next(), self._held.next()
        # Python and dlt are imported in the first part
        moment = self._random.uniform(0.2, 1.0) * self._whole_seconds
        began, started = now(), time.monotonic()
        process = self.start("sync")
        if held:
            self._hold_file(moment)
        if sent:
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=max(moment - (time.monotonic() - started), 0.05))
            if process.poll() is None:
                process.send_signal(signal.Signals[sent])
            else:
                sent = ""
        output = self.finish(process)
        if process.returncode == 0 and not held:
            self._whole_seconds += 0.3 * (time.monotonic() - started - self._whole_seconds)
        self._note(SyncRun(len(self.made), began, now(), process.returncode, sent, output))

    def whole(self) -> SyncRun:
        """A sync with nothing in its way."""
        began = now()
        process = self.start("sync")
        output = self.finish(process)
        self._note(SyncRun(len(self.made), began, now(), process.returncode, "", output))
        return self.made[-1]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, just begun."""
        where = ["--api-url", self.proxy.url, "--workspace", "soak", "--database", str(self.database)]
        return subprocess.Popen(
            [str(COMMAND), *arguments, *where],
            cwd=self._folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if arguments == ("sync",) else subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What the command printed."""
        try:
            return process.communicate(timeout=LONGEST_SECONDS)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0]
            raise TimeoutError(f"a sync did not end in {LONGEST_SECONDS} s:\n{output}") from None

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _note(self, sync: SyncRun) -> None:
        self.made.append(sync)
        print(sync.line, file=self._log, flush=True)

    def _change_weather(self) -> None:
        """Other faults from now on: mostly few, sometimes an outage, sometimes a gateway's login page."""
        self.proxy.clear()
        seed = self._random.randrange(1_000_000)
        weather = self._weathers.next()
        if weather == "gusty":
            self.proxy.randomly(seed, 0.05, FAULTS)
        elif weather == "stormy":
            self.proxy.randomly(seed, 0.25, FAULTS)
        elif weather == "outage":
            self.proxy.randomly(seed, 0.95, [status(503), reset(), status(502)])
        elif weather == "login":
            self.proxy.randomly(seed, 0.1, FATAL)

    def _hold_file(self, delay: float) -> None:
        """Have the file open for a moment, as a person with a query has."""
        time.sleep(delay)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            # the sync has it, or has not made it yet
            with suppress(duckdb.Error), duckdb.connect(str(self.database), read_only=True):
                self.holds += 1
                time.sleep(self._random.uniform(0.5, 3))
                return
            time.sleep(0.05)
