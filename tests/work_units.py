"""How `pytest -n` spreads the tests over processes, each with a server of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling


class WorkUnits(LoadScopeScheduling):
    """Hands out test by test in the order of collection, but files that prepare something for all their tests whole."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        # the order is given: see `long_first`
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if stays_whole(self.config.rootpath / file) else nodeid


@cache
def stays_whole(file: Path) -> bool:
    """Whether all tests of a file run in one process: in two, what its fixtures make would be made twice."""
    return 'scope="module"' in file.read_text()


def long_first(items: list[pytest.Item]) -> None:
    """Put what takes long first, for all processes wait at the end for what began last: tests marked `long`, files."""
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, not stays_whole(item.path)))
