"""The sync as a Prefect flow, for a deployment on any server, the one that it syncs included.

Prefect is not a dependency of the connector: this module alone imports it, where a Prefect worker does.

The flow's own run is in flight while it syncs. It lands as Running, and its end with the next sync, as that of every
other run.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from prefect_runs import ConfigurationError, TemporaryError

from .command.progress import ProgressLines
from .command.screen import sync_screen, verify_screen
from .options import DEFAULT_DATASET, SyncOptions
from .parts import one_report, parts
from .redacted import redacted
from .sync import SyncReport, sync
from .verify import VerifyOptions, VerifyReport, verify

# a server that restarts is back after a minute; what lasts longer is left to the next run, which catches up
RETRY_DELAYS = [10, 60]


class RunLog(io.StringIO):
    """What is printed here becomes lines of the run's log, which Prefect shows."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def write(self, text: str) -> int:
        """Log a line; what ends it is none of its own."""
        if text.strip():
            self._logger.info(text)
        return len(text)


def is_temporary(task: Any, task_run: Any, state: State) -> bool:
    """Whether a failed task can succeed unchanged: a wrong configuration cannot."""
    return isinstance(state.result(raise_on_failure=False), TemporaryError)


RETRIED: dict[str, Any] = {
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": RETRY_DELAYS,
    "retry_condition_fn": is_temporary,
}


@task(task_run_name="sync {part}", cache_policy=NO_CACHE, **RETRIED)
def sync_part(part: str, options: SyncOptions) -> SyncReport:
    """Sync some of the resources; what is missing is logged."""
    logger = get_run_logger()
    report = sync(options, ProgressLines(RunLog(logger)))
    for text in (*report.gaps, *report.warnings):
        logger.warning(text)
    return report


@task(task_run_name="verify", cache_policy=NO_CACHE, **RETRIED)
def verify_copy(options: SyncOptions, repair: bool) -> VerifyReport:
    """Compare the warehouse with the server."""
    return verify(options, VerifyOptions(repair=repair))


@flow(name="prefect-runs")
def sync_runs(
    database: str | None = None,
    destination: str = "duckdb",
    dataset: str = DEFAULT_DATASET,
    resources: list[str] | None = None,
    extras: list[str] | None = None,
    start_date: str | None = None,
    publish: str | None = None,
    api_url: str | None = None,
    workspace: str | None = None,
    verify: bool = False,
    repair: bool = False,
) -> State:
    """Copy the run metadata of a Prefect server into a warehouse.

    Each kind of run, with its states, is synced by a task of its own, and all other tables by a third: one that fails
    is tried again by itself, and does not keep the others from their work. Summaries are artifacts of the run.

    Args:
        database: DuckDB file, named in full.
        destination: any dlt destination.
        dataset: a schema in most destinations.
        resources: only these.
        extras: these too, as `--with` takes them.
        start_date: leave out runs expected to start before.
        publish: where to put a copy of the DuckDB file for readers.
        api_url: the server, by default the one that the flow runs on.
        workspace: name in the column `workspace`, by default made from the URL.
        verify: compare the warehouse with the server's own counts afterwards.
        repair: and read again what differs.

    Returns:
        Completed; Completed as `Gaps` when something is known to be missing; Failed as `Misconfigured`, `Unavailable`,
        `Drift` or, when it is to be reported, `Failed`.
    """
    try:
        check_lasting(destination, database, publish)
        planned = parts(resources or (), extras or ())
    except ConfigurationError as error:
        return failed([error])
    options = SyncOptions(api_url, workspace, destination, dataset, database, start_date=start_date)
    reports, errors = sync_parts(options, planned, publish)
    if reports:
        summary(one_report(reports).workspace, "sync", sync_screen(one_report(reports)))
    if errors:
        return failed(errors)
    differing = verified(options, repair) if verify or repair else None
    if differing:
        return differing
    gaps = one_report(reports).gaps
    return (
        Completed(name="Gaps", message="; ".join(gaps)) if gaps else Completed(message="nothing is known to be missing")
    )


def sync_parts(
    options: SyncOptions, planned: Mapping[str, Sequence[str]], publish: str | None
) -> tuple[list[SyncReport], list[BaseException]]:
    """Sync part by part; what their tasks returned, and what they raised."""
    reports: list[SyncReport] = []
    errors: list[BaseException] = []
    *_, last = planned
    for part, names in planned.items():
        of_part = replace(options, resources=names, publish=publish if part == last else None)
        outcome = sync_part(part, of_part, return_state=True).result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            errors.append(outcome)
        else:
            reports.append(outcome)
        if isinstance(outcome, TemporaryError):
            # the other parts would wait as long for the same server
            break
    return reports, errors


def verified(options: SyncOptions, repair: bool) -> State | None:
    """Compare the warehouse with the server; the state to end in, unless they are the same."""
    outcome = verify_copy(options, repair, return_state=True).result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        return failed([outcome])
    summary(outcome.workspace, "verify", verify_screen(outcome))
    if outcome.whole:
        return None
    return Failed(name="Drift", message="the warehouse differs from the server; see the artifact")


def check_lasting(destination: str, database: str | None, publish: str | None) -> None:
    """Refuse a DuckDB file, or a copy of one, that would be gone with the folder in which a worker starts the flow.

    Raises:
        ConfigurationError: the file is not named in full.
    """
    if destination == "duckdb" and not (database and Path(database).is_absolute()):
        raise ConfigurationError(
            f"database is {database!r}: name the DuckDB file in full, such as "
            "/var/lib/prefect-runs/prefect_runs.duckdb, for each run may start in a folder of its own"
        )
    if publish and not Path(publish).is_absolute():
        raise ConfigurationError(
            f"publish is {publish!r}: name the copy in full, for each run may start in a folder of its own"
        )


def failed(errors: Sequence[BaseException]) -> State:
    """The state of a run with such errors, named after what is to be done about them."""
    kinds = {ConfigurationError: "Misconfigured", TemporaryError: "Unavailable"}
    names = [next((name for kind, name in kinds.items() if isinstance(error, kind)), "Failed") for error in errors]
    # what is to be reported is told before what passes by itself
    name = min(names, key=["Failed", "Misconfigured", "Unavailable"].index)
    return Failed(name=name, message="; ".join(dict.fromkeys(map(redacted, errors))))


def summary(workspace: str, what: str, screen: str) -> None:
    """An artifact with what the command would have printed; a workspace's artifacts of one kind follow each other."""
    key = re.sub(r"[^a-z0-9]+", "-", f"prefect-runs-{what}-{workspace}".lower()).strip("-")
    create_markdown_artifact(f"```text\n{screen}\n```", key=key, description=f"{what} of {workspace}")
