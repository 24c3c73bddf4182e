"""The server's own counts of runs, asked of as much at once as it can count: a large server gives up on a long span."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from .clock import EVER, SECOND
from .exceptions import ServerUnavailable
from .paging import Row
from .run_reader import RunReader
from .settings import HISTORY_INTERVALS
from .windows import Window

# an answer that took longer is the last one of a span as long
SLOW_SECONDS = 5.0


class Intervals(NamedTuple):
    """The server's counts of the intervals of a window, as `RunReader.history` gives them.

    Of a window of one interval that the server cannot count there are none, and `error` says why.
    """

    window: Window
    counts: list[Row]
    error: ServerUnavailable | None = None


class ServerCounts:
    """Counts of the runs that `reader` reads. Remembers what was too much for the server."""

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader
        # longest span of intervals that is asked for, and shortest span whose runs were too many
        self._longest: timedelta | None = None
        self._too_long: timedelta | None = None

    def intervals(self, window: Window, step: timedelta, at_most: int = HISTORY_INTERVALS) -> Iterator[Intervals]:
        """Counts for each `step` of `window`, in order, in parts of whole steps: shorter ones when the server is slow.

        Args:
            at_most: intervals in a request.

        Raises:
            ServerUnavailable: the server answers nothing at all.
        """
        todo = list(window.parts(step * at_most))[::-1]
        while todo:
            part = todo.pop()
            half = part.start + (part.end - part.start) // step // 2 * step
            if self._longest and part.end - part.start > self._longest and half > part.start:
                todo += [Window(half, part.end), Window(part.start, half)]
                continue
            asked = time.monotonic()
            try:
                reply = self._reader.history(part, step)
            except ServerUnavailable as error:
                self._check_answers()
                if half == part.start:
                    yield Intervals(part, [], error)
                else:
                    self._longest = half - part.start
                    todo.append(part)
                continue
            if time.monotonic() - asked > SLOW_SECONDS:
                self._longest = max((part.end - part.start) / 2, step)
            yield Intervals(part, reply)

    def runs(self, window: Window) -> int | None:
        """How many runs are expected in `window`; None where they are more than the server can count.

        Raises:
            ServerUnavailable: the server answers nothing at all.
        """
        span = window.end - window.start
        if self._too_long and span >= self._too_long:
            return None
        try:
            return self._reader.count(window)
        except ServerUnavailable:
            self._check_answers()
            self._too_long = span
            return None

    def _check_answers(self) -> None:
        """Ask for what costs the server nothing: what failed was then too much, and else all is."""
        self._reader.count(Window(EVER, EVER + SECOND))
