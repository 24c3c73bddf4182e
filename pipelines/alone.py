"""One command at a time, where two would spoil each other's work."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect_runs import ConfigurationError, WarehouseBusy

from .destination import failures
from .names import digest


class Lock:
    """Held from when it is made until it is released, or its process ends, however that happens.

    Args:
        file: what is locked, where dlt's working folders are: for all commands that have theirs there.
        busy: what is told when another one does not let go.

    Raises:
        ConfigurationError: this user may not write where the file is to be.
        WarehouseBusy: another command held it for `failures.PATIENCE_SECONDS`.
    """

    def __init__(self, file: Path, busy: str) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise ConfigurationError(
                f"dlt's working folder {file.parent} cannot be written ({error.strerror}): give this user the right "
                "to, or set DLT_DATA_DIR to another folder"
            ) from None
        try:
            self._wait(busy)
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._file)

    def _wait(self, busy: str) -> None:
        deadline = time.monotonic() + failures.PATIENCE_SECONDS
        while not _taken(self._file):
            if time.monotonic() > deadline:
                raise WarehouseBusy(busy)
            time.sleep(0.2)


def working_folder(folder: Path) -> Lock:
    """The lock of a pipeline's working folder: two commands would take each other's files there for their own."""
    return Lock(
        # beside it, for dlt removes the folder now and then
        folder.with_name(f"{folder.name}.lock"),
        f"another prefect-runs command is at work on this destination (pipeline {folder.name}); nothing was read. "
        "Run again when it is done.",
    )


@contextmanager
def loading(folder: Path, dataset: str) -> Iterator[None]:
    """Alone in loading into a dataset, whatever the workspace.

    Args:
        folder: where dlt's working folders are.
        dataset: where it is, always in the same words.
    """
    lock = Lock(
        folder / f"prefect_runs_{digest(dataset)}.loading.lock",
        f"another prefect-runs command loads into this destination. {failures.KEPT}.",
    )
    try:
        yield
    finally:
        lock.release()


def _taken(file: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
