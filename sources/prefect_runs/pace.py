"""A ceiling on requests per minute, shared by all threads of a client."""

from __future__ import annotations

import threading
import time


class Pace:
    """Spaces requests evenly, so that a budget of 60 a minute is one a second and never a burst of 60."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may be sent."""
        if not self._interval:
            return
        with self._lock:
            now = time.monotonic()
            slot = max(now, self._next)
            self._next = slot + self._interval
        time.sleep(slot - now)
