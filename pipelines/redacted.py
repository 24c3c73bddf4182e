"""Texts of others without the credentials that they may hold: some drivers put a connection string into an error."""

from __future__ import annotations

import re
from urllib.parse import unquote

# a password of so few signs is a part of other words
SHORT = 2
# up to the last @, for a password may have one too, and blanks and quotes, which drivers do not always escape. Behind
# http://host: there is mostly a port, and somebody's address later in the line
_PORT = r"\d{1,5}(?:[/?#,.;:)'\"\]]|$)"
_USER_INFO = re.compile(
    r"(?<=://)(?:(?:(?<!http://)(?<!https://)|(?![^:\n]*:" + _PORT + r"))[^\s'\"/:@\[]*:[^\n]*|[^\s'\"]*)@"
)
_SECRET = re.compile(
    r"(?<!\w)(?P<name>\w*(?:passw(?:or)?d|pwd|token|secret(?:_?(?:access_?)?key)?|(?:api|account|private)_?key))"
    r"(?P<sign>\s*=\s*|['\"]\s*[:=]\s*|\s+(?=['\"]))"
    r"(?:'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|[^\s;,&)}'\"]+)",
    re.IGNORECASE,
)

# what PostgreSQL's client library quotes of a connection string that it cannot read, which may be all of a password
_UNREADABLE = re.compile(
    r"(?P<why>unexpected spaces found in|percent-encoded (?:token|value):|missing \"=\" after) \"[^\n]*\""
)


def redacted(text: object) -> str:
    """`text` with `***` in the place of what stands before a URL's host, and of what a password, key or token is.

    A URL's password is gone from all of the text: of one that it cannot take, PostgreSQL says what it found in it.
    """
    said = str(text)
    passwords = {found[0].rstrip("@").partition(":")[2] for found in _USER_INFO.finditer(said)}
    said = _UNREADABLE.sub(r'\g<why> "***"', _USER_INFO.sub("***@", said))
    for password in sorted({form for raw in passwords for form in (raw, unquote(raw))}, key=len, reverse=True):
        if len(password) > SHORT:
            said = said.replace(password, "***")
    return _SECRET.sub(r"\g<name>\g<sign>***", said)
