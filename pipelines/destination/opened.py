"""A destination that is asked often: it stays open for a moment after each question, for opening takes longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

MOMENT_SECONDS = 0.1
# a DuckDB file that is held open keeps others out: one that is asked for longer is opened for each question
AT_MOST_SECONDS = 2.0
# for how long a lake stays open whose catalogue a server keeps: its readers and writers do not mind
LAKE_SECONDS = 5.0
SERVERS = ("postgres", "postgresql", "mysql")


class Opened:
    """Opens a destination for questions.

    Args:
        make: gives a client, which takes as long to make as to ask; None where there is nothing to be asked yet.
        lingers: whether it may stay open for a moment, and be closed by another thread then.
    """

    def __init__(self, make: Callable[[], SqlClientBase[Any] | None], lingers: bool) -> None:
        self._make = make
        self._lingers = lingers
        self._lock = threading.RLock()
        self._client: SqlClientBase[Any] | None = None
        self._closing: threading.Timer | None = None
        self._is_open = False
        self._until = time.monotonic() + AT_MOST_SECONDS

    @contextmanager
    def client(self) -> Iterator[SqlClientBase[Any] | None]:
        """The client, open for the length of the block."""
        with self._lock:
            self._client = self._client or self._make()
            if self._client is None:
                yield None
                return
            self._stay()
            if not self._is_open:
                self._client.open_connection()
                self._is_open = True
            try:
                yield self._client
            except BaseException:
                # the error that is on its way tells more
                with suppress(Exception):
                    self._close()
                raise
            if not self._lingers:
                self._close()
            elif not keeps_others_out(self._client):
                self._close_in(LAKE_SECONDS)
            elif time.monotonic() < self._until:
                self._close_in(MOMENT_SECONDS)
            else:
                self._close()

    def close(self) -> None:
        """Let others have it; the next question opens it again, and may keep it open for a moment."""
        with self._lock:
            self._close()
            self._until = time.monotonic() + AT_MOST_SECONDS

    def loaded(self) -> None:
        """Something was loaded, of which a client that once listed the files of a lake knows nothing."""
        if not self._lingers:
            self.close()
            self._client = None

    def _close_in(self, seconds: float) -> None:
        def close() -> None:
            with self._lock:
                # it may have been opened again while this waited for the lock
                if self._closing is closing:
                    self._close()

        self._closing = closing = threading.Timer(seconds, close)
        closing.daemon = True
        closing.start()

    def _stay(self) -> None:
        if self._closing:
            self._closing.cancel()
            self._closing = None

    def _close(self) -> None:
        self._stay()
        if self._is_open and self._client:
            self._is_open = False
            self._client.close_connection()


def keeps_others_out(client: SqlClientBase[Any]) -> bool:
    """Whether what the client has open is nobody else's for so long: a file, unlike a lake's catalogue on a server."""
    catalog = getattr(client.credentials, "catalog", None)
    return getattr(catalog, "drivername", None) not in SERVERS
