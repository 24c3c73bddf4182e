"""What goes wrong around a sync: a clear error, the documented exit code, no traceback, and the next sync is whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from clocks import Clock
from command import Command
from conftest import IMPATIENT, Copy
from fault_proxy import (
    Fault,
    FaultProxy,
    Recorded,
    close,
    cut_body,
    cut_json,
    hang,
    login_page,
    replace_json,
    reset,
    unauthorized,
)
from fault_proxy import status as answered
from prefect_api import PrefectApi, now

from prefect_runs import ConfigurationError, WarehouseBusy
from prefect_runs.clock import as_utc
from prefect_runs_pipelines import cli, demo
from prefect_runs_pipelines.command.outcomes import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_GAPS, EXIT_OK, EXIT_RETRY
from prefect_runs_pipelines.destination import failures, memory
from prefect_runs_pipelines.destination.in_place import in_place_of
from prefect_runs_pipelines.local.server import LocalServer, free_port
from prefect_runs_pipelines.report import write_report
from prefect_runs_pipelines.status import status
from prefect_runs_pipelines.target import Target

KEY = "pnu_secret_0123456789"
AUTH = "admin:secret_password_0123456789"
HEADER = "secret_header_value_0123456789"


@pytest.fixture
def command(copy: Copy, api: PrefectApi) -> Command:
    for state in ("COMPLETED", "RUNNING", "FAILED"):
        api.task_run(state, flow_run_id=api.flow_run(state, tags=["a", "b"]))
    return Command(copy)


class TestWrongServer:
    def test_nothing_listens(self, command: Command) -> None:
        url = f"http://127.0.0.1:{free_port()}/api"
        command.fails(EXIT_RETRY, f"GET {url}/admin/version got no answer", "refused", "Is the server up", url=url)
        assert not command.copy.database.exists() or command.copy.values("SHOW ALL TABLES") == []
        command.works()

    def test_another_path(self, command: Command, server: LocalServer) -> None:
        url = server.url.replace("/api", "/other/api")
        command.fails(EXIT_CONFIGURATION, "there is no Prefect API at", "answered 404", "ends in /api", url=url)
        command.works()

    def test_a_key_that_is_refused(self, command: Command, proxy: FaultProxy) -> None:
        command.works()
        proxy.inject(unauthorized(), times=None)
        command.fails(EXIT_CONFIGURATION, "answered 401", "PREFECT_API_AUTH_STRING", url=proxy.url)
        command.works()

    def test_a_login_page(self, command: Command, proxy: FaultProxy) -> None:
        proxy.inject(login_page(), times=None)
        command.fails(EXIT_CONFIGURATION, "a page of HTML where JSON was due", "set the URL of the API", url=proxy.url)
        command.works()


class TestFaultsInMidSync:
    """The first load and a later sync meet a fault that stays, at a request in the middle."""

    CASES = (
        pytest.param(reset(), EXIT_RETRY, "got no answer", id="goes away"),
        pytest.param(cut_body(), EXIT_RETRY, "got no answer", id="cut body"),
        pytest.param(cut_json(), EXIT_ERROR, "no JSON", id="cut JSON"),
        pytest.param(login_page(), EXIT_CONFIGURATION, "HTML", id="session over"),
    )

    @pytest.mark.parametrize(("fault", "code", "words"), CASES)
    def test_then_whole(
        self, command: Command, proxy: FaultProxy, api: PrefectApi, fault: Fault, code: int, words: str
    ) -> None:
        proxy.inject(fault, after=6, times=None)
        command.fails(code, words, "127.0.0.1", url=proxy.url)
        command.works()
        api.flow_run("RUNNING")
        api.task_run("COMPLETED")
        proxy.clear()
        proxy.inject(fault, "/task_run_states", times=None)
        command.fails(code, words, "task_run_states", url=proxy.url)
        command.works()

    def test_the_server_is_killed(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        running = LocalServer(home=home, settings=IMPATIENT)
        try:
            running.start()
            api = PrefectApi(running.url)
            copy = Copy(api, tmp_path, now(), running.url)
            for _ in range(5):
                api.task_run("COMPLETED", flow_run_id=api.flow_run("RUNNING"))
            command = Command(copy)
            with FaultProxy(running.url) as proxy:
                proxy.before(None, lambda: running.stop(kill=True), after=8)
                command.fails(EXIT_RETRY, "got no answer", "Is the server up", url=proxy.url)
            running.start()
            command.works()
            api.close()
        finally:
            running.close()


def in_rows(change: Callable[[dict[str, Any]], None]) -> Fault:
    """The server's rows, each changed."""

    def changed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            change(row)
        return rows

    return replace_json(changed)


def in_pages(change: Callable[[dict[str, Any]], None]) -> Fault:
    """The server's pages of events, each changed; those without events are as they were."""

    def changed(page: dict[str, Any]) -> dict[str, Any]:
        if page["events"]:
            change(page)
        return page

    return replace_json(changed)


def set_state(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Sets fields of the row and of its state, as a newer server would answer."""

    def change(row: dict[str, Any]) -> None:
        row["state"].update(fields)
        row.update((f"state_{name}", value) for name, value in fields.items())

    return change


class TestRowsOfAnotherShape:
    @pytest.mark.parametrize(
        ("field", "value"),
        [("run_count", "many"), ("tags", "a"), ("name", {"a": 1})],
    )
    def test_a_field_of_another_type(self, command: Command, proxy: FaultProxy, field: str, value: Any) -> None:
        proxy.inject(in_rows(lambda row: row.update({field: value})), "/flow_runs/filter", times=None)
        error = command.fails(EXIT_ERROR, field, f"a {type(value).__name__} of ", url=proxy.url)
        # it may be what nobody is to see
        assert repr(value) not in error
        command.works()

    @pytest.mark.parametrize(("field", "value"), [("state", "RUNNING"), ("updated", None), ("expected_start_time", 7)])
    def test_a_field_that_the_sync_itself_needs(
        self, command: Command, proxy: FaultProxy, field: str, value: Any
    ) -> None:
        proxy.inject(in_rows(lambda row: row.update({field: value})), "/flow_runs/filter", times=None)
        command.fails(EXIT_ERROR, field, url=proxy.url)
        command.works()

    def test_an_event_or_its_page(self, command: Command, api: PrefectApi, proxy: FaultProxy) -> None:
        # a first load would read no events
        command.works()
        api.flow_run("COMPLETED")
        api.outlive_its_second()
        proxy.inject(in_pages(lambda page: page.update(total="sesame")), "/events/filter", times=None)
        error = command.fails(EXIT_ERROR, "POST /events/filter answered a str of 6 where the number of", url=proxy.url)
        assert "sesame" not in error
        command.works()

    def test_an_unknown_state_name(self, command: Command, proxy: FaultProxy) -> None:
        proxy.inject(in_rows(set_state(name="Never heard of")), "/flow_runs/filter", times=None)
        output, error = command.start(proxy.url).communicate(timeout=60)
        assert "nothing is known to be missing" in output, error
        assert set(command.copy.values("SELECT state_name FROM prefect.flow_runs")) == {"Never heard of"}

    def test_an_unknown_state_type(self, command: Command, proxy: FaultProxy) -> None:
        proxy.inject(in_rows(set_state(type="HIBERNATING")), "/flow_runs/filter", times=None)
        process = command.start(proxy.url)
        output, error = process.communicate(timeout=60)
        assert process.returncode == EXIT_GAPS, error
        assert "the state type HIBERNATING is new to this version" in output
        assert set(command.copy.values("SELECT state_type FROM prefect.flow_runs")) == {"HIBERNATING"}


# a sync may have the file open for a moment, as it answers another question: that is waited for
HOLD = """
import sys, time, duckdb
latest = time.monotonic() + 30
while True:
    try:
        held = duckdb.connect(sys.argv[1], read_only=sys.argv[3:] == ["reading"])
        break
    except duckdb.IOException:
        if time.monotonic() > latest:
            raise
        time.sleep(0.01)
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""

Hold = Callable[..., Callable[[], None]]


@pytest.fixture
def hold(copy: Copy) -> Iterator[Hold]:
    """Holds the DuckDB file in another process for so many seconds, or until what it returns is called.

    `"reading"` has it opened to be read only.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(length: float, *how: str) -> Callable[[], None]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(copy.database), str(length), *how], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return lambda: end(process)

    def end(process: subprocess.Popen[str]) -> None:
        # it may have ended already, or been ended
        with process:
            process.kill()

    yield begin
    for process in started:
        end(process)


class TestHeldWarehouse:
    def test_held_before_the_sync(self, command: Command, api: PrefectApi, hold: Hold) -> None:
        command.works()
        api.flow_run("RUNNING")
        hold(60)
        began = time.monotonic()
        command.fails(EXIT_RETRY, "held by another program", "close the other program")
        assert time.monotonic() - began > 2

    def test_held_at_the_first_load(self, command: Command, hold: Hold) -> None:
        release = hold(60)
        command.fails(EXIT_RETRY, "held by another program")
        release()
        command.works()

    def test_held_when_it_is_to_be_loaded(
        self, copy: Copy, api: PrefectApi, hold: Hold, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy.sync()
        run_id = api.flow_run("RUNNING", name="extracted and not loaded")
        normalize = dlt.Pipeline.normalize
        release: list[Callable[[], None]] = []

        def and_hold(pipeline: dlt.Pipeline) -> Any:
            normalized = normalize(pipeline)
            release.append(hold(60))
            return normalized

        with monkeypatch.context() as patched:
            patched.setattr(failures, "PATIENCE_SECONDS", 1.0)
            patched.setattr(dlt.Pipeline, "normalize", and_hold)
            with pytest.raises(WarehouseBusy, match="loaded by the next sync"):
                copy.sync()
        pending = [path for path in copy.folder.glob("pipelines/*/load/normalized/*") if path.is_dir()]
        assert len(pending) == 1
        release[0]()
        copy.sync_and_compare()
        sql = f"SELECT _dlt_load_id FROM prefect.flow_runs WHERE id = '{run_id}'"
        assert copy.values(sql) == [pending[0].name]

    @pytest.mark.parametrize("path", ["/flow_runs/filter", "/task_run_states"])
    def test_held_for_a_moment_while_it_reads(
        self, command: Command, api: PrefectApi, proxy: FaultProxy, hold: Hold, path: str
    ) -> None:
        command.works()
        command.environment["PATIENCE_SECONDS"] = "60"
        api.task_run("RUNNING", flow_run_id=api.flow_run("RUNNING"))
        proxy.before(path, lambda: hold(1))
        command.works(proxy.url)
        assert path in [request.path.rstrip("/") for request in proxy.requests]

    def test_the_reader_closes_in_time(self, command: Command, api: PrefectApi, hold: Hold) -> None:
        command.works()
        command.environment["PATIENCE_SECONDS"] = "60"
        api.flow_run("RUNNING")
        hold(2)
        command.works()

    def test_what_only_asks_does_not_mind_readers(
        self, copy: Copy, api: PrefectApi, hold: Hold, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.1)
        api.flow_run("RUNNING")
        copy.sync()
        hold(60, "reading")
        assert status(copy.sync_options()).rows["flow_runs"] == 1
        page = copy.folder / "report.html"
        write_report(copy.sync_options(), page, 7, datetime.now(UTC))
        assert page.exists()
        with pytest.raises(WarehouseBusy):
            copy.sync()

    def test_patience_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.6)
        clock = Clock()
        monkeypatch.setattr(failures, "time", clock)
        tries: list[float] = []

        def locked() -> None:
            tries.append(clock.monotonic())
            raise OSError("IO Error: Could not set lock on file")

        with pytest.raises(WarehouseBusy, match="held by another program"), failures.explained():
            failures.patiently(locked)
        assert len(tries) == 3


@pytest.fixture
def make_long_messages(api: PrefectApi) -> Iterator[Callable[[], None]]:
    """Makes runs that need some MB in a warehouse, however it packs them."""
    made: list[str] = []

    def make() -> None:
        for _ in range(8):
            message = os.urandom(100_000).hex()
            made.append(api.flow_run({"type": "RUNNING", "name": "Running", "message": message}))

    yield make
    # later tests read pages of this server too
    for run_id in made:
        api.call("DELETE", f"/flow_runs/{run_id}")


class TestCountsThatAreTooMuch:
    """What a large server gives up on, as its database ends a statement that takes too long."""

    def test_shorter_spans_are_asked_for(self, command: Command, proxy: FaultProxy) -> None:
        def is_long(request: Recorded) -> bool:
            span = as_utc(request.body["history_end"]) - as_utc(request.body["history_start"])
            return span > timedelta(hours=7)

        proxy.inject(answered(500), "/*_runs/history", times=None, when=is_long)
        output, error = command.start(proxy.url).communicate(timeout=120)
        assert "nothing is known to be missing" in output, error
        assert sum(command.copy.values("SELECT count_runs FROM prefect.flow_run_history")) == 3

    def test_runs_are_loaded_where_no_hour_can_be_counted(self, command: Command, proxy: FaultProxy) -> None:
        proxy.inject(answered(500), "/task_runs/history", times=None)
        process = command.start(proxy.url)
        output, error = process.communicate(timeout=600)
        assert process.returncode == EXIT_GAPS, error
        assert "the server cannot count those of " in output
        assert len(command.copy.values("SELECT id FROM prefect.task_runs")) == 3
        # hours of days, and a few of them were enough
        assert sum(request.path == "/task_runs/history" for request in proxy.requests) < 40
        # what could not be counted is counted as soon as it can be
        command.works()
        assert sum(command.copy.values("SELECT count_runs FROM prefect.task_run_history")) == 3


class TestFullDisk:
    def test_a_full_file_system(self, copy: Copy, make_long_messages: Callable[[], None], tmp_path: Path) -> None:
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
        try:
            copy.folder = small
            command = Command(copy, {"DLT_DATA_DIR": str(tmp_path / "dlt")})
            command.works()
            make_long_messages()
            room = os.statvfs(small)
            (small / "filler").write_bytes(b"x" * (room.f_bavail * room.f_bsize - 65_536))
            command.fails(EXIT_RETRY, "full", "Make room")
            (small / "filler").unlink()
            command.works()
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_a_copy_that_cannot_be_written_leaves_no_part_of_it(self, tmp_path: Path) -> None:
        published = tmp_path / "published.duckdb"
        published.write_bytes(b"the old one")

        def fail_half_way(beside: Path) -> None:
            beside.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(beside))

        with pytest.raises(OSError, match="No space left"), in_place_of(published) as beside:
            fail_half_way(beside)
        assert [path.name for path in tmp_path.iterdir()] == [published.name]
        assert published.read_bytes() == b"the old one"


class TestReaderThatLeaves:
    """As `| head` does: what was asked for is done all the same, and the exit code tells of it."""

    def left_alone(self, process: subprocess.Popen[str]) -> str:
        """What a command says on stderr whose output nobody reads."""
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            return process.stderr.read()

    def test_amid_a_sync(self, command: Command) -> None:
        process = command.start()
        error = self.left_alone(process)
        assert (process.returncode, "Traceback" in error, "BrokenPipe" in error) == (EXIT_OK, False, False)
        command.copy.assert_true()

    def test_before_it_is_told_of_gaps(self, command: Command, proxy: FaultProxy) -> None:
        proxy.inject(answered(404), "/events/filter", times=None)
        command.start(proxy.url).communicate(timeout=120)
        process = command.start(proxy.url)
        assert "BrokenPipe" not in self.left_alone(process)
        assert process.returncode == EXIT_GAPS


class TestConfigurationFiles:
    def refusal(self, folder: Path, name: str, text: str, command: str = "sync") -> str:
        """The one line with which a command ends where a file in `.dlt` says that."""
        (folder / ".dlt").mkdir()
        (folder / ".dlt" / name).write_text(text)
        with duckdb.connect(str(folder / "x.duckdb")):
            pass
        program = [Path(sys.executable).parent / "prefect-runs", command, "--database", "x.duckdb"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "DLT_DATA_DIR": str(folder / "dlt")}
        ended = subprocess.run(
            program, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == EXIT_CONFIGURATION
        [told] = ended.stderr.splitlines()
        return told

    @pytest.mark.parametrize("name", ["config.toml", "secrets.toml"])
    @pytest.mark.parametrize("command", ["sync", "status", "models", "verify", "report"])
    def test_that_are_no_toml_are_named_with_the_line(self, command: str, name: str, tmp_path: Path) -> None:
        told = self.refusal(tmp_path, name, "[sources.prefect_runs]\nworkspace = \n", command)
        assert told.startswith(f"prefect-runs: ./.dlt/{name} is no TOML, correct it: ")
        assert "line 2" in told

    def test_that_hold_secrets_in_the_wrong_place(self, tmp_path: Path) -> None:
        told = self.refusal(tmp_path, "config.toml", f'[sources.prefect_runs.credentials]\napi_key = "{KEY}"\n')
        assert told.endswith("credentials in config.toml may hold secrets: put it into .dlt/secrets.toml")
        assert KEY not in told


@pytest.mark.skipif(duckdb.__version__ < "2", reason="dlt can use a DuckLake with this DuckDB")
def test_a_lake_that_dlt_cannot_use_with_this_duckdb(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefect_runs_pipelines.cli", "status", "--destination", "ducklake"]
    environment = {**os.environ, "DLT_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_CONFIGURATION
    assert ended.stderr.startswith("prefect-runs: the installed dlt cannot use a DuckLake with DuckDB 2: pip install")


# the tests may run as root, to whom nothing is refused
class TestNoRightToWrite:
    @pytest.mark.parametrize("why", ["Permission denied", "Read-only file system"])
    def test_a_duckdb_file_has_no_credentials(self, why: str) -> None:
        failed = RuntimeError("the pipeline failed")
        failed.__cause__ = duckdb.IOException(f'IO Error: Cannot open file "/srv/runs.duckdb": {why}')
        with pytest.raises(ConfigurationError) as told, failures.explained():
            raise failed
        assert str(told.value).startswith(f"/srv/runs.duckdb cannot be written ({why}): give this user the right")
        assert not {"credentials", "kept"} & set(str(told.value).split())

    def test_a_file_of_the_working_folder(self) -> None:
        told = r"^/srv/dlt/x cannot be written \(Permission denied\): give"
        with pytest.raises(ConfigurationError, match=told), failures.explained():
            raise PermissionError(errno.EACCES, "Permission denied", "/srv/dlt/x")

    def test_a_file_that_was_to_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(ConfigurationError, match=rf"^{tmp_path} cannot be read"), failures.explained():
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    def test_a_table_of_a_destination_is_refused_to_the_credentials(self) -> None:
        with pytest.raises(ConfigurationError, match="with these credentials"), failures.explained():
            raise RuntimeError("permission denied for schema prefect")

    def test_the_working_folder(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "file" / "dlt"))
        database = str(tmp_path / "x.duckdb")
        asked = ["sync", "--api-url", "http://127.0.0.1:9/api", "--database", database]
        assert cli.main(asked) == EXIT_CONFIGURATION
        told = capsys.readouterr().err
        assert f"dlt's working folder {tmp_path}/file/dlt/pipelines cannot be written (Not a directory)" in told
        assert "set DLT_DATA_DIR to another folder" in told

    def test_the_folder_of_the_dbt_package(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").touch()
        assert cli.main(["dbt", "--write", str(tmp_path / "file" / "dbt")]) == EXIT_CONFIGURATION
        assert f"{tmp_path}/file/dbt cannot be written (Not a directory): give this user" in capsys.readouterr().err

    def test_a_demo_starts_no_server(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(demo, "local_server", None)
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
        assert cli.main(["demo", "--database", str(tmp_path / "x.duckdb")]) == EXIT_CONFIGURATION
        assert f"{tmp_path}/x.duckdb cannot be written (Permission denied)" in capsys.readouterr().err
        assert cli.main(["demo", "--database", str(tmp_path / "no" / "x.duckdb")]) == EXIT_CONFIGURATION
        assert f"there is no folder {tmp_path}/no" in capsys.readouterr().err


class TestLittleMemory:
    def test_a_load_that_needs_more_than_its_share_gets_more(
        self, copy: Copy, make_long_messages: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_long_messages()
        loads: list[str | None] = []
        load = Target._load

        def noted(target: Target) -> Any:
            loads.append(os.environ.get("DESTINATION__DUCKDB__CREDENTIALS__GLOBAL_CONFIG"))
            return load(target)

        monkeypatch.setattr(Target, "_load", noted)
        monkeypatch.setattr(memory, "LOAD_MEMORY", "3MB")
        copy.sync_and_compare()
        assert loads == ['{"memory_limit": "3MB"}', None]

    def test_too_little_altogether(self, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any) -> None:
            raise duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block (95.1 MiB/95.3 MiB used)")

        monkeypatch.setattr(Target, "_load", full)
        with pytest.raises(WarehouseBusy, match=r"not enough memory .* is loaded by the next sync.*chunk_rows"):
            copy.sync()
        monkeypatch.undo()
        copy.sync_and_compare()


class TestSigterm:
    def test_amid_a_query(self) -> None:
        """As DuckDB tells of it, behind what dlt makes of that."""
        failed = RuntimeError("the pipeline failed")
        failed.__cause__ = duckdb.InterruptException("Query interrupted")
        with pytest.raises(KeyboardInterrupt), failures.explained():
            raise failed

    @pytest.mark.parametrize("path", ["/admin/version", "/flows/filter"])
    def test_while_it_reads(self, command: Command, proxy: FaultProxy, path: str) -> None:
        processes: list[subprocess.Popen[str]] = []
        proxy.before(path, lambda: processes[0].terminate())
        proxy.inject(hang(0.3), path)
        processes.append(command.start(proxy.url))
        command.failed(processes[0], EXIT_RETRY, "interrupted")
        command.works()

    @pytest.mark.parametrize("moment", [0.0, 0.2, 0.5])
    def test_while_it_loads(self, command: Command, proxy: FaultProxy, moment: float) -> None:
        asked: list[None] = []
        proxy.before("/task_runs/history", lambda: asked.append(None))
        process = command.start(proxy.url)
        while not asked:
            time.sleep(0.01)
        time.sleep(moment)
        process.terminate()
        # it may be done already
        if process.wait(60) == EXIT_OK:
            process.communicate()
        else:
            command.failed(process, EXIT_RETRY, "interrupted")
        command.works()


class TestSecrets:
    @pytest.fixture
    def secretive(self, command: Command) -> Command:
        command.environment.update(
            RUNTIME__LOG_LEVEL="DEBUG",
            SOURCES__PREFECT_RUNS__CREDENTIALS__API_KEY=KEY,
            SOURCES__PREFECT_RUNS__CREDENTIALS__CUSTOM_HEADERS=f'{{"X-Secret": "{HEADER}"}}',
        )
        return command

    def assert_hidden(self, command: Command, said: str) -> None:
        """No secret in the output, in dlt's working files or in the warehouse."""
        texts = {"output": said.encode()}
        for path in command.copy.folder.rglob("*"):
            if path.is_file():
                texts[str(path)] = path.read_bytes()
        assert any(name.endswith("trace.pickle") for name in texts)
        assert "DEBUG" in said
        # Basic authentication sends the auth string in base64
        for secret in (KEY, AUTH, AUTH.partition(":")[2], HEADER, "c2VjcmV0X3Bhc3N3b3Jk"):
            assert [name for name, text in texts.items() if secret.encode() in text] == []

    @pytest.mark.parametrize("auth", [False, True], ids=["key", "auth string"])
    def test_are_nowhere(self, secretive: Command, proxy: FaultProxy, auth: bool) -> None:
        if auth:
            secretive.environment["SOURCES__PREFECT_RUNS__CREDENTIALS__AUTH_STRING"] = AUTH
        said = secretive.works(proxy.url)
        sent = proxy.requests[-1].headers
        assert sent["X-Secret"] == HEADER
        assert sent["Authorization"].startswith("Basic" if auth else f"Bearer {KEY}")
        faults = [
            (unauthorized(), EXIT_CONFIGURATION),
            (close(), EXIT_RETRY),
            (login_page(), EXIT_CONFIGURATION),
            (cut_json(), EXIT_ERROR),
        ]
        for fault, code in faults:
            proxy.clear()
            proxy.inject(fault, after=3, times=None)
            said += secretive.failed(secretive.start(proxy.url), code)
        self.assert_hidden(secretive, said)

    def test_of_prefects_own_settings_are_nowhere(self, secretive: Command, proxy: FaultProxy) -> None:
        for name in [name for name in secretive.environment if "CREDENTIALS" in name]:
            del secretive.environment[name]
        headers = f'{{"X-Secret": "{HEADER}"}}'
        secretive.environment.update(
            PREFECT_API_KEY=KEY, PREFECT_API_AUTH_STRING=AUTH, PREFECT_CLIENT_CUSTOM_HEADERS=headers
        )
        said = secretive.works(proxy.url)
        assert proxy.requests[-1].headers["X-Secret"] == HEADER
        proxy.inject(unauthorized(), times=None)
        said += secretive.fails(EXIT_CONFIGURATION, "answered 401", url=proxy.url)
        self.assert_hidden(secretive, said)
