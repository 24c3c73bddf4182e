"""One line of progress at a time, on standard error."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TextIO

from dlt.common.runtime.collector_base import Collector

from prefect_runs import EXTRAS, RESOURCES

SECONDS_BETWEEN_LINES = 2.0


class ProgressLines(Collector):
    """Prints what each step has counted, every two seconds. Given to dlt as a pipeline's progress."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.step = ""
        self._out = out or sys.stderr
        self._counts: Counter[str] = Counter()
        self._printed = 0.0

    def update(
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        """Count `inc` more of `name`."""
        if name in RESOURCES or name in EXTRAS:
            self._counts[name] += inc
        now = time.monotonic()
        if self._counts and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            counted = ", ".join(f"{name} {count:,}" for name, count in self._counts.items())
            print(f"{self.step.lower().split(' in ')[0]}: {counted}", file=self._out, flush=True)

    def _start(self, step: str) -> None:
        self.step = step
        self._counts.clear()
        self._printed = time.monotonic()

    def _stop(self) -> None:
        self._counts.clear()
