"""Times as the Prefect API writes them, and back. Nothing here reads a clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
# a machine that is further behind than this has no clock that was ever set
NOT_A_CLOCK = timedelta(hours=12)
# replicas of a server, and replies that a cache kept, differ by less
REPLICAS_DIFFER = timedelta(minutes=1)
# how long before a server's clock was set back the last sync is taken to have been: by the clock of now nobody knows
BEFORE_SET_BACK = timedelta(days=1)
# before Prefect's first run
EVER = datetime(2000, 1, 1, tzinfo=UTC)


def parse(text: str) -> datetime:
    """The time in a reply. Strings do not sort: a whole second has no fraction.

    Raises:
        ValueError: the text is no ISO 8601 time with a time zone.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return parsed


def as_utc(value: str | date | datetime) -> datetime:
    """A configured date or time, in UTC; without a time zone it is taken as UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    value = datetime.fromisoformat(value.isoformat())
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def text(time: datetime) -> str:
    """The time as a filter or the pipeline state takes it, exact to the microsecond."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def from_http_date(header: str) -> datetime | None:
    """The time of a `Date` header, which is cut to whole seconds and so never ahead of the server.

    None where it cannot be read. HTTP has no zone but UTC, whether or not it is written.
    """
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def server_time(date: datetime, here: datetime) -> datetime:
    """The time that a server's `Date` stands for, or this machine's where that is up to half a day earlier.

    A sync that takes its time from a clock that is behind reads more than it must; with one that is ahead of what
    the server writes into its rows it would pass changes over.
    """
    return here if date - NOT_A_CLOCK < here < date else date


class ServerClock(NamedTuple):
    """The time by which a sync goes, and the `Date` that the server gave with it, which may be later."""

    now: datetime
    date: datetime

    def set_back(self, watermark: datetime) -> timedelta:
        """By how much, at least, the server's clock was set back since it gave `watermark`; zero where it was not."""
        behind = watermark - self.date
        return behind if behind > REPLICAS_DIFFER else timedelta()

    def read_since(self, watermark: datetime, lookback: timedelta) -> datetime:
        """From when on to read what changed since a sync that went by `watermark`."""
        before = BEFORE_SET_BACK if self.set_back(watermark) else timedelta()
        return min(watermark, self.now) - before - lookback


def in_one_step(first: datetime, second: datetime, step: timedelta) -> bool:
    """Whether no multiple of `step` (since 1970), such as a full hour, lies between two times."""
    return floor(first, step) == floor(second, step)


def floor(time: datetime, step: timedelta) -> datetime:
    """The last multiple of `step` (since 1970) that is not after `time`."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (time - epoch) // step * step
