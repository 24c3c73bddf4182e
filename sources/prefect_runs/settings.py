"""What can be configured, with its defaults and their reasons."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from dlt.common.configuration import configspec
from dlt.common.configuration.specs import BaseConfiguration

from .clock import as_utc
from .exceptions import ConfigurationError
from .spelling import refuse_unknown

# runs whose state type is one of these have ended; everything else is in flight
TERMINAL_STATE_TYPES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
STATE_TYPES = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", *TERMINAL_STATE_TYPES)

# a table of runs → the one of their states
STATES_OF = {"flow_runs": "flow_run_states", "task_runs": "task_run_states"}
RUN_TABLES = tuple(STATES_OF)
STATE_TABLES = tuple(STATES_OF.values())

LOG_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

# read in one request by the history tables: more intervals than this come back cut, with status 200
HISTORY_INTERVALS = 500
# runs counted by one such request: a server takes a second for them
RUNS_PER_HISTORY = 100_000
HISTORY_INTERVAL = timedelta(hours=1)

# windows of the first load hold at most this many runs, 5 kB each: five pages of 200, each beginning with the last row
# of the one before. Eight windows of each kind of run are in memory, two where histories are read too
ROWS_PER_WINDOW = 995

# run ids that a sync remembers for the next one (torn rows, histories without an announced state): the
# pipeline state must stay a few kB. A sync says when something fell out of this list; `verify` finds it
REMEMBERED_RUNS = 20

# with less a sync would read nothing, or pass over what changed
LEAST = {
    "lookback_minutes": 0,
    "horizon_hours": 0,
    "in_flight_days": 0,
    "connections": 1,
    "requests_per_minute": 1,
    "chunk_rows": 1,
    "runs_kept_days": 0,
    "events_kept_days": 0,
}
# with more there is no date so long ago: a hundred years
MOST = {
    "lookback_minutes": 100 * 365 * 24 * 60,
    "horizon_hours": 100 * 365 * 24,
    "in_flight_days": 100 * 365,
    "runs_kept_days": 100 * 365,
    "events_kept_days": 100 * 365,
}


@configspec
class ReadSettings(BaseConfiguration):
    """How the server is read; section ``[sources.prefect_runs.settings]``."""

    __section__: ClassVar[str] = "settings"

    lookback_minutes: float = 10.0
    """How far before the watermark each sync reads again. Task runs are recorded up to a minute and a half
    after they ended, more under load, and PostgreSQL's `updated` can be older than the row's visibility."""
    horizon_hours: float = 24.0
    """How far ahead scheduled runs are read: Prefect makes up to 100 a deployment, and deletes them again."""
    in_flight_days: float = 30.0
    """Runs in flight that were expected longer ago are not asked for: a killed flow stays RUNNING for ever, so this set
    only grows. When one of them ends or changes state it is found all the same."""
    page_size: int = 200
    """Rows a page, which is also the server's maximum unless `PREFECT_API_DEFAULT_LIMIT` was changed."""
    connections: int = 4
    """Reads at the same time; more do not make a server faster."""
    requests_per_minute: int | None = None
    """Ceiling on requests, retries included. On Prefect Cloud the account's limit is shared with the flows."""
    chunk_rows: int | None = None
    """Runs of each kind after which a first load, or a sync that comes late, stops and records how far it came; the
    next run of the pipeline goes on there. Unset, one run loads everything. The last chunks of a first load are
    smaller, and a sync that comes late stops earlier where there are many events."""
    runs_kept_days: float | None = None
    """How long the server keeps runs after they ended. Unset: 7 days on Prefect Cloud (its shortest), and what a
    self-hosted server says of its vacuum, which is for ever unless it is switched on."""
    events_kept_days: float | None = None
    """How long the server keeps events. Unset: 7 days on Prefect Cloud, and what a self-hosted server says."""
    history_hours: int = 72
    """Trailing hours that `flow_run_history` and `task_run_history` read again, when a run changed or an hour began."""
    log_level: str | None = None
    """`logs`: the lowest level, such as WARNING, or its number. Unset: every log that the server has."""
    log_failed_only: bool = False
    """`logs`: only those of flow runs that failed or crashed, their task runs' included."""
    event_prefixes: list[str] | None = None
    """`events`: what their names begin with, such as `prefect.deployment.`. Unset: all but heartbeats of runs."""
    event_payloads: bool = False
    """`events`: load payloads too, without the parts that hold secrets in Prefect's own events."""
    artifact_data: bool = False
    """`artifacts`: load their bodies too."""

    @property
    def lowest_log_level(self) -> int:
        """`log_level` as a number; 0 where it is unset."""
        asked = (self.log_level or "0").upper()
        if asked not in LOG_LEVELS and not asked.isdecimal():
            raise ConfigurationError(
                f"log_level is {self.log_level!r}; write one of {', '.join(LOG_LEVELS)}, or a number such as 25"
            )
        return LOG_LEVELS.get(asked) or int(asked)

    @property
    def lookback(self) -> timedelta:
        """The lookback as a time span."""
        return timedelta(minutes=self.lookback_minutes)

    @property
    def runs_kept(self) -> timedelta | None:
        """`runs_kept_days` as a time span."""
        return None if self.runs_kept_days is None else timedelta(days=self.runs_kept_days)

    @property
    def surely_kept(self) -> timedelta:
        """For how long nothing that a sync may have missed is gone, without asking: a day, or less if so configured."""
        return min(span for span in (timedelta(days=1), self.runs_kept, self.events_kept) if span is not None)

    @property
    def events_kept(self) -> timedelta | None:
        """`events_kept_days` as a time span."""
        return None if self.events_kept_days is None else timedelta(days=self.events_kept_days)

    @property
    def horizon(self) -> timedelta:
        """The horizon as a time span."""
        return timedelta(hours=self.horizon_hours)

    def on_resolved(self) -> None:
        """Refuse values with which no read could be complete, and options that do not exist."""
        refuse_unknown(self)
        for name, least in LEAST.items():
            value = getattr(self, name)
            # what is no number is less than nothing, too
            if value is not None and not value >= least:
                raise ConfigurationError(f"{name} is {value}; it must be {least} or more")
        for name, most in MOST.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise ConfigurationError(f"{name} is {value}; it must be {most} (a hundred years) or less")
        for name in ("runs_kept_days", "events_kept_days"):
            if getattr(self, name) == 0:
                raise ConfigurationError(f"{name} is 0; write how long the server keeps them, or leave it unset")
        if self.page_size < 2:
            raise ConfigurationError(f"page_size is {self.page_size}; pages need 2 rows or more to overlap")
        if not 1 <= self.history_hours <= HISTORY_INTERVALS:
            raise ConfigurationError(f"history_hours is {self.history_hours}; 1 to {HISTORY_INTERVALS} can be read")
        _ = self.lowest_log_level


@configspec
class RunFilters(BaseConfiguration):
    """Which runs are loaded, filtered by the server; section ``[sources.prefect_runs.filters]``.

    Tags, flows and deployments are those of the flow run, for task runs too (task runs outside any flow are
    then left out); state types are each run's own.
    """

    __section__: ClassVar[str] = "filters"

    tags_any: list[str] | None = None
    tags_all: list[str] | None = None
    state_types: list[str] | None = None
    exclude_state_types: list[str] | None = None
    flow_names: list[str] | None = None
    deployments: list[str] | None = None
    """Names or ids of deployments."""
    start_date: str | None = None
    """Runs expected to start before this time are not loaded."""

    def on_resolved(self) -> None:
        """Refuse state types that the server would answer with a 422, and options that do not exist."""
        refuse_unknown(self)
        for state_type in [*(self.state_types or []), *(self.exclude_state_types or [])]:
            if state_type not in STATE_TYPES:
                raise ConfigurationError(
                    f"unknown state type {state_type!r}; Prefect's are {', '.join(STATE_TYPES)} (upper case)"
                )

    def without_start(self) -> RunFilters:
        """The same filters for runs of any time."""
        filters: RunFilters = self.copy()
        filters.start_date = None
        return filters

    @property
    def start(self) -> datetime | None:
        """`start_date` as a time in UTC, or None."""
        if self.start_date is None:
            return None
        try:
            return as_utc(self.start_date)
        except ValueError:
            raise ConfigurationError(
                f"start_date {self.start_date!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z"
            ) from None
