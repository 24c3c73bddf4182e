"""Keeps the command small and quick: what was measured on a first load of 70,000 runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping

import dlt

# dlt holds 5,000 rows before it writes them to a file, and loads 20 files at the same time, which one DuckDB file
# does not do any faster: 50 and 70 MB. Compressing files that are read back seconds later costs 3 of 46 seconds.
FRUGAL = {
    "normalize.data_writer.buffer_max_items": "1000",
    "load.workers": "1",
    "data_writer.disable_compression": "true",
}
# DuckDB takes what it can get, up to 80 % of the machine, to keep what it may read again: 60 MB at the peak of a load.
# A chunk needs far less, however large the tables; questions that sort or join whole tables need more.
LOADING = {"destination.duckdb.credentials.global_config": '{"memory_limit": "100MB"}'}
# glibc keeps a heap for each thread that read a page, pyarrow one of its own: 30 MB together
M_ARENA_MAX = -8


def keep_small() -> None:
    """Set what is not configured otherwise. Call it before pyarrow is imported."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    _configure(FRUGAL)


def keep_loads_small() -> None:
    """The same for a process that loads and asks nothing large. Call it before the destination is made."""
    _configure(LOADING)


def _configure(settings: Mapping[str, str]) -> None:
    for setting, value in settings.items():
        if dlt.config.get(setting) is None:
            os.environ[setting.replace(".", "__").upper()] = value
