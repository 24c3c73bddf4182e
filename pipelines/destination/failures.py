"""Errors of dlt and of destinations told as ours, and patience with a destination that someone else holds."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dlt.common.configuration.exceptions import ConfigurationException, ValueNotSecretException
from dlt.common.configuration.providers.toml import TomlProviderReadException
from dlt.common.destination.exceptions import UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException

from prefect_runs import ConfigurationError, PrefectRunsError, WarehouseBusy

from ..redacted import redacted
from .in_place import not_writable

T = TypeVar("T")

# how long a sync waits for a DuckDB file that a reader or another writer holds
PATIENCE_SECONDS = 60.0
LOCKED = ("could not set lock", "conflicting lock", "database is locked")
# another session was in the way for a moment, which the database ended one of the two for
IN_THE_WAY = (
    *("deadlock detected", "deadlock found", "statement timeout", "lock timeout", "lock wait timeout"),
    *("tuple concurrently updated", "could not serialize access", "pg_namespace_nspname_index", "pg_type_typname_nsp"),
)
DEPENDENT = ("other objects depend on it",)
INTERRUPTED = ("query interrupted",)
MEMORY = ("out of memory",)
FULL = ("no space left", "disk full", "disk is full", "could not write", "quota exceeded")
# DuckDB has no credentials, so that its words are not those of REFUSED
NO_RIGHT = re.compile(r'cannot open file "(?P<file>[^"]+)": (?P<why>permission denied|read-only file system)', re.I)
NO_RIGHT_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
# what DuckDB 2 says when dlt closes a DuckLake, which hides whatever else went wrong
LAKE_CANNOT_CLOSE = ("relations no longer have fetchone",)
NO_CATALOGUE = ("failed to attach ducklake",)
NO_DUCKDB = ("not a valid duckdb database file",)
REFUSED = (
    *("authentication failed", "access denied", "permission denied", "no pg_hba.conf entry"),
    *("fatal:  database", "fatal:  role", "unable to open database file"),
)
UNREACHABLE = (
    *("connection refused", "could not translate host name", "could not connect", "can't connect", "no route to host"),
    *("connection timed out", "timeout expired", "server closed the connection", "lost connection"),
    *("network is unreachable", "connection reset", "ssl syscall error", "eof detected", "server has gone away"),
    *("ssl connection has been closed",),
    *("terminating connection", "the database system is", "too many clients", "remaining connection slots"),
)

KEPT = "What a sync has read is kept, and is loaded by the next sync"
TOLD: tuple[tuple[tuple[str, ...], type[PrefectRunsError], str], ...] = (
    (
        LOCKED,
        WarehouseBusy,
        f"the destination is held by another program ({{}}). {KEPT}; close the other program, or give readers a copy "
        "of the file.",
    ),
    (
        IN_THE_WAY,
        WarehouseBusy,
        f"the destination was busy with another session ({{}}). {KEPT}; try again.",
    ),
    (
        DEPENDENT,
        ConfigurationError,
        "a view of somebody else is built on what is made anew here, and nothing was changed ({}). Drop it, try again, "
        "and make it anew afterwards.",
    ),
    (
        FULL,
        WarehouseBusy,
        "the disk or the destination is full ({}). Make room and sync again: nothing that was loaded is lost.",
    ),
    (
        MEMORY,
        WarehouseBusy,
        f"the destination has not enough memory ({{}}). {KEPT}; give it more, or load fewer rows at once "
        "(`sources.prefect_runs.settings.chunk_rows`).",
    ),
    (
        LAKE_CANNOT_CLOSE,
        ConfigurationError,
        "the installed dlt cannot use a DuckLake with DuckDB 2: pip install 'duckdb<2', or a newer dlt.",
    ),
    (
        NO_DUCKDB,
        ConfigurationError,
        "the file is no DuckDB database, and was left as it is ({}). Name another file.",
    ),
    (
        REFUSED,
        ConfigurationError,
        f"the destination refuses what it is asked with these credentials ({{}}). Set others in .dlt/secrets.toml. "
        f"{KEPT}.",
    ),
    (UNREACHABLE, WarehouseBusy, f"the destination cannot be reached ({{}}). {KEPT}."),
    (
        NO_CATALOGUE,
        ConfigurationError,
        "the catalogue of the DuckLake cannot be opened ({}). Correct `catalog` in the credentials of the destination; "
        "a password with blanks dlt cannot hand on.",
    ),
)
"""What an error says in words, what it is then, and how it is told."""


def patiently(action: Callable[[], T]) -> T:
    """What `action` gives, tried again while the destination is locked.

    Raises:
        WarehouseBusy: it stayed locked for `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except Exception as error:
            if not _says(error, LOCKED) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def out_of_memory(error: BaseException) -> bool:
    """Whether DuckDB could not do with the memory that it may take."""
    return _says(error, MEMORY)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raises the `PrefectRunsError` behind whatever was raised inside, where there is one.

    What was raised is then no part of the traceback, for drivers put credentials into errors.
    """
    try:
        yield
    except PrefectRunsError:
        raise
    except Exception as error:
        ours = next((cause for cause in _causes(error) if isinstance(cause, PrefectRunsError)), None)
        if ours is not None:
            raise ours from None
        if any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)) or _says(error, INTERRUPTED):
            # dlt wraps an interrupt (Ctrl-C, SIGTERM) as if a step had failed, and DuckDB makes an error of it
            raise KeyboardInterrupt from None
        unwritable = next(filter(None, map(_unwritable, _causes(error))), None)
        if unwritable is not None:
            raise unwritable from None
        for words, kind, told in TOLD:
            if _says(error, words):
                raise kind(told.format(_innermost(error))) from None
        missing = next((cause for cause in _causes(error) if isinstance(cause, MissingDependencyException)), None)
        if missing is not None:
            packages = " ".join(f"'{name}'" for name in missing.dependencies)
            raise ConfigurationError(
                f"{missing.caller} needs packages that are not installed ({_innermost(error)}): pip install {packages}"
            ) from None
        unknown = next((cause for cause in _causes(error) if isinstance(cause, UnknownDestinationModule)), None)
        if unknown is not None:
            raise ConfigurationError(
                f"there is no destination {unknown.ref}: name one of dlt's, such as postgres, or one that is "
                f"configured with a destination_type. dlt says:\n{redacted(unknown).strip()}"
            ) from None
        unread = next((cause for cause in _causes(error) if isinstance(cause, TomlProviderReadException)), None)
        if unread is not None:
            files = [path for path in unread.full_paths if os.path.exists(path)] or unread.full_paths
            # dlt's first line lists where it looked
            _, _, found = str(unread).partition("\n")
            raise ConfigurationError(f"{' or '.join(files)} is no TOML, correct it: {found.strip()}") from None
        in_sight = next((cause for cause in _causes(error) if isinstance(cause, ValueNotSecretException)), None)
        if in_sight is not None:
            raise ConfigurationError(
                f"{in_sight.key} in {in_sight.provider_name} may hold secrets: put it into .dlt/secrets.toml"
            ) from None
        configuration = next((cause for cause in _causes(error) if isinstance(cause, ConfigurationException)), None)
        if configuration is not None:
            raise ConfigurationError(redacted(configuration)) from None
        if any(redacted(cause) != str(cause) for cause in _causes(error)):
            raise RuntimeError(f"{type(error).__name__}: {redacted(error)}") from None
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _unwritable(cause: BaseException) -> ConfigurationError | None:
    """What is to be said of a file or folder that could not be written for want of a right."""
    if isinstance(cause, OSError) and cause.errno in NO_RIGHT_ERRORS and cause.filename:
        return not_writable(cause.filename, str(cause.strerror))
    match = NO_RIGHT.search(str(cause))
    return not_writable(match["file"], match["why"]) if match else None


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return any(word in str(cause).lower() for cause in _causes(error) for word in words)


def _innermost(error: BaseException) -> str:
    *_, last = (text for cause in _causes(error) if (text := " ".join(str(cause).split())))
    return redacted(last)[:300]
