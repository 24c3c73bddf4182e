"""What can go wrong, grouped by what the caller can do about it.

PrefectRunsError
├── ConfigurationError    fix the configuration; trying again changes nothing
│   ├── AccessRefused     the server answered 401 or 403
│   └── NotFound          the server answered 404: the URL is wrong, or the server lacks the route
├── TemporaryError        try again later; nothing was lost
│   ├── ServerUnavailable the server did not answer, or answered 408, 429 or 5xx to the last try
│   │   └── ServerFailed  it answered 500: it is broken, or cannot write this one answer
│   └── WarehouseBusy     the destination is held by someone else, full, or not to be reached
└── UnexpectedReply       the server answered something this version does not understand: report it
"""

from __future__ import annotations


class PrefectRunsError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(PrefectRunsError):
    """Something the user configured is wrong; the message says what to set instead."""


class AccessRefused(ConfigurationError):
    """The server refused the credentials (401 or 403)."""


class NotFound(ConfigurationError):
    """The server has nothing at this path (404)."""


class TemporaryError(PrefectRunsError):
    """A later sync can succeed unchanged; the watermark did not move."""


class ServerUnavailable(TemporaryError):
    """The server could not be reached, was cut off, or stayed busy through every retry."""


class ServerFailed(ServerUnavailable):
    """The server answered 500 to the last try: it is broken, or it cannot write what was asked for."""


class WarehouseBusy(TemporaryError):
    """The destination is locked, full or not to be reached; what was extracted is kept and loaded by the next sync."""


class UnexpectedReply(PrefectRunsError):
    """The reply is not what a Prefect 3 server answers: cut JSON, a field of another type."""

    def __str__(self) -> str:
        return f"{super().__str__().rstrip('.')}. If it stays so, report it with the version of the server."


def described(value: object) -> str:
    """What a value of a reply is, without what it says: that may be what nobody is to see."""
    size = f" of {len(value)}" if isinstance(value, str | list | dict) else ""
    return f"a {type(value).__name__}{size}"
