"""`--publish`: a copy of the DuckDB file for readers, put in place at once, so that readers and syncs never meet."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from prefect_runs import ConfigurationError

from ..options import SyncOptions, check_file_name
from .failures import patiently
from .in_place import check_place, in_place_of


def check_publish(options: SyncOptions) -> None:
    """Refuse what cannot be published, before anything is read.

    Raises:
        ConfigurationError: there is no file to copy, it would be its own copy, it would be called like the dataset, or
            there is no folder to put the copy into.
    """
    if options.publish is None:
        return
    to = Path(options.publish)
    if options.destination != "duckdb":
        raise ConfigurationError("--publish copies a DuckDB file; readers of other destinations need no copy")
    if to.resolve() == Path(options.where).resolve():
        raise ConfigurationError(f"--publish names the database itself ({to}): name another file")
    check_file_name("--publish", options.publish, options.dataset)
    check_place(to)


def publish(database: Path, to: Path) -> None:
    """Put a copy of `database` in the place of `to`; whoever has the old copy open keeps it.

    Raises:
        WarehouseBusy: another program writes into the database.
    """
    with in_place_of(to) as beside:
        patiently(lambda: _copy(database, beside))


def _copy(database: Path, to: Path) -> None:
    if database.with_name(database.name + ".wal").exists():
        # what a killed writer left is folded in, for the copy is of one file
        with duckdb.connect(str(database)) as connection:
            connection.execute("CHECKPOINT")
    # nobody writes while somebody reads
    with duckdb.connect(str(database), read_only=True):
        shutil.copyfile(database, to)
