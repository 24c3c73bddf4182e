"""Window arithmetic: pure, no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from .clock import MICROSECOND, SECOND


@dataclass(frozen=True)
class Window:
    """A half-open span of time, `[start, end)`."""

    start: datetime
    end: datetime

    @property
    def last(self) -> datetime:
        """The last microsecond inside, for the API's inclusive bounds."""
        return self.end - MICROSECOND

    @property
    def empty(self) -> bool:
        """Whether no time lies inside."""
        return self.end <= self.start

    def within(self, bounds: Window) -> Window:
        """What of the window lies in another; empty where none of it does."""
        return Window(max(self.start, bounds.start), min(self.end, bounds.end))

    def halves(self) -> tuple[Window, Window]:
        """The window cut in the middle, on a whole microsecond."""
        middle = self.start + (self.end - self.start) // 2
        return Window(self.start, middle), Window(middle, self.end)

    def step(self, parts: int) -> timedelta:
        """The whole seconds, at least one, that cut the window into at most so many parts."""
        return max(-(-(self.end - self.start) // (parts * SECOND)), 1) * SECOND

    def rest(self, read: Window, newest_first: bool = False) -> Window:
        """What is left when all up to `read`, and that too, was read: from the start on, or from the end back."""
        return Window(self.start, read.start) if newest_first else Window(read.end, self.end)

    def parts(self, span: timedelta) -> Iterator[Window]:
        """The window cut into pieces of `span`, the last one shorter."""
        start = self.start
        while start < self.end:
            end = min(start + span, self.end)
            yield Window(start, end)
            start = end


def counted_windows(
    whole: Window,
    count: Callable[[Window], int | None],
    at_most: int,
    newest_first: bool = False,
    counted: int | None = None,
) -> Iterator[tuple[Window, int]]:
    """Windows that cover `whole` in order, each with its number of rows, at most `at_most`.

    A window of one microsecond may hold more. Only what is asked for is counted: half of each split by
    `count`, the other half by subtraction, so a number is as good as its count and not a bound to rely on.

    Args:
        count: None where there are too many to be counted.
        counted: the count of `whole`, where that was asked already.
    """
    if whole.empty:
        return
    # without a number where it is to be asked for
    todo = [(whole, counted)]
    while todo:
        window, told = todo.pop()
        rows = count(window) if told is None else told
        if window.end - window.start <= MICROSECOND or (rows is not None and rows <= at_most):
            yield window, at_most if rows is None else rows
            continue
        first, second = reversed(window.halves()) if newest_first else window.halves()
        in_first = count(first) if rows is not None else None
        # never said to be empty: runs made in the first since the whole was counted hide as many in the second
        in_second = max(rows - in_first, 1) if rows is not None and in_first is not None else None
        todo.append((second, in_second))
        todo.append((first, in_first))


def packed(intervals: Iterable[tuple[Window, int]], at_most: int) -> Iterator[tuple[Window, int]]:
    """Neighbouring intervals, ascending or descending, put together to windows of at most `at_most` rows.

    An interval that holds more by itself stays alone.
    """
    together: tuple[Window, int] | None = None
    for interval, rows in intervals:
        if together and together[1] + rows <= at_most:
            window = together[0]
            together = Window(min(window.start, interval.start), max(window.end, interval.end)), together[1] + rows
            continue
        if together:
            yield together
        together = interval, rows
    if together:
        yield together
