"""The `prefect-runs` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from .command.arguments import parser
from .command.outcomes import (
    EXIT_DRIFT,
    EXIT_GAPS,
    EXIT_OK,
    EXIT_RETRY,
    as_json,
    exit_code_of,
    failed,
    outcome_of,
    worst,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    # imports and rows make objects by the million, and hardly a cycle: collecting takes a fifth of an idle sync
    gc.set_threshold(50_000, 20, 20)
    # a scheduler's SIGTERM ends like Ctrl-C: what was started is stopped, what was loaded stays
    signal.signal(signal.SIGTERM, _interrupt)
    logging.getLogger("dlt").addFilter(_without_traceback)
    try:
        return COMMANDS[options.command](options)
    except BrokenPipeError:
        _leave_reader()
        return EXIT_OK
    except KeyboardInterrupt:
        print("interrupted; what was loaded stays, and the next sync goes on from there", file=sys.stderr)
        return EXIT_RETRY
    except Exception as error:  # noqa: BLE001 - the last resort turns any error into an exit code
        return failed(error)


def _say(text: str, end: str = "\n") -> None:
    """Print what work came to; where nobody reads on, the work goes on, and its exit code tells of it all the same."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _leave_reader()


def _leave_reader() -> None:
    # whoever read the output has enough; what would still be written goes nowhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_traceback(record: logging.LogRecord) -> bool:
    # dlt logs what goes wrong in a load job with a traceback, some of it as text, and raises it afterwards
    if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        record.exc_info = None
        record.msg, record.args = record.getMessage().partition(" with message Traceback ")[0], ()
    return True


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _sync(arguments: argparse.Namespace) -> int:
    from .command.progress import ProgressLines
    from .command.screen import sync_screen
    from .sync import sync

    return _for_each(arguments, lambda options: sync(options, ProgressLines()), sync_screen, EXIT_GAPS)


def _verify(arguments: argparse.Namespace) -> int:
    from .command.screen import verify_screen
    from .verify import VerifyOptions, verify

    how = VerifyOptions(_time(arguments.since), arguments.sweep, arguments.repair, arguments.histories)
    return _for_each(arguments, lambda options: verify(options, how), verify_screen, EXIT_DRIFT)


def _backfill(arguments: argparse.Namespace) -> int:
    from .backfill import BackfillOptions, backfill
    from .command.progress import ProgressLines
    from .command.screen import backfill_screen

    start = _time(arguments.start)
    assert start is not None
    how = BackfillOptions(start, _time(arguments.end), arguments.newest_first)
    return _for_each(arguments, lambda options: backfill(options, how, ProgressLines()), backfill_screen, EXIT_GAPS)


def _status(arguments: argparse.Namespace) -> int:
    from .command.screen import status_screen
    from .status import status

    return _for_each(arguments, status, status_screen, EXIT_OK)


def _for_each(
    arguments: argparse.Namespace, work: Callable[[Any], Any], screen: Callable[[Any], str], not_whole: int
) -> int:
    """Do the work for the only workspace, or for each of several, and print what came of it.

    Args:
        work: gives the report of one workspace.
        screen: the report for a person.
        not_whole: the exit code of a report that is not `whole`, where it says so.
    """
    from .workspaces import each_workspace

    options = _sync_options(arguments)
    several = each_workspace(options)
    if several is not None:
        return _for_several(arguments, options, several, work, screen, not_whole)
    report = work(options)
    _say(report.as_json() if arguments.json else screen(report))
    return exit_code_of(report, not_whole)


def _for_several(
    arguments: argparse.Namespace,
    options: Any,
    several: Sequence[Any],
    work: Callable[[Any], Any],
    screen: Callable[[Any], str],
    not_whole: int,
) -> int:
    from dataclasses import replace

    from .command.screen import outcomes_screen
    from .destination.publish import check_publish, publish

    check_publish(options)
    outcomes = []
    for one in several:
        outcomes.append(outcome_of(one.workspace, partial(work, replace(one, publish=None)), not_whole))
        if outcomes[-1].report and not arguments.json:
            _say(screen(outcomes[-1].report), end="\n\n")
    codes = [outcome.exit_code for outcome in outcomes]
    _say(as_json(outcomes) if arguments.json else outcomes_screen(outcomes))
    if options.publish and any(outcome.report for outcome in outcomes):
        try:
            publish(Path(options.where), Path(options.publish))
        except Exception as error:  # noqa: BLE001 - what became of the workspaces counts all the same
            codes.append(failed(error))
    return worst(codes)


def _time(value: str | None) -> datetime | None:
    from prefect_runs import ConfigurationError
    from prefect_runs.clock import as_utc

    try:
        return as_utc(value) if value else None
    except ValueError:
        raise ConfigurationError(f"{value!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _models(arguments: argparse.Namespace) -> int:
    from .models import SPEAK_DUCKDB, WRITTEN_IN
    from .views import create_views, printed
    from .workspaces import any_workspace

    if arguments.print:
        _refuse(arguments.json, "--print prints SQL statements, and --json one JSON object: leave one of them out")
        options = _sync_options(arguments)
        _refuse(
            not arguments.dialect and options.kind not in SPEAK_DUCKDB,
            f"statements for {options.destination} want --dialect with the name of its SQL, such as postgres",
        )
        print("\n".join(printed(options, arguments.dialect or WRITTEN_IN)))
        return EXIT_OK
    _refuse(
        arguments.dialect,
        "--dialect is for statements that are printed, with --print: views are in the SQL of their destination",
    )
    report = create_views(any_workspace(_sync_options(arguments)))
    print(report.as_json() if arguments.json else report.as_text())
    return EXIT_OK


def _dbt(arguments: argparse.Namespace) -> int:
    if arguments.write:
        from .dbt_package import write_package
        from .destination.failures import explained
        from .models import WRITTEN_IN
        from .options import SyncOptions

        dialect = arguments.dialect or WRITTEN_IN
        _refuse(
            _sync_options(arguments) != SyncOptions() or arguments.models_dataset,
            "--write asks no server and no destination: leave --destination and the like out. dbt's profile names the "
            "destination, and the variable source_dataset_name the dataset",
        )
        with explained():
            write_package(Path(arguments.write), dialect)
        told = {"package": arguments.write, "dialect": dialect}
        print(json.dumps(told) if arguments.json else f"the package, in the SQL of {dialect}: {arguments.write}")
        return EXIT_OK
    _refuse(
        arguments.dialect,
        "--dialect is for a package that is written, with --write DIR: what runs is in the SQL of its destination",
    )
    from .dbt import run_dbt
    from .workspaces import any_workspace

    report = run_dbt(any_workspace(_sync_options(arguments)), arguments.models_dataset)
    print(report.as_json() if arguments.json else report.as_text())
    return EXIT_DRIFT if report.failures else EXIT_OK


def _refuse(given: object, why: str) -> None:
    """Refuse an option that would be ignored.

    Raises:
        ConfigurationError: it was given.
    """
    from prefect_runs import ConfigurationError

    if given:
        raise ConfigurationError(why)


def _report(arguments: argparse.Namespace) -> int:
    from datetime import UTC

    from .report import write_report

    found = write_report(_sync_options(arguments), Path(arguments.file), arguments.days, datetime.now(UTC))
    told = {"file": arguments.file, "workspace": found.workspace, "days": arguments.days, "flow_runs": found.runs}
    line = f"{arguments.file}: {found.runs:,} flow runs of {found.workspace} in {arguments.days} days"
    print(json.dumps(told) if arguments.json else line)
    return EXIT_OK


def _demo(arguments: argparse.Namespace) -> int:
    from .demo import run_demo

    return run_demo(Path(arguments.database or "prefect_runs_demo.duckdb"))


def _completion(arguments: argparse.Namespace) -> int:
    from .command.completion import completion

    print(completion(arguments.shell))
    return EXIT_OK


def _sync_options(arguments: argparse.Namespace) -> Any:
    from .options import SyncOptions

    return SyncOptions(
        api_url=arguments.api_url,
        workspace=arguments.workspace,
        destination=arguments.destination,
        dataset=arguments.dataset,
        database=arguments.database,
        resources=_names(getattr(arguments, "resources", None)),
        extras=_names(getattr(arguments, "extras", None)),
        start_date=getattr(arguments, "start_date", None),
        full=getattr(arguments, "full", False),
        publish=getattr(arguments, "publish", None),
    )


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",")) if listed else ()


# command → what runs it, with the parsed arguments
COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "sync": _sync,
    "verify": _verify,
    "backfill": _backfill,
    "status": _status,
    "models": _models,
    "dbt": _dbt,
    "report": _report,
    "demo": _demo,
    "completion": _completion,
}


if __name__ == "__main__":
    sys.exit(main())
