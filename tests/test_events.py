"""Pages of events of another form are refused with what was asked, and without what they hold."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from prefect_runs import TemporaryError, UnexpectedReply
from prefect_runs.client import PrefectClient
from prefect_runs.events import EventFeed
from prefect_runs.windows import Window

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PAGE: dict[str, Any] = {
    "events": [
        {
            "id": "state",
            "occurred": NOW.isoformat(),
            "resource": {"prefect.resource.id": "prefect.flow-run.run", "prefect.state-type": "RUNNING"},
            "payload": {"initial_state": {"type": "PENDING", "name": "Pending"}},
        }
    ],
    "total": 1,
    "next_page": None,
}


class Client:
    """Answers one page to whatever is asked."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def post(self, path: str, body: Any) -> Any:
        return self._page

    def rows(self, reply: Any, asked: str) -> Any:
        return PrefectClient.rows(cast("PrefectClient", self), reply, asked)


def read(page: Any) -> list[str]:
    feed = EventFeed(cast("PrefectClient", Client(page)), ["prefect.flow-run."])
    return [state.state_id for state in feed.read(Window(NOW - timedelta(hours=1), NOW + timedelta(hours=1))).states]


def test_a_page_as_it_should_be() -> None:
    assert read(PAGE) == ["state"]


def test_a_page_whose_events_were_deleted_meanwhile_is_worth_another_try() -> None:
    with pytest.raises(TemporaryError, match="a page without events"):
        read({**PAGE, "events": [], "next_page": "/x"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda page: page.update(total="sesame"), "a str of 6 where the number of events was due"),
        (lambda page: page.update(total=None), "a NoneType where the number of events was due"),
        (lambda page: page.update(total=True), "a bool where the number of events was due"),
        (lambda page: page.update(next_page=["sesame"]), "a list of 1 where the next page's URL was due"),
        (lambda page: page["events"][0].update(occurred="sesame"), "a str of 6 where the time it occurred at was due"),
        (lambda page: page["events"][0].update(occurred=7), "a int where the time it occurred at was due"),
        (lambda page: page["events"][0].pop("occurred"), "a NoneType where the time it occurred at was due"),
        (lambda page: page["events"][0].update(resource="sesame"), "where the resource that it is about was due"),
        (lambda page: page["events"][0]["resource"].pop("prefect.resource.id"), "where the resource that it is about"),
        (lambda page: page["events"][0].update(payload=["sesame"]), "an event of another form: a dict of"),
        (
            lambda page: page["events"][0]["payload"].update(initial_state="sesame"),
            "an event of another form",
        ),
    ],
)
def test_a_page_of_another_form(change: Callable[[dict[str, Any]], None], said: str) -> None:
    page = deepcopy(PAGE)
    change(page)
    with pytest.raises(UnexpectedReply) as refused:
        read(page)
    assert said in str(refused.value)
    assert "sesame" not in str(refused.value)
