"""A file that readers see whole: the old one until the new one is written."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from prefect_runs import ConfigurationError


def check_name(file: Path) -> None:
    """Refuse a place where no file can be, before anything is done for it.

    Raises:
        ConfigurationError: its folder does not exist, or it is one itself.
    """
    if file.is_dir():
        raise ConfigurationError(f"{file} is a folder: name a file in it")
    if not file.parent.is_dir():
        raise ConfigurationError(f"there is no folder {file.parent} for {file.name}: make it, or name another file")


def check_place(file: Path) -> None:
    """Refuse a place where no file can be made, before anything is done for it.

    Raises:
        ConfigurationError: as `check_name`, or this user may not write into its folder.
    """
    check_name(file)
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise not_writable(file, "Permission denied")


def not_writable(file: Path | str, why: str) -> ConfigurationError:
    """What is said of a file or folder that the operating system does not let this user write, or even read."""
    # as a configuration file, which nobody was about to write
    what = "read" if os.path.exists(file) and not os.access(file, os.R_OK) else "written"
    return ConfigurationError(
        f"{file} cannot be {what} ({why}): give this user the right to, or name another file or folder"
    )


@contextlib.contextmanager
def in_place_of(file: Path) -> Iterator[Path]:
    """The file to write instead; it takes the place of `file` at once, when all went well, and is gone when not.

    Whoever else writes in place of `file` waits meanwhile.
    """
    beside = file.with_name(file.name + ".part")
    descriptor = _taken(beside)
    try:
        yield beside
        beside.replace(file)
    except BaseException:
        # on a full disk it would hold the room that the next sync needs
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _taken(file: Path) -> int:
    """The descriptor of `file`, made where there is none, that keeps others out until it is closed."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            # else another one has put it in place meanwhile
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        os.close(descriptor)
