"""How `pytest -n` spreads the tests over processes, each with a server of its own."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling


class WorkUnits(LoadScopeScheduling):
    """Hands out test by test in the order of collection, but files that prepare something for all their tests whole."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        # the order is given: see `long_first`
        config.option.loadscopereorder = False
        super().__init__(config, log)

    @cached_property
    def _whole_files(self) -> set[str]:
        tests = Path(__file__).parent.glob("test_*.py")
        return {path.name for path in tests if 'scope="module"' in path.read_text()}

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).name in self._whole_files else nodeid


def long_first(items: list[pytest.Item]) -> None:
    """Put the tests marked `long` first: one that began last would be waited for by all other processes."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
