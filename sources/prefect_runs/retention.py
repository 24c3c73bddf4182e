"""How long the server keeps runs and events, and what that means for a sync that comes late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import pendulum

from .settings import ReadSettings
from .windows import Window

# Prefect Cloud keeps runs 7, 7, 14 or 30 days by plan; which plan it is cannot be asked, so the shortest
CLOUD_KEEPS = timedelta(days=7)
# self-hosted servers keep events this long unless configured otherwise
EVENTS_KEPT = timedelta(days=7)
# a warning is due when this part of the time is over
NEAR = 0.75

Reason = Literal["deleted", "aged_out"]


@dataclass(frozen=True)
class Retention:
    """Time that the server keeps `runs` after they ended (None: for ever), and `events` after they occurred."""

    runs: timedelta | None
    events: timedelta

    @classmethod
    def of(cls, settings: ReadSettings, is_cloud: bool, ask: Callable[[], dict[str, Any]]) -> Retention:
        """What the user says; else what the server says of itself; else Prefect's defaults.

        Args:
            ask: gives the `server` part of a self-hosted server's settings; called only where it is needed.
        """
        runs, events = settings.runs_kept, settings.events_kept
        if is_cloud:
            return cls(runs or CLOUD_KEEPS, events or CLOUD_KEEPS)
        told = ask() if runs is None or events is None else {}
        return cls(runs or _vacuumed_after(told), events or _span(told, "events", "retention_period") or EVENTS_KEPT)

    def lost(self, since: datetime, now: datetime) -> Window | None:
        """The span after `since` whose runs the server may have removed by `now`; None where there is none."""
        if self.runs is None or since >= now - self.runs:
            return None
        return Window(since, now - self.runs)

    def warnings(self, since: datetime, now: datetime) -> list[str]:
        """What is to be said when the last sync read up to `since`, before anything is lost and after."""
        found = []
        for what, kept in (("runs", self.runs), ("events", self.events)):
            if kept is not None and now - since > NEAR * kept:
                late = "more than" if now - since > kept else "nearly"
                found.append(
                    f"the last sync was {_days(now - since)} ago, {late} the {_days(kept)} that the server keeps {what}"
                )
        return found

    def reason(self, ended: datetime | None, now: datetime) -> Reason:
        """Why the server no longer has a run that ended then."""
        if self.runs is not None and ended is not None and ended <= now - self.runs:
            return "aged_out"
        return "deleted"


def _vacuumed_after(server_settings: dict[str, Any]) -> timedelta | None:
    # true, or a list of what is vacuumed; servers before 3.6.19 vacuum nothing
    enabled = server_settings.get("services", {}).get("db_vacuum", {}).get("enabled")
    if enabled is True or (isinstance(enabled, list) and "flow_runs" in enabled):
        return _span(server_settings, "services", "db_vacuum", "retention_period")
    return None


def _span(tree: Any, *path: str) -> timedelta | None:
    """The ISO 8601 duration at `path`, such as P7D."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    duration = pendulum.parse(tree) if isinstance(tree, str) else None
    return duration.as_timedelta() if isinstance(duration, pendulum.Duration) else None


def _days(span: timedelta) -> str:
    hours = round(span.total_seconds() / 3600)
    return f"{hours} hours" if hours < 48 else f"{hours / 24:.1f} days"
