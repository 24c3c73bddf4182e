"""A DuckDB file that a full disk left without its headers: it holds nothing, and nobody can open it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

# a main header and two database headers, written when the file is made; data comes behind them
HEADERS = 3 * 4096
MAGIC = slice(8, 12)


def remove_torso(database: Path) -> bool:
    """Remove `database` when it is the beginning of a DuckDB file, too short for any data; whether it was.

    A file that a program has open is left alone, and so is one with a write-ahead log.
    """
    if sys.platform == "win32" or not database.is_file() or database.stat().st_size >= HEADERS:
        return False
    import fcntl

    with database.open("r+b") as file, contextlib.suppress(BlockingIOError, PermissionError):
        # DuckDB's own lock: whoever is making this very file holds it
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        start = file.read(HEADERS)
        begun = not start or (len(start) < HEADERS and start[MAGIC] == b"DUCK")
        if begun and not Path(f"{database}.wal").exists():
            database.unlink()
            return True
    return False
