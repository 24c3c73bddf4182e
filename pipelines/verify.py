"""`prefect-runs verify`: compares the warehouse with the server, records what it found, and repairs it if asked to."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from prefect_runs import RESOURCES, ConfigurationError, Selection
from prefect_runs.access import Access
from prefect_runs.client import Patience
from prefect_runs.clock import text
from prefect_runs.comparison import Comparison
from prefect_runs.drift import Drift, Verification, What, one_each
from prefect_runs.history_comparison import HistoryComparison
from prefect_runs.privacy import Privacy
from prefect_runs.read_ahead import batches
from prefect_runs.resources import resource
from prefect_runs.server import Server
from prefect_runs.settings import RUN_TABLES, STATES_OF
from prefect_runs.tables import TABLES
from prefect_runs.verify import Verify
from prefect_runs.windows import Window

from .destination.failures import explained
from .destination.holdings import WarehouseHoldings
from .options import SyncOptions
from .reload import reload
from .target import Target
from .watermarks import Reached

INCOMPLETE: What = "incomplete history"
# whose interval is all that was compared
OF_HISTORIES: tuple[What, ...] = ("without history", INCOMPLETE)
# drifts that one row of `verifications` names; the rest are in its numbers
DRIFTS_RECORDED = 1_000
# runs that one load of a repair reads again
RUNS_PER_LOAD = 10_000
# a server that does not answer for so long is asked for less, not for longer
PATIENCE = Patience(seconds=30.0, attempts=3)


@dataclass(frozen=True)
class VerifyOptions:
    """How to verify: everything that the server keeps, or runs expected to start from `since` on."""

    since: datetime | None = None
    sweep: bool = False
    repair: bool = False
    histories: bool = False
    """Compare state histories with the endpoint too, a request for each run."""


@dataclass
class Pass:
    """One comparison of all tables; the first, or the one after a repair. Times are the server's."""

    tables: list[Verification]
    verified_at: datetime
    watermarks: dict[str, datetime]
    swept: bool
    histories: bool
    partial: bool
    after_repair: bool
    requests: int

    @property
    def drifts(self) -> list[Drift]:
        """What differed, over all tables."""
        return [drift for table in self.tables for drift in table.drifts]

    @property
    def whole(self) -> bool:
        """Whether nothing differed but what the next sync loads."""
        return all(table.whole for table in self.tables)

    @property
    def gaps(self) -> list[str]:
        """What could not be compared."""
        return [gap for table in self.tables for gap in table.gaps]

    @property
    def whole_up_to(self) -> datetime | None:
        """Up to when the copy has every change; None where it is not whole, or where not all of it was compared."""
        times = [self.proven(table) for table in self.tables]
        return min((time_ for time_ in times if time_), default=None) if all(times) else None

    def proven(self, table: Verification) -> datetime | None:
        """Up to when one table has every change."""
        return self.watermarks[table.table] if table.whole and not self.partial else None


@dataclass
class VerifyReport:
    """What verify found: one pass, and a second one after a repair."""

    workspace: str
    server_version: str | None
    destination: str
    dataset: str
    passes: list[Pass]
    repair_requests: int = 0
    seconds: float = 0.0
    gaps: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether the copy is whole now."""
        return self.passes[-1].whole

    @property
    def requests(self) -> int:
        """Requests of comparisons and repair together."""
        return sum(pass_.requests for pass_ in self.passes) + self.repair_requests

    def as_json(self) -> str:
        """The report as one JSON object."""
        now = {"whole": self.whole, "whole_up_to": self.passes[-1].whole_up_to, "requests": self.requests}
        return json.dumps({**asdict(self), **now}, default=str)


class Verifier:
    """One verification of one target."""

    def __init__(self, options: SyncOptions, how: VerifyOptions) -> None:
        self.target = Target(options)
        self.how = how
        self._histories: dict[str, HistoryComparison] = {}
        self._watermarks: dict[str, datetime] = {}

    def run(self) -> VerifyReport:
        """Compare, record; with `repair` also repair, compare again and record that."""
        started = time.monotonic()
        self.target.restore()
        reached = self.target.reached()
        self._watermarks = watermarks = {table: time_ for table, time_ in reached.watermarks.items() if table in TABLES}
        # a table of which nothing was ever loaded may lack all that the server has
        tables = [table for table in RUN_TABLES if table in watermarks]
        if not reached.has_read_runs and self.target.lacks_watermark:
            raise ConfigurationError(
                "no pipeline in the dataset loaded the runs of this workspace with these filters, so up to when they "
                "were loaded is not known: give verify the filters of the one that did, or run prefect-runs sync first"
            )
        if not tables or reached.first_load_unfinished(RESOURCES):
            raise ConfigurationError("the first load is not finished; run prefect-runs sync, then verify")
        if self.how.histories and not any(STATES_OF[table] in watermarks for table in tables):
            raise ConfigurationError("no state history was loaded, so there is none to compare (--histories)")
        server = self._server()
        self._check_same_rows(server, reached, tables)
        holdings = WarehouseHoldings(self.target.warehouse, watermarks)
        verifies = {table: server.verify(table, holdings, watermarks[table]) for table in tables}
        self._histories = {
            table: server.history_comparison(table, holdings, watermarks[table])
            for table in tables
            if self.how.histories and STATES_OF[table] in watermarks
        }
        first = self._first(server, verifies)
        report = VerifyReport(
            self.target.workspace, server.version, self.target.options.where, self.target.options.dataset, [first]
        )
        self._record(first)
        if self.how.repair and first.drifts:
            self._repair(report)
            report.passes.append(self._again(server, verifies, first))
            self._record(report.passes[-1])
        report.seconds = round(time.monotonic() - started, 2)
        return report

    def _server(self) -> Server:
        target = self.target
        return Server(
            Access(target.connection, target.settings, PATIENCE),
            target.workspace,
            target.filters,
            target.settings,
            self.target.warehouse,
        )

    def _check_same_rows(self, server: Server, reached: Reached, tables: list[str]) -> None:
        """Refuse to compare with other runs than were asked for: all that the filters left out would be missing.

        And with what another pipeline loads by other privacy rules, for a repair would load by these.
        """
        rules = {reached.resources[table].get("privacy") for table in tables}
        if not reached.own and rules != {Privacy(self.target.privacy).fingerprint}:
            raise ConfigurationError(
                "these runs were loaded with other privacy rules: give verify those of the pipeline that loads them"
            )
        if reached.scopes() - {server.scope}:
            raise ConfigurationError(
                "the last sync read other runs: it had other filters, or another --start-date. Give verify the same "
                "ones, or sync once with these, which begins the first load again; then verify"
            )

    def _first(self, server: Server, verifies: dict[str, Verify]) -> Pass:
        found = []
        for table, verify in verifies.items():
            window = verify.kept(self.target.settings.horizon, self.how.since or self.target.filters.start)
            compared = (
                verify.sweep(window, self._comparison(table)) if self.how.sweep else verify.compare_counts(window)
            )
            if table in self._histories:
                compared.drifts = one_each([*compared.drifts, *self._histories[table].differing(window)])
            found.append(self._with_gaps(compared, verify))
        return self._pass(server, found, 0, after_repair=False)

    def _again(self, server: Server, verifies: dict[str, Verify], first: Pass) -> Pass:
        """Counts of everything; what was swept is swept again where it differed."""
        before = server.client.requests_sent
        found = []
        for earlier in first.tables:
            verify = verifies[earlier.table]
            now = verify.compare_counts(earlier.window)
            if self.how.sweep:
                # what waits beyond the horizon is not loaded, and was compared again already
                of_runs = (drift for drift in earlier.drifts if drift.what not in OF_HISTORIES)
                intervals = {drift.interval for drift in of_runs if drift.interval.start < earlier.window.end}
                comparison = self._comparison(earlier.table)
                swept = [drift for interval in intervals for drift in verify.swept(interval, comparison)]
                now.drifts = one_each([*now.drifts, *swept])
            incomplete = [drift.run_id for drift in earlier.drifts if drift.run_id and drift.what == INCOMPLETE]
            if incomplete:
                now.drifts.extend(self._histories[earlier.table].among(incomplete, earlier.window))
            found.append(self._with_gaps(now, verify))
        return self._pass(server, found, before, after_repair=True)

    def _with_gaps(self, compared: Verification, verify: Verify) -> Verification:
        """`compared`, with all that could not be read for it: of runs and, in whichever pass, of their histories."""
        of_histories = self._histories[compared.table].gaps if compared.table in self._histories else ()
        compared.gaps = list(dict.fromkeys([*verify.reader.gaps, *of_histories]))
        return compared

    def _comparison(self, table: str) -> Comparison:
        return Comparison(TABLES[table], self.target.workspace, Privacy(self.target.privacy))

    def _pass(self, server: Server, found: list[Verification], before: int, after_repair: bool) -> Pass:
        # those of what was compared: another pipeline may have gone on meanwhile
        watermarks = {table.table: self._watermarks[table.table] for table in found}
        requests = server.client.requests_sent - before
        partial = self.how.since is not None
        how = self.how.sweep, self.how.histories
        return Pass(found, server.ceiling, watermarks, *how, partial, after_repair, requests)

    def _repair(self, report: VerifyReport) -> None:
        drifts = report.passes[0].drifts
        for drift in drifts:
            if drift.run_id is None:
                [found] = [table for table in report.passes[0].tables if table.table == drift.table]
                window = Window(max(drift.interval.start, found.window.start), drift.interval.end)
                self._reload({drift.table: Selection(window=window)}, report)
        runs = sorted((drift.table, drift.run_id) for drift in drifts if drift.run_id)
        for batch in batches(runs, RUNS_PER_LOAD):
            ids = {table: frozenset(id_ for of, id_ in batch if of == table) for table, _ in batch}
            self._reload({table: Selection(ids=of_table) for table, of_table in ids.items()}, report)

    def _reload(self, selections: dict[str, Selection], report: VerifyReport) -> None:
        # of an incomplete history the last state is there, which a sync takes for a sign that all are
        tables = [name for table in selections for name in (table, STATES_OF[table]) if name in self._watermarks]
        for row in reload(self.target, selections, tables, trusting=not self.how.histories):
            report.repair_requests += row["requests"]
            report.gaps += row["gaps"]

    def _record(self, pass_: Pass) -> None:
        rows = [_record(table, pass_, self.target.workspace) for table in pass_.tables]
        self.target.load(resource(rows, TABLES["verifications"]))


def _record(found: Verification, pass_: Pass, workspace: str) -> dict[str, Any]:
    """A row of `verifications`."""
    counts: Counter[str] = Counter()
    for drift in found.drifts:
        counts["since_last_sync" if drift.since_last_sync else drift.what] += drift.runs
    return {
        "workspace": workspace,
        "resource": found.table,
        "verified_at": text(pass_.verified_at),
        "whole": found.whole,
        "whole_up_to": text(proven) if (proven := pass_.proven(found)) else None,
        "window_start": text(found.window.start),
        "window_end": text(found.window.end),
        "swept": pass_.swept,
        "histories": pass_.histories,
        "after_repair": pass_.after_repair,
        "server_runs": found.server_runs,
        "warehouse_runs": found.warehouse_runs,
        "changed": sum(counts[what] for what in ("changed", "double", *OF_HISTORIES)),
        **{name: counts[name] for name in ("missing", "deleted", "aged_out", "since_last_sync")},
        "requests": pass_.requests,
        "gaps": json.dumps(found.gaps),
        "drift": json.dumps([_short(drift) for drift in found.drifts[:DRIFTS_RECORDED]]),
    }


def _short(drift: Drift) -> dict[str, Any]:
    short: dict[str, Any] = {
        "what": drift.what,
        "run": drift.run_id,
        "columns": drift.columns,
        "since_last_sync": drift.since_last_sync,
    }
    if drift.run_id is None:
        short |= {"from": text(drift.interval.start), "to": text(drift.interval.end), "runs": drift.runs}
    return {name: value for name, value in short.items() if value}


def verify(options: SyncOptions, how: VerifyOptions) -> VerifyReport:
    """Verify once.

    Raises:
        PrefectRunsError: see `prefect_runs.exceptions`; with nothing loaded yet, `ConfigurationError`.
    """
    options.check_file()
    with explained():
        verifier = Verifier(options, how)
        with verifier.target:
            return verifier.run()
