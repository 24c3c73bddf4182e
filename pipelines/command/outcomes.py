"""What a command comes to: its exit code, for one workspace or for several one after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..redacted import redacted

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_RETRY = 3
EXIT_GAPS = 4
EXIT_DRIFT = 5

# of several workspaces: first what a person has to do, then what another try heals, then what was found
WORST_FIRST = (EXIT_CONFIGURATION, EXIT_ERROR, EXIT_RETRY, EXIT_DRIFT, EXIT_GAPS, EXIT_OK)

WORDS = {EXIT_OK: "done", EXIT_GAPS: "done, with gaps", EXIT_DRIFT: "differs"}


class Report(Protocol):
    """What a command did for one workspace."""

    def as_json(self) -> str:
        """The report as one JSON object."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one workspace: a report, or what went wrong."""

    workspace: str
    exit_code: int
    report: Report | None = None
    error: str | None = None

    @property
    def words(self) -> str:
        """The outcome as a person reads it."""
        return self.error or WORDS[self.exit_code]

    def as_entry(self) -> dict[str, Any]:
        """The outcome as a JSON object: what the report has, or `error`."""
        told = json.loads(self.report.as_json()) if self.report else {"workspace": self.workspace, "error": self.error}
        return {"exit_code": self.exit_code, **told}


def exit_code_of(report: Report, not_whole: int) -> int:
    """`not_whole` for a report that says of itself that it is not whole."""
    return EXIT_OK if getattr(report, "whole", True) else not_whole


def outcome_of(workspace: str, work: Callable[[], Report], not_whole: int) -> Outcome:
    """What `work` for one workspace comes to, whatever goes wrong with it. Tells of an error at once."""
    try:
        report = work()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other workspaces have their turn
        return Outcome(workspace, failed(error, workspace), error=redacted(error))
    return Outcome(workspace, exit_code_of(report, not_whole), report)


def worst(codes: Sequence[int]) -> int:
    """The exit code that says most about what to do."""
    return min(codes, key=WORST_FIRST.index)


def as_json(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as one JSON object with an entry for each workspace."""
    entries = {outcome.workspace: outcome.as_entry() for outcome in outcomes}
    return json.dumps({"exit_code": worst([outcome.exit_code for outcome in outcomes]), "workspaces": entries})


def failed(error: Exception, workspace: str | None = None) -> int:
    """Tell of an error, and what exit code it has."""
    from prefect_runs import ConfigurationError, PrefectRunsError, TemporaryError

    begin = f"prefect-runs: {workspace}:" if workspace else "prefect-runs:"
    print(f"{begin} {redacted(error)}", file=sys.stderr, flush=True)
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION
    if isinstance(error, TemporaryError):
        return EXIT_RETRY
    if not isinstance(error, PrefectRunsError):
        print(f"{begin} this is an unexpected {type(error).__name__}; please report it", file=sys.stderr, flush=True)
    return EXIT_ERROR
