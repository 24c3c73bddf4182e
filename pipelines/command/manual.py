"""The words of `--help`: what each command does, with examples, configuration, exit codes and what to see also."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill, indent

from .outcomes import WORST_FIRST

# what exit code 5 means for each of the two commands that have it
DIFFERS = (
    "the warehouse differs from the server, or a part could not be compared, as the output and the table "
    "verifications say"
)
FAILED = "a model or a test failed"

EXIT_CODES: Mapping[int, str] = {
    0: "loaded, and nothing is known to be missing",
    1: "an error in prefect-runs, or a reply that it does not understand: report it",
    2: "an option, the configuration or the credentials are wrong: trying again changes nothing",
    3: "the server or the destination is not available, or the command was interrupted: run again, nothing was lost",
    4: "loaded, but with gaps, which are named in the output and in the table syncs",
    5: f"verify: {DIFFERS}; dbt: {FAILED}",
}


SERVER = """\
PREFECT_API_URL, PREFECT_API_KEY, PREFECT_API_AUTH_STRING, .env,
prefect.toml, pyproject.toml, the active profile
    the server, as Prefect's own client finds it; with none of them
    http://127.0.0.1:4200/api"""

DLT = """\
.dlt/config.toml, .dlt/secrets.toml
    settings and filters in [sources.prefect_runs], credentials of the
    server and the destination; they win over Prefect's
SOURCES__PREFECT_RUNS__SETTINGS__LOOKBACK_MINUTES, …
    the same, as variables
DLT_DATA_DIR
    where dlt keeps rows until they are loaded, and traces (~/.dlt, or
    /var/dlt for root)"""

CACHE = """\
PREFECT_RUNS_CACHE
    where environments that are made once are kept (~/.cache/prefect-runs)"""


@dataclass(frozen=True)
class Page:
    """What the help of a command says beside its options.

    Attributes:
        summary: its line in the list of commands.
        description: what it does.
        examples: command lines, each with what it does.
        done: what exit code 0 means.
        found: what exit code 5 means.
        configuration: what else it listens to.
        exit_codes: those that it can end with.
        see_also: the commands that one needs next.
    """

    summary: str
    description: str
    examples: Sequence[tuple[str, str]]
    done: str = "done"
    found: str = EXIT_CODES[5]
    configuration: Sequence[str] = (SERVER, DLT)
    exit_codes: Sequence[int] = (0, 1, 2, 3)
    see_also: Sequence[str] = ()

    def epilog(self) -> str:
        """What stands below the options."""
        examples = "\n".join(f"{command}\n{indent(does, '    ')}" for command, does in self.examples)
        meanings = {**EXIT_CODES, 0: self.done, 5: self.found}
        codes = "\n".join(fill(f"{code}  {meanings[code]}", 74, subsequent_indent="   ") for code in self.exit_codes)
        parts = {
            "examples": examples,
            "configuration": "\n".join(self.configuration),
            "exit codes": codes,
            "see also": "\n".join(self.see_also),
        }
        return "\n\n".join(f"{title}:\n{indent(text, '  ')}" for title, text in parts.items() if text)


COMMAND = Page(
    summary="",
    description="""\
Copies run metadata of a Prefect server into a warehouse, and keeps the copy
true: every run, every state it went through, every change. The first sync
loads everything, the others what changed since. Of several workspaces, each
has its turn; the exit code is the first of """
    f"{', '.join(map(str, WORST_FIRST))} that any has.",
    examples=[
        ("prefect-runs sync", "load what changed into prefect_runs.duckdb, from cron or by hand"),
        ("prefect-runs verify --repair", "compare with the server, and read again what differs"),
        ("prefect-runs sync --help", "the manual of one command"),
    ],
    done=EXIT_CODES[0],
    exit_codes=tuple(EXIT_CODES),
    see_also=["prefect-runs COMMAND --help", "https://dlthub.com/docs for destinations and their configuration"],
)

PAGES: Mapping[str, Page] = {
    "sync": Page(
        summary="load what changed",
        description="""\
Loads runs, their states and what they belong to: everything at first, in
chunks that survive a kill, and what changed since from then on. Run it from
cron or any scheduler; two syncs of one warehouse wait for each other.""",
        examples=[
            ("prefect-runs sync", "the configured server into prefect_runs.duckdb"),
            ("prefect-runs sync --destination postgres --dataset prefect", "into a destination of .dlt/secrets.toml"),
            ("prefect-runs sync --resources flow_runs,flow_run_states,flows", "only flow runs"),
            ("prefect-runs sync --publish /srv/readers/prefect_runs.duckdb", "with a copy that analysts can hold open"),
        ],
        done=EXIT_CODES[0],
        exit_codes=(0, 1, 2, 3, 4),
        see_also=[
            "prefect-runs verify    is the copy whole?",
            "prefect-runs status    what was loaded, without asking the server",
        ],
    ),
    "verify": Page(
        summary="compare the warehouse with the server",
        description="""\
Compares the warehouse with the server's own counts, per interval of expected
start time and state, and names the runs that are missing, changed, double or
gone. Each comparison is a row of the table verifications.""",
        examples=[
            ("prefect-runs verify", "exit code 5 when something differs"),
            ("prefect-runs verify --repair", "and have it read again"),
            ("prefect-runs verify --sweep --since 2026-01-31", "every column of every run since that day"),
            ("prefect-runs verify --histories --since 2026-01-31", "every state of every run since that day"),
        ],
        done="the warehouse holds what the server holds",
        found=DIFFERS,
        exit_codes=(0, 1, 2, 3, 5),
        see_also=["prefect-runs backfill    read a span of time again, without comparing"],
    ),
    "backfill": Page(
        summary="read the runs of a span of time again",
        description="""\
Reads the runs that were expected to start within a span of time, with their
states, and merges them. The watermark of the syncs stays where it is. Killed,
it goes on where it stopped when it is run again.""",
        examples=[
            ("prefect-runs backfill --start 2026-01-01 --end 2026-02-01", "January, in UTC"),
            ("prefect-runs backfill --start 2026-01-01 --newest-first", "up to now, beginning with now"),
        ],
        done=EXIT_CODES[0],
        exit_codes=(0, 1, 2, 3, 4),
        see_also=["prefect-runs verify --repair    read only what differs"],
    ),
    "status": Page(
        summary="show what the warehouse holds",
        description="""\
Shows rows, watermarks, the last syncs, and up to when the copy was proven
whole. Asks the destination only, and warns when the last sync is so long ago
that the server soon forgets what was not read. A DuckDB file that is not
there is an error (exit code 2), and is not made.""",
        examples=[
            ("prefect-runs status", "for a person"),
            ("prefect-runs status --json", "for a monitor; pipeline is the name that dlt's own commands take"),
        ],
        see_also=["dlt pipeline NAME info    what dlt knows of the pipeline"],
    ),
    "models": Page(
        summary="make views that answer questions",
        description="""\
Makes views beside the tables, and makes them anew when it is run again: facts
of runs, figures of days and hours, health of deployments, failures until they
were over, hours of queues.""",
        examples=[
            ("prefect-runs models", "views in prefect_runs.duckdb"),
            ("prefect-runs models --print --dialect snowflake", "their SQL, for a warehouse elsewhere"),
        ],
        see_also=["prefect-runs dbt    the same models as tables, with their tests"],
    ),
    "dbt": Page(
        summary="run the models and their tests with dbt",
        description="""\
Makes the models as tables in a dataset beside the loaded one, and runs their
tests. dbt is installed into an environment of its own on the first run.""",
        examples=[
            ("prefect-runs dbt", "models and tests on prefect_runs.duckdb"),
            ("prefect-runs dbt --write prefect_runs_dbt --dialect bigquery", "the package, for a project of your own"),
        ],
        found=FAILED,
        configuration=(SERVER, DLT, CACHE),
        exit_codes=(0, 1, 2, 3, 5),
        see_also=["prefect-runs models    the same as views, without dbt"],
    ),
    "report": Page(
        summary="write a page to look at",
        description="""\
Writes one HTML file that opens offline: volume and success, durations and
lateness, the latest runs, failures, deployments by health, and how far the
copy can be trusted. Needs pip install 'dlt-source-prefect[report]'.""",
        examples=[("prefect-runs report --days 30 --file /srv/www/runs.html", "the last 30 days")],
        see_also=["prefect-runs models    the figures as views"],
    ),
    "demo": Page(
        summary="run everything once against a Prefect server of its own",
        description="""\
Starts a Prefect server, runs sample flows on it, copies them, changes some of
the runs and copies again. What stays: the DuckDB file, the installed server
for the next time, and dlt's folder of the pipeline.""",
        examples=[("prefect-runs demo", "about a minute; the first time it installs a server, another one")],
        configuration=(CACHE,),
        see_also=["prefect-runs sync    your own server"],
    ),
    "completion": Page(
        summary="print what a shell completes this command with",
        description="""\
Prints a script with which a shell completes commands, options and files. It is
read by a line in the file that the shell starts with.""",
        examples=[
            ('eval "$(prefect-runs completion bash)"', "bash, in ~/.bashrc"),
            ('eval "$(prefect-runs completion zsh)"', "zsh, in ~/.zshrc, after compinit"),
            ("prefect-runs completion fish | source", "fish, in ~/.config/fish/config.fish"),
        ],
        configuration=(),
        exit_codes=(0, 1, 2),
    ),
}
