"""The commands of `prefect-runs` and their options. What `--help` says beside them is in `manual`."""

from __future__ import annotations

import argparse
from typing import Any

from .manual import COMMAND, PAGES, Page

DISTRIBUTION = "dlt-source-prefect"
SHELLS = ("bash", "zsh", "fish")

# what argparse calls the thing that `add_parser` is called on; its class is private
Commands = Any


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line: `command` in its result is the name of the chosen command."""
    made = argparse.ArgumentParser(prog="prefect-runs", allow_abbrev=False, **_words(COMMAND))
    made.add_argument("--version", action=_Version, help="show the versions of this program, dlt and Python")
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    _add_sync(commands)
    _add_verify(commands)
    _add_backfill(commands)
    _add_status(commands)
    _add_models(commands)
    _add_dbt(commands)
    _add_report(commands)
    _add_demo(commands)
    _add_completion(commands)
    return made


def _add_sync(commands: Commands) -> None:
    sync = _command(commands, "sync")
    _add_destination(sync)
    sync.add_argument("--resources", metavar="NAMES", help="only these resources, separated by commas")
    sync.add_argument(
        "--with", dest="extras", metavar="NAMES", help="these too, such as logs,events,deployment_changes"
    )
    sync.add_argument(
        "--start-date",
        metavar="TIME",
        help="leave out runs expected to start before, such as 2026-01-31; another one begins the first load again",
    )
    sync.add_argument("--full", action="store_true", help="read everything again and merge it")
    sync.add_argument("--publish", metavar="FILE", help="put a copy of the DuckDB file there, for readers")


def _add_verify(commands: Commands) -> None:
    verify = _command(commands, "verify")
    _add_destination(verify)
    verify.add_argument("--start-date", metavar="TIME", help="as the syncs have it: older runs are left out")
    verify.add_argument("--since", metavar="TIME", help="only runs expected to start from then on, such as 2026-01-31")
    verify.add_argument("--sweep", action="store_true", help="compare every column, not only counts: reads every run")
    verify.add_argument("--histories", action="store_true", help="compare state histories too: a request for each run")
    verify.add_argument("--repair", action="store_true", help="read again what differs, and verify again")


def _add_backfill(commands: Commands) -> None:
    backfill = _command(commands, "backfill")
    _add_destination(backfill)
    backfill.add_argument(
        "--start", metavar="TIME", required=True, help="runs expected to start from then on, such as 2026-01-31"
    )
    backfill.add_argument("--end", metavar="TIME", help="runs expected to start before then (now)")
    backfill.add_argument("--newest-first", action="store_true", help="begin with the newest runs")
    backfill.add_argument("--resources", metavar="NAMES", help="only these resources, separated by commas")


def _add_status(commands: Commands) -> None:
    status = _command(commands, "status")
    _add_destination(status)


def _add_models(commands: Commands) -> None:
    models = _command(commands, "models")
    _add_destination(models)
    models.add_argument(
        "--print",
        action="store_true",
        help="only print the statements (of a filesystem, after asking which tables it has)",
    )
    _add_dialect(models, "--print")


def _add_dbt(commands: Commands) -> None:
    dbt = _command(commands, "dbt")
    _add_destination(dbt)
    dbt.add_argument(
        "--models-dataset", metavar="NAME", help="where the models go (the dataset's name with _models behind it)"
    )
    dbt.add_argument("--write", metavar="DIR", help="write the dbt package there instead, without any destination")
    _add_dialect(dbt, "--write")


def _add_dialect(command: argparse.ArgumentParser, option: str) -> None:
    told = f"with {option}: whose SQL, such as snowflake (duckdb)"
    command.add_argument("--dialect", metavar="NAME", help=told)


def _add_report(commands: Commands) -> None:
    report = _command(commands, "report")
    _add_destination(report)
    report.add_argument("--file", metavar="FILE", default="prefect_runs.html", help="the page (prefect_runs.html)")
    report.add_argument("--days", type=int, default=14, help="how many days back it looks (14)")


def _add_demo(commands: Commands) -> None:
    demo = _command(commands, "demo")
    demo.add_argument("--database", metavar="FILE", help="DuckDB file to make (prefect_runs_demo.duckdb)")


def _add_completion(commands: Commands) -> None:
    completion = _command(commands, "completion")
    completion.add_argument("shell", choices=SHELLS, help="whose script")


def _add_destination(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("server and destination")
    where.add_argument("--destination", metavar="NAME", default="duckdb", help="name of a dlt destination (duckdb)")
    where.add_argument(
        "--dataset", metavar="NAME", default="prefect", help="dataset: a schema in most destinations (prefect)"
    )
    where.add_argument("--database", metavar="FILE", help="DuckDB file (prefect_runs.duckdb)")
    where.add_argument("--api-url", metavar="URL", help="URL of the Prefect API, instead of the configured one")
    where.add_argument(
        "--workspace",
        metavar="NAME[,NAME]",
        help="only these of the configured workspaces (all); with one server, its name in the column workspace",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _command(commands: Commands, name: str) -> argparse.ArgumentParser:
    page = PAGES[name]
    made: argparse.ArgumentParser = commands.add_parser(name, help=page.summary, allow_abbrev=False, **_words(page))
    # every option without a type of its own
    made.register("type", None, _given)
    return made


def _given(value: str) -> str:
    # a default that is read instead would hide that a shell's variable is unset
    if not value.strip():
        raise argparse.ArgumentTypeError(
            "the value is empty: leave the option out, or set the variable that it is from"
        )
    return value


def _words(page: Page) -> dict[str, Any]:
    # lines of the manual are as long as they are to be
    form = argparse.RawDescriptionHelpFormatter
    return {"description": page.description, "epilog": page.epilog(), "formatter_class": form}


class _Version(argparse.Action):
    """Prints versions and ends. They are looked up only then, for that takes longer than the rest of the parser."""

    def __init__(self, **given: Any) -> None:
        super().__init__(nargs=0, **given)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import platform
        from importlib.metadata import version

        print(f"prefect-runs {version(DISTRIBUTION)} (dlt {version('dlt')}, Python {platform.python_version()})")
        parser.exit()
