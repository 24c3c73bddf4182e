"""Events as rows: every event of some names, without what Prefect's own events tell of secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from .clock import parse
from .events import LONGEST_QUERY, EventFeed
from .paging import Row
from .read_ahead import read_ahead
from .timeline import Part
from .windows import Window, counted_windows

# events that are read into memory together: twenty pages
EVENTS_PER_WINDOW = 1_000

# parts of payloads, at any depth. Prefect's own events tell the value of a variable that is made, the job variables
# (infra_overrides) of a deployment that changes, the body of an artifact, all that an automation does
LEFT_OUT = frozenset(
    {
        *("parameters", "job_variables", "infra_overrides", "pull_steps", "base_job_template"),
        *("value", "data", "actions", "actions_on_trigger", "actions_on_resolve", "action"),
        # of an automation's call of a webhook
        *("body", "subject", "payload", "response_body", "response_headers"),
        # of one that failed: the same texts, and what the API said of a deployment's parameters
        *("template_source", "notification_log", "validation_error", "reason"),
    }
)


def read_events(feed: EventFeed, window: Window, at_once: int) -> Iterator[Part]:
    """All events of `window`, by windows in order, each event once; `at_once` windows are read at the same time."""

    def call(part: Window) -> Callable[[], Part]:
        return lambda: Part(_distinct(chain.from_iterable(feed.pages(part))), part.end)

    for whole in window.parts(LONGEST_QUERY):
        windows = counted_windows(whole, feed.total, EVENTS_PER_WINDOW)
        yield from read_ahead((call(part) for part, _ in windows), at_once)


def event_row(event: Row, payloads: bool) -> Row:
    """An event with its `resource_id`, and its payload only where `payloads` are asked for."""
    resource = event.get("resource")
    lifted = resource.get("prefect.resource.id") if isinstance(resource, dict) else None
    return {**event, "resource_id": lifted, "payload": without_secrets(event.get("payload")) if payloads else None}


def without_secrets(value: Any) -> Any:
    """`value` without the parts named in `LEFT_OUT`, at any depth."""
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return value


def _distinct(events: Iterator[Row]) -> list[Row]:
    # two neighbouring pages share the events of the time at which they meet
    rows = {event["id"]: event for event in events}
    return sorted(rows.values(), key=lambda event: parse(event["occurred"]))
