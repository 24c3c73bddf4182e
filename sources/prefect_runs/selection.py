"""Runs to be read again whatever the watermark says: by a backfill, or because `verify` found them to differ."""

from __future__ import annotations

from dataclasses import dataclass

from .clock import parse, text
from .progress import State
from .windows import Window


@dataclass(frozen=True)
class Selection:
    """Runs expected in `window`, oldest first unless `newest_first`; or the runs with these `ids`.

    The watermark stays where it is. Of ids that the server does not have, tombstones are made.
    """

    window: Window | None = None
    ids: frozenset[str] = frozenset()
    newest_first: bool = False

    def rest(self, state: State) -> Window | None:
        """The part of `window` that is still to be read, by what an earlier reading left in `state`."""
        saved = state.get("backfill")
        if self.window is None or saved is None or saved["asked"] != self._asked(self.window):
            return self.window
        position = parse(saved["position"])
        return Window(self.window.start, position) if self.newest_first else Window(position, self.window.end)

    def state(self, rest: Window) -> State:
        """What is remembered where `rest` is still to be read; nothing, when it is empty: other resources may go on."""
        assert self.window is not None
        position = rest.end if self.newest_first else rest.start
        return {"asked": self._asked(self.window), "position": text(position), "done": rest.empty}

    def _asked(self, window: Window) -> list[str | bool]:
        return [text(window.start), text(window.end), self.newest_first]
