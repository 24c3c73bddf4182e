"""Faults on the way to a real server, on its clock, on the disk, and two syncs at once: the next sync is whole."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command import Command
from conftest import SHORT_LOOKBACK_SECONDS, Copy
from fault_proxy import (
    Exchange,
    Fault,
    FaultProxy,
    Recorded,
    Reply,
    close,
    cut_body,
    cut_json,
    duplicated,
    hang,
    login_page,
    replace_json,
    reset,
    stale,
    status,
    trickle,
)
from prefect_api import PrefectApi, now
from soundness import unsound

import prefect_runs.change_capture
import prefect_runs.state_history
from prefect_runs import PrefectRunsError, ServerUnavailable
from prefect_runs_pipelines.command.outcomes import EXIT_OK, EXIT_RETRY
from prefect_runs_pipelines.destination.torso import HEADERS, remove_torso

HOUR = timedelta(hours=1)
HANG_SECONDS = 0.7

# a fault that is over when it is tried again; the long ones are longer than the timeout below
PASSING = (
    status(429, retry_after="0"),
    status(429),
    status(500),
    status(502),
    status(503),
    reset(),
    close(),
    hang(0.1),
    hang(HANG_SECONDS),
    trickle(2_000, 0.01),
    cut_body(),
    cut_json(),
    duplicated(),
    stale(),
)
# one that ends a sync at once
ENDING = (login_page(), status(401), status(404))
# of so many by chance, some are of nearly every kind
LEAST_FAULTS = 40


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "4")
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.01")


@pytest.fixture
def chance() -> random.Random:
    """Seeded so that a failure can be had again: PREFECT_RUNS_SEED."""
    seed = int(os.environ.get("PREFECT_RUNS_SEED") or random.randrange(1_000_000))
    print(f"PREFECT_RUNS_SEED={seed}")
    return random.Random(seed)


class TestManyFaultsAtRandom:
    ROUNDS = 6
    # where few faults are met, for timeouts end syncs early
    MOST_ROUNDS = 30

    @pytest.mark.usefixtures("impatient")
    def test_syncs_in_bad_weather(
        self,
        copy: Copy,
        api: PrefectApi,
        proxy: FaultProxy,
        chance: random.Random,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", str(HANG_SECONDS - 0.2))
        copy.url = proxy.url
        copy.settings["lookback_minutes"] = 10.0
        copy.settings["page_size"] = 7
        running: list[str] = []
        ended: Counter[str] = Counter()
        hit: Counter[str] = Counter()
        for number in range(self.MOST_ROUNDS):
            if number >= self.ROUNDS and hit.total() > LEAST_FAULTS:
                break
            self.change(api, chance, running)
            proxy.clear()
            proxy.randomly(chance.randrange(10**6), 0.02 if number % 2 else 0.0, ENDING)
            proxy.randomly(chance.randrange(10**6), 0.2, PASSING)
            try:
                ended["whole" if copy.sync().whole else "with a gap"] += 1
            except PrefectRunsError as error:
                print(f"sync {number}: {error}")
                ended["failed"] += 1
            hit = Counter(request.fault for request in proxy.requests if request.fault)
        print(f"{ended}, {hit.total()} of {len(proxy.requests)} requests: {hit}")
        proxy.clear()
        monkeypatch.setenv("RUNTIME__REQUEST_TIMEOUT", "60")
        copy.sync_and_compare()
        assert unsound(copy.warehouse) == []
        assert hit.total() > LEAST_FAULTS
        assert len(hit) > 8

    def change(self, api: PrefectApi, chance: random.Random, running: list[str]) -> None:
        for _ in range(chance.randrange(5, 12)):
            run_id = api.flow_run("RUNNING", tags=["a", "b"])
            running.append(run_id)
            for state in chance.sample(("RUNNING", "COMPLETED", "FAILED"), chance.randrange(3)):
                api.task_run(state, flow_run_id=run_id)
        for run_id in chance.sample(running, len(running) // 3):
            running.remove(run_id)
            api.set_flow_run(run_id, chance.choice(("COMPLETED", "FAILED", "PAUSED")))


def outdated(remembered: dict[Any, Reply], kind_of: Callable[[Recorded], Any]) -> Fault:
    """What the server answered the first time to a request of the same kind, as a cache or a slow replica does.

    Unlike `stale` also where the request's own times moved on since.
    """

    def act(exchange: Exchange) -> None:
        exchange.send(remembered.setdefault(kind_of(exchange.request), exchange.forward()))

    return Fault("outdated", act)


def read_of(request: Recorded) -> tuple[str, ...]:
    """Path, order and conditions of a request, whatever times it names."""
    body = request.body or {}
    own = body.get(request.path.split("/")[1], {})
    event = body.get("filter", {}).get("event", {}).get("prefix", [])
    return (request.path, str(body.get("sort")), *sorted(own), *sorted(map(str, own.get("end_time", {}))), *event)


def ended(request: Recorded) -> bool:
    return request.path.endswith("runs/filter") and request.body["sort"] == "END_TIME_DESC"


def in_flight(request: Recorded) -> bool:
    return request.path.endswith("runs/filter") and request.body["sort"] == "EXPECTED_START_TIME_ASC"


def events(request: Recorded) -> bool:
    return request.path == "/events/filter"


def any_read(request: Recorded) -> bool:
    return request.method == "POST" or "states" in request.path


@pytest.mark.usefixtures("impatient")
class TestOutdatedReplies:
    @pytest.mark.parametrize("read", [ended, in_flight, events, any_read], ids=lambda read: read.__name__)
    def test_a_page_older_than_an_earlier_one(
        self, copy: Copy, api: PrefectApi, proxy: FaultProxy, read: Callable[[Recorded], bool]
    ) -> None:
        copy.url = proxy.url
        copy.settings["lookback_minutes"] = 1.0
        run_id, other, third = (api.flow_run("RUNNING") for _ in range(3))
        task_run_id = api.task_run("RUNNING", flow_run_id=run_id)
        copy.sync()
        remembered: dict[Any, Reply] = {}
        proxy.inject(outdated(remembered, read_of), when=read, times=None)
        with contextlib.suppress(ServerUnavailable):
            copy.sync()
        assert remembered
        # each in another read, were it not for the old pages
        api.set_flow_run(run_id, "COMPLETED")
        api.set_task_run(task_run_id, "COMPLETED")
        api.set_flow_run(other, "PAUSED")
        api.set_flow_run(third, "FAILED")
        api.set_flow_run(third, "COMPLETED", force=True)
        api.task_run("RUNNING", flow_run_id=api.flow_run("COMPLETED"))
        try:
            copy.sync()
        except ServerUnavailable as error:
            print(error)
        proxy.clear()
        copy.sync_and_compare()

    def test_a_reply_with_an_old_date(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
        """Even the reply from which a sync takes its time."""
        copy.url = proxy.url
        copy.sync()
        for _ in range(2):
            api.outlive_its_second()
            api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING"))
            proxy.inject(stale(), "/admin/version")
            copy.sync_and_compare()
        assert [request.fault for request in proxy.requests].count("stale") == 2


def dated(shift: timedelta) -> Fault:
    """The server's reply, its `Date` shifted."""

    def shifted(name: str, value: str) -> str:
        return format_datetime(parsedate_to_datetime(value) + shift, usegmt=True) if name.lower() == "date" else value

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        exchange.send(replace(reply, headers=[(name, shifted(name, value)) for name, value in reply.headers]))

    return Fault("dated", act)


class TestServersClockIsOff:
    @pytest.mark.parametrize("hours", [-1, 1])
    def test_by_an_hour(self, copy: Copy, api: PrefectApi, proxy: FaultProxy, hours: int) -> None:
        """For some syncs, and then not any more."""
        copy.url = proxy.url
        proxy.inject(dated(hours * HOUR), times=None)
        runs: list[str] = []
        for number in range(3):
            for run_id in runs:
                api.set_flow_run(run_id, "COMPLETED")
            runs = [api.flow_run("RUNNING")]
            # begun and ended between two syncs: only the read of what ended brings it
            api.task_run("COMPLETED", flow_run_id=api.flow_run("COMPLETED"))
            copy.sync_and_compare()
            if number == 1:
                proxy.clear()
        assert sum(request.fault == "dated" for request in proxy.requests) > 20

    def test_far_ahead_and_then_set_back(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
        """What ended meanwhile is longer ago than the lookback when the next sync comes, and no longer open."""
        copy.url = proxy.url
        proxy.inject(dated(20 * HOUR), times=None)
        copy.sync_and_compare()
        proxy.clear()
        api.task_run("COMPLETED", flow_run_id=api.flow_run("COMPLETED"))
        time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
        [gap] = copy.sync_and_compare().gaps
        assert gap.startswith("the server's clock was set back by 19:5")
        assert copy.sync_and_compare().gaps == []


class SkewedClient:
    """Reports task runs as Prefect's client does, by events, with a clock that is off.

    Args:
        shift: what its clock shows, less the time.
    """

    def __init__(self, api: PrefectApi, flow_run_id: str, shift: timedelta) -> None:
        self._api = api
        self._flow_run_id = flow_run_id
        self._shift = shift
        self.task_run_id = str(uuid.uuid4())
        self._start = now() + shift

    def enters(self, type_: str) -> None:
        """The task run enters a state of this type; returns when the server has recorded it."""
        time_, name, run = now() + self._shift, type_.title(), f"prefect.task-run.{self.task_run_id}"
        task_run = {
            "name": "skewed",
            "task_key": "skewed",
            "dynamic_key": self.task_run_id,
            "state_type": type_,
            "state_name": name,
            "run_count": 1,
            "expected_start_time": self._start.isoformat(),
            "start_time": self._start.isoformat(),
            "end_time": time_.isoformat() if type_ == "COMPLETED" else None,
        }
        event = {
            "id": str(uuid.uuid4()),
            "occurred": time_.isoformat(),
            "event": f"prefect.task-run.{name}",
            "resource": {
                "prefect.resource.id": run,
                "prefect.resource.name": "skewed",
                "prefect.state-type": type_,
                "prefect.state-name": name,
                "prefect.state-timestamp": time_.isoformat(),
                "prefect.orchestration": "client",
            },
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{self._flow_run_id}", "prefect.resource.role": "flow-run"}
            ],
            "payload": {"validated_state": {"type": type_, "name": name, "state_details": {}}, "task_run": task_run},
        }
        self._api.call("POST", "/events", [event])
        deadline = time.monotonic() + 30
        asked = {"task_runs": {"id": {"any_": [self.task_run_id]}, "state": {"type": {"any_": [type_]}}}}
        while not self._api.call("POST", "/task_runs/filter", asked):
            assert time.monotonic() < deadline, f"{type_} was not recorded"
            time.sleep(0.1)


class TestClientsClockIsOff:
    """A run's times are those of the machine that it ran on."""

    @pytest.fixture
    def flow_run_id(self, copy: Copy, api: PrefectApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        name = f"skewed {uuid.uuid4()}"
        # other tests' runs of the last hours are none of this one's business
        monkeypatch.setenv("SOURCES__PREFECT_RUNS__FILTERS__FLOW_NAMES", f'["{name}"]')
        copy.since -= 2 * HOUR
        run_id = api.flow_run("RUNNING", flow_id=api.flow(name))
        yield run_id
        # its task runs go with it, of which those of the future would belong to every later test
        api.call("DELETE", f"/flow_runs/{run_id}")

    def states(self, copy: Copy) -> list[str]:
        return copy.values("SELECT state_type FROM prefect.task_runs")

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_and_a_sync_sees_the_run_in_flight(self, copy: Copy, api: PrefectApi, flow_run_id: str, hours: int) -> None:
        client = SkewedClient(api, flow_run_id, hours * HOUR)
        client.enters("RUNNING")
        copy.sync()
        assert self.states(copy) == ["RUNNING"]
        client.enters("COMPLETED")
        copy.sync()
        assert self.states(copy) == ["COMPLETED"]
        assert copy.sync().changed["task_runs"] == 0

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_and_the_run_begins_and_ends_between_two_syncs(
        self, copy: Copy, api: PrefectApi, flow_run_id: str, hours: int
    ) -> None:
        copy.sync()
        client = SkewedClient(api, flow_run_id, hours * HOUR)
        for type_ in ("RUNNING", "COMPLETED"):
            client.enters(type_)
        # what was recorded after the time of a sync is left to the next one
        api.outlive_its_second()
        copy.sync()
        if hours < 0:
            # an end and events of an hour ago are in no window since the lookback
            assert not copy.verify().whole
            copy.verify(repair=True)
        assert self.states(copy) == ["COMPLETED"]


@pytest.fixture
def command(copy: Copy, api: PrefectApi) -> Command:
    for state in ("COMPLETED", "RUNNING"):
        api.task_run(state, flow_run_id=api.flow_run(state, tags=["a", "b"]))
    return Command(copy)


class TestTwoSyncsAtOnce:
    def held(self, command: Command, proxy: FaultProxy, seconds: float) -> subprocess.Popen[str]:
        """A sync that has begun to read, and waits for the server."""
        asked: list[None] = []
        proxy.before("/flow_runs/*", lambda: asked.append(None))
        proxy.inject(hang(seconds), "/flow_runs/*")
        process = command.start(proxy.url)
        deadline = time.monotonic() + 60
        while not asked:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    def assert_sound(self, command: Command) -> None:
        command.works()
        assert unsound(command.copy.warehouse) == []

    def test_the_second_is_refused(self, command: Command, proxy: FaultProxy) -> None:
        command.environment["RUNTIME__REQUEST_TIMEOUT"] = "600"
        first = self.held(command, proxy, 600)
        command.fails(EXIT_RETRY, "another prefect-runs command is at work", "Run again")
        # however the first one ends, it is in nobody's way
        first.kill()
        first.communicate()
        self.assert_sound(command)

    def test_the_second_waits(self, command: Command, proxy: FaultProxy) -> None:
        command.environment["PATIENCE_SECONDS"] = "60"
        first = self.held(command, proxy, 1)
        second = command.start()
        for process in (second, first):
            output, error = process.communicate(timeout=120)
            assert process.returncode == EXIT_OK, f"{output}{error}"
        self.assert_sound(command)

    def test_on_two_machines(self, command: Command, proxy: FaultProxy, api: PrefectApi) -> None:
        """They share the DuckDB file, and not the working folder."""
        other = Command(command.copy, {"DLT_DATA_DIR": str(command.copy.folder / "other")})
        for process in [command.start(), other.start()]:
            output, error = process.communicate(timeout=120)
            assert process.returncode in (EXIT_OK, EXIT_RETRY), f"{output}{error}"
        api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING", tags=["c"]))
        self.assert_sound(other)
        self.assert_sound(command)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def filled(folder: Path, but_for: int) -> Iterator[None]:
    """The file system of `folder` is full but for so many bytes."""
    room = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(b"x" * (room.f_bavail * room.f_bsize - but_for))
    yield
    filler.unlink()


class TestFullDisk:
    @pytest.mark.parametrize("room", [0, 4096, 8192])
    def test_when_the_warehouse_is_made(self, command: Command, tmp_path: Path, room: int) -> None:
        command.environment["DLT_DATA_DIR"] = str(tmp_path / "dlt")
        with small_disk(tmp_path / "small", "24m") as command.copy.folder:
            with filled(command.copy.folder, but_for=room):
                command.fails(EXIT_RETRY, "full", "Make room")
                assert command.copy.database.stat().st_size == room
            command.works()

    @pytest.mark.parametrize("room", [0, 65_536])
    def test_in_the_working_folder(self, command: Command, api: PrefectApi, tmp_path: Path, room: int) -> None:
        with small_disk(tmp_path / "small", "24m") as folder:
            command.environment["DLT_DATA_DIR"] = str(folder)
            command.works()
            api.flow_run("RUNNING", parameters={"long": os.urandom(100_000).hex()})
            with filled(folder, but_for=room):
                command.fails(EXIT_RETRY, "full", "Make room")
            command.works()


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


class TestTorsos:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        path = tmp_path / "a.duckdb"
        with duckdb.connect(str(path)) as made:
            made.execute("CREATE TABLE t AS SELECT 1 AS a")
        return path

    @pytest.mark.parametrize("size", [0, 12, 4096, 8192, HEADERS - 1])
    def test_is_removed(self, database: Path, size: int) -> None:
        os.truncate(database, size)
        with pytest.raises(duckdb.Error):
            duckdb.connect(str(database))
        assert remove_torso(database)
        assert not database.exists()
        assert not remove_torso(database)

    def test_what_may_hold_data_stays(self, database: Path, tmp_path: Path) -> None:
        assert not remove_torso(database)
        os.truncate(database, HEADERS)
        assert not remove_torso(database)
        os.truncate(database, 4096)
        log = tmp_path / "a.duckdb.wal"
        log.write_bytes(b"x")
        assert not remove_torso(database)
        log.unlink()
        foreign = tmp_path / "notes.duckdb"
        foreign.write_text("no database at all")
        assert not remove_torso(foreign)
        assert not remove_torso(tmp_path)
        assert database.stat().st_size == 4096
        assert foreign.read_text() == "no database at all"

    def test_what_another_program_is_making_stays(self, database: Path) -> None:
        os.truncate(database, 4096)
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert not remove_torso(database)
            holder.communicate("\n")
        assert remove_torso(database)


class TestLateRows:
    """Histories that lack the last state, as a busy server gives them."""

    def test_are_read_again_by_the_next_sync(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
        self._synced_without_the_last_states(copy, api, proxy)
        copy.sync_and_compare()

    def test_of_too_many_a_sync_says_so_and_a_repair_reads_them(
        self, copy: Copy, api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prefect_runs.state_history, "REMEMBERED_RUNS", 1)
        [gap] = self._synced_without_the_last_states(copy, api, proxy)
        assert "3 histories" in gap
        assert "of 2 no sync" in gap
        assert copy.verify(repair=True).whole
        copy.sync_and_compare()

    def _synced_without_the_last_states(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> list[str]:
        """What a sync says that met them."""
        for _ in range(3):
            api.set_flow_run(api.flow_run("RUNNING"), "COMPLETED")
        url, copy.url = copy.url, proxy.url
        proxy.inject(replace_json(lambda states: states[:-1]), "/flow_run_states", times=None)
        gaps = copy.sync().gaps
        copy.url = url
        return gaps


class TestTornRows:
    """Rows that name a state and do not have it, as a busy server gives them."""

    def test_are_read_again_by_later_syncs(self, copy: Copy, api: PrefectApi, proxy: FaultProxy) -> None:
        run_ids = self._changed(copy, api)
        for _ in range(2):
            assert self._synced_without_states(copy, proxy, run_ids) == []
            # no other read has them any more
            time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
        assert copy.sync_and_compare().changed["flow_runs"] == len(run_ids)

    def test_of_too_many_a_sync_says_so_and_a_repair_reads_them(
        self, copy: Copy, api: PrefectApi, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prefect_runs.change_capture, "REMEMBERED_RUNS", 1)
        run_ids = self._changed(copy, api)
        [gap] = self._synced_without_states(copy, proxy, run_ids)
        assert "3 rows without their state" in gap
        assert "of 2 no sync" in gap
        time.sleep(SHORT_LOOKBACK_SECONDS + 1.5)
        assert copy.verify(sweep=True, repair=True).whole
        copy.assert_true()

    def _changed(self, copy: Copy, api: PrefectApi) -> list[str]:
        """Runs that were set from one end to another since a sync, which events alone tell of."""
        run_ids = [api.flow_run("RUNNING") for _ in range(3)]
        for run_id in run_ids:
            api.set_flow_run(run_id, "COMPLETED")
        copy.sync()
        copy.outlive_lookback()
        for run_id in run_ids:
            api.set_flow_run(run_id, "FAILED", force=True)
        api.outlive_its_second()
        return run_ids

    def _synced_without_states(self, copy: Copy, proxy: FaultProxy, run_ids: list[str]) -> list[str]:
        """The gaps of a sync that meets the runs so."""

        def torn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{**row, "state": None} if row["id"] in run_ids else row for row in rows]

        proxy.clear()
        proxy.inject(replace_json(torn), "/flow_runs/filter", times=None)
        return replace(copy, url=proxy.url).sync().gaps
