"""Keeps the command small and quick: what was measured on a first load of 70,000 runs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import threading
from collections.abc import Iterator

import dlt
from dlt.common.configuration.container import Container

# dlt holds 5,000 rows before it writes them to a file, and loads 20 files at the same time, which one DuckDB file
# does not do any faster: 50 and 70 MB. Compressing files that are read back seconds later costs 3 of 46 seconds.
FRUGAL = {
    "normalize.data_writer.buffer_max_items": "1000",
    "load.workers": "1",
    "data_writer.disable_compression": "true",
    # dlt keeps the files of every load in its working folder, to which nobody comes back
    "load.delete_completed_jobs": "true",
}
# DuckDB takes what it can get, up to 80 % of the machine, to keep what it may read again: with 100 MB a load takes no
# less time than with these, and 20 MB more at its peak
DUCKDB_CONFIG = "destination.duckdb.credentials.global_config"
LOAD_MEMORY = "64MB"
# glibc keeps a heap for each thread that read a page, pyarrow one of its own: 30 MB together
M_ARENA_MAX = -8


def keep_small() -> None:
    """Set what is not configured otherwise. Call it before pyarrow is imported."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    for setting, value in FRUGAL.items():
        if dlt.config.get(setting) is None:
            os.environ[_variable(setting)] = value


def collect() -> None:
    """Give back what the last load held.

    What it has read is held by objects that hold each other, and would stay for several loads. What dlt looked up in
    its configuration is held for each thread, and would stay when that has ended.
    """
    contexts = Container().thread_contexts
    running = {thread.ident for thread in threading.enumerate()}
    for ident in [ident for ident in contexts if ident not in running]:
        del contexts[ident]
    gc.collect()


@contextlib.contextmanager
def small_loads() -> Iterator[None]:
    """Inside, DuckDB takes `LOAD_MEMORY` at most, if it is not configured otherwise.

    Rows of tens of kB need more (DuckDB then says that it is out of memory): load them outside.
    """
    if dlt.config.get(DUCKDB_CONFIG) is not None:
        yield
        return
    variable = _variable(DUCKDB_CONFIG)
    os.environ[variable] = json.dumps({"memory_limit": LOAD_MEMORY})
    try:
        yield
    finally:
        del os.environ[variable]


def _variable(setting: str) -> str:
    return setting.replace(".", "__").upper()
