"""One command at a time for each pipeline: two in one working folder would take each other's files for their own."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path

from prefect_runs import ConfigurationError, WarehouseBusy

from .destination import failures


class WorkingFolderLock:
    """Held from when it is made until it is released, or its process ends, however that happens.

    Args:
        folder: the working folder; the lock is a file beside it, for dlt removes the folder now and then.

    Raises:
        ConfigurationError: this user may not write where the folder is to be.
        WarehouseBusy: another command held it for `failures.PATIENCE_SECONDS`.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise ConfigurationError(
                f"dlt's working folder {folder.parent} cannot be written ({error.strerror}): give this user the right "
                "to, or set DLT_DATA_DIR to another folder"
            ) from None
        try:
            self._wait(folder.name)
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._file)

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + failures.PATIENCE_SECONDS
        while not _taken(self._file):
            if time.monotonic() > deadline:
                raise WarehouseBusy(
                    f"another prefect-runs command is at work on this destination (pipeline {name}); nothing was "
                    "read. Run again when it is done."
                )
            time.sleep(0.2)


def _taken(file: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
