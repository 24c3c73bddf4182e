"""The `prefect-runs` command. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_RETRY = 3
EXIT_GAPS = 4
EXIT_DRIFT = 5

EXIT_CODES = """exit codes:
  0  loaded, and nothing is known to be missing
  1  an error in prefect-runs, or a reply that it does not understand: report it
  2  the configuration or the credentials are wrong: trying again changes nothing
  3  the server or the destination is not available: run again later, nothing was lost
  4  loaded, but with gaps, which are named in the output and in the table syncs
  5  verify: the warehouse differs from the server, as the output and the table verifications say;
     dbt: a model or a test failed"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    # imports and rows make objects by the million, and hardly a cycle: collecting takes a fifth of an idle sync
    gc.set_threshold(50_000, 20, 20)
    # a scheduler's SIGTERM ends like Ctrl-C: what was started is stopped, what was loaded stays
    signal.signal(signal.SIGTERM, _interrupt)
    logging.getLogger("dlt").addFilter(_without_traceback)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # whoever read the output has enough; what Python would still write at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print("interrupted; what was loaded stays, and the next sync goes on from there", file=sys.stderr)
        return EXIT_RETRY
    except Exception as error:  # noqa: BLE001 - the last resort turns any error into an exit code
        return _failed(error)


def _failed(error: Exception) -> int:
    from prefect_runs import ConfigurationError, PrefectRunsError, TemporaryError

    print(f"prefect-runs: {error}", file=sys.stderr)
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION
    if isinstance(error, TemporaryError):
        return EXIT_RETRY
    if not isinstance(error, PrefectRunsError):
        print(f"prefect-runs: this is an unexpected {type(error).__name__}; please report it", file=sys.stderr)
    return EXIT_ERROR


def _without_traceback(record: logging.LogRecord) -> bool:
    # dlt logs what goes wrong in a load job with a traceback, some of it as text, and raises it afterwards
    if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        record.exc_info = None
        record.msg, record.args = record.getMessage().partition(" with message Traceback ")[0], ()
    return True


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _sync(arguments: argparse.Namespace) -> int:
    from .progress import ProgressLines
    from .screen import sync_screen
    from .sync import sync

    report = sync(_sync_options(arguments), ProgressLines())
    print(report.as_json() if arguments.json else sync_screen(report))
    return EXIT_OK if report.whole else EXIT_GAPS


def _verify(arguments: argparse.Namespace) -> int:
    from .screen import verify_screen
    from .verify import VerifyOptions, verify

    how = VerifyOptions(_time(arguments.since), arguments.sweep, arguments.repair)
    report = verify(_sync_options(arguments), how)
    print(report.as_json() if arguments.json else verify_screen(report))
    return EXIT_OK if report.whole else EXIT_DRIFT


def _backfill(arguments: argparse.Namespace) -> int:
    from .backfill import BackfillOptions, backfill
    from .progress import ProgressLines
    from .screen import backfill_screen

    start = _time(arguments.start)
    assert start is not None
    how = BackfillOptions(start, _time(arguments.end), arguments.newest_first)
    report = backfill(_sync_options(arguments), how, ProgressLines())
    print(report.as_json() if arguments.json else backfill_screen(report))
    return EXIT_OK if report.whole else EXIT_GAPS


def _time(value: str | None) -> datetime | None:
    from prefect_runs import ConfigurationError
    from prefect_runs.clock import as_utc

    try:
        return as_utc(value) if value else None
    except ValueError:
        raise ConfigurationError(f"{value!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _status(arguments: argparse.Namespace) -> int:
    from .status import status, status_screen

    shown = status(_sync_options(arguments))
    print(shown.as_json() if arguments.json else status_screen(shown))
    return EXIT_OK


def _models(arguments: argparse.Namespace) -> int:
    from .views import create_views, printed

    if arguments.print:
        print("\n".join(printed(arguments.dialect, arguments.dataset)))
        return EXIT_OK
    report = create_views(_sync_options(arguments))
    print(report.as_json() if arguments.json else report.as_text())
    return EXIT_OK


def _dbt(arguments: argparse.Namespace) -> int:
    if arguments.write:
        from .dbt_package import write_package

        write_package(Path(arguments.write), arguments.dialect)
        return EXIT_OK
    from .dbt import run_dbt

    report = run_dbt(_sync_options(arguments), arguments.models_dataset)
    print(report.as_json() if arguments.json else report.as_text())
    return EXIT_DRIFT if report.failures else EXIT_OK


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-runs",
        description="Copies run metadata of a Prefect server into a warehouse, and keeps the copy true.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    form = argparse.RawDescriptionHelpFormatter

    sync = commands.add_parser("sync", help="load what changed", epilog=EXIT_CODES, formatter_class=form)
    _add_destination(sync)
    sync.add_argument("--resources", help="only these resources, separated by commas")
    sync.add_argument(
        "--with", dest="extras", metavar="EXTRAS", help="these too, such as logs,events,deployment_changes"
    )
    sync.add_argument("--start-date", help="leave out runs expected to start before, such as 2026-01-31")
    sync.add_argument("--full", action="store_true", help="read everything again and merge it")
    sync.add_argument("--publish", metavar="PATH", help="put a copy of the DuckDB file there, for readers")
    sync.set_defaults(run=_sync)

    verify = commands.add_parser(
        "verify", help="compare the warehouse with the server", epilog=EXIT_CODES, formatter_class=form
    )
    _add_destination(verify)
    verify.add_argument("--since", help="only runs expected to start from then on, such as 2026-01-31")
    verify.add_argument("--sweep", action="store_true", help="compare every column, not only counts: reads every run")
    verify.add_argument("--repair", action="store_true", help="read again what differs, and verify again")
    verify.set_defaults(run=_verify)

    backfill = commands.add_parser(
        "backfill", help="read the runs of a span of time again", epilog=EXIT_CODES, formatter_class=form
    )
    _add_destination(backfill)
    backfill.add_argument("--start", required=True, help="runs expected to start from then on, such as 2026-01-31")
    backfill.add_argument("--end", help="runs expected to start before then (now)")
    backfill.add_argument("--newest-first", action="store_true", help="begin with the newest runs")
    backfill.add_argument("--resources", help="only these resources, separated by commas")
    backfill.set_defaults(run=_backfill)

    status = commands.add_parser(
        "status", help="show what the warehouse holds", epilog=EXIT_CODES, formatter_class=form
    )
    _add_destination(status)
    status.set_defaults(run=_status)

    models = commands.add_parser(
        "models", help="make views that answer questions", epilog=EXIT_CODES, formatter_class=form
    )
    _add_destination(models)
    models.add_argument("--print", action="store_true", help="print the statements instead, without any destination")
    models.add_argument("--dialect", default="duckdb", help="with --print: whose SQL, such as snowflake (duckdb)")
    models.set_defaults(run=_models)

    dbt = commands.add_parser(
        "dbt", help="run the models and their tests with dbt", epilog=EXIT_CODES, formatter_class=form
    )
    _add_destination(dbt)
    dbt.add_argument("--models-dataset", help="where the models go (the dataset's name with _models behind it)")
    dbt.add_argument("--write", metavar="DIR", help="write the dbt package there instead, without any destination")
    dbt.add_argument("--dialect", default="duckdb", help="with --write: whose SQL, such as snowflake (duckdb)")
    dbt.set_defaults(run=_dbt)

    report = commands.add_parser("report", help="write a page to look at", epilog=EXIT_CODES, formatter_class=form)
    _add_destination(report)
    report.add_argument("--file", default="prefect_runs.html", help="the page (prefect_runs.html)")
    report.add_argument("--days", type=int, default=14, help="how many days back it looks (14)")
    report.set_defaults(run=_report)

    demo = commands.add_parser("demo", help="run everything once against a Prefect server of its own")
    demo.add_argument("--database", help="DuckDB file to make (prefect_runs_demo.duckdb)")
    demo.set_defaults(run=_demo)
    return parser


def _add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--destination", default="duckdb", help="name of a dlt destination (duckdb)")
    parser.add_argument("--dataset", default="prefect", help="dataset: a schema in most destinations (prefect)")
    parser.add_argument("--database", help="DuckDB file (prefect_runs.duckdb)")
    parser.add_argument("--api-url", help="URL of the Prefect API, instead of the configured one")
    parser.add_argument("--workspace", help="name in the column workspace, instead of one made from the URL")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


if __name__ == "__main__":
    sys.exit(main())
