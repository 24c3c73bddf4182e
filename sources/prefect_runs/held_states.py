"""Where the states of one kind of run stand that the warehouse has; nothing where it cannot be asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from .chains import Place
from .known import Known


class HeldStates:
    """Answers of `known` about one table of states."""

    def __init__(self, known: Known | None, table: str) -> None:
        self._known = known
        self._table = table

    def places(self, ids: Iterable[str]) -> Mapping[str, Place]:
        """State id → where it stands, of those of `ids` that the warehouse has."""
        return self._known.places(self._table, list(ids)) if self._known else {}

    def last_numbers(self, run_ids: Collection[str]) -> Mapping[str, int]:
        """Run id → the highest number of its states."""
        return self._known.last_numbers(self._table, run_ids) if self._known else {}
