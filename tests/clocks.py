"""A clock that only sleeping moves."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Clock:
    """Stands in for the module `time` where waiting is counted, so that no busy machine makes a difference.

    Attributes:
        seconds: what it shows.
        woken: what it showed each time that a sleep ended.
    """

    seconds: float = 0.0
    woken: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        """What it shows."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.seconds += seconds
        self.woken.append(self.seconds)
