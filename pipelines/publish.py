"""`--publish`: a copy of the DuckDB file for readers, put in place at once, so that readers and syncs never meet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from prefect_runs import ConfigurationError

from .failures import patiently
from .options import SyncOptions


def check_publish(options: SyncOptions) -> None:
    """Refuse what cannot be published, before anything is read.

    Raises:
        ConfigurationError: there is no file to copy, it would be its own copy, or no folder to put the copy into.
    """
    if options.publish is None:
        return
    to = Path(options.publish)
    if options.destination != "duckdb":
        raise ConfigurationError("--publish copies a DuckDB file; readers of other destinations need no copy")
    if to.resolve() == Path(options.where).resolve():
        raise ConfigurationError(f"--publish names the database itself ({to}): name another file")
    if not to.parent.is_dir() or to.is_dir():
        raise ConfigurationError(f"--publish {to}: there is no such folder, or it is one")


def publish(database: Path, to: Path) -> None:
    """Put a copy of `database` in the place of `to`; whoever has the old copy open keeps it.

    Raises:
        WarehouseBusy: another program writes into the database.
    """
    beside = to.with_name(to.name + ".part")
    patiently(lambda: _copy(database, beside))
    os.replace(beside, to)


def _copy(database: Path, to: Path) -> None:
    if database.with_name(database.name + ".wal").exists():
        # what a killed writer left is folded in, for the copy is of one file
        with duckdb.connect(str(database)) as connection:
            connection.execute("CHECKPOINT")
    # nobody writes while somebody reads
    with duckdb.connect(str(database), read_only=True):
        shutil.copyfile(database, to)
