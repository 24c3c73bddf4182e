"""Texts of others without the credentials that they may hold: some drivers put a connection string into an error."""

from __future__ import annotations

import re

# up to the last @, for a password may have one too, and blanks and quotes, which drivers do not always escape. Behind
# http://host: there is mostly a port, and somebody's address later in the line
_PORT = r"\d{1,5}(?:[^\w@]|$)"
_USER_INFO = re.compile(
    r"(?<=://)(?:(?:(?<!http://)(?<!https://)|(?![^:\n]*:" + _PORT + r"))[^\s'\"/:@\[]*:[^\n]*|[^\s'\"]*)@"
)
_SECRET = re.compile(
    r"(?P<name>\w*(?:passw(?:or)?d|pwd|token|secret(?:_?(?:access_?)?key)?|(?:api|account|private)_?key))"
    r"(?P<sign>\s*=\s*|['\"]\s*[:=]\s*|\s+(?=['\"]))"
    r"(?:'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|[^\s;,&)}'\"]+)",
    re.IGNORECASE,
)


def redacted(text: object) -> str:
    """`text` with `***` in the place of what stands before a URL's host, and of what a password, key or token is."""
    return _SECRET.sub(r"\g<name>\g<sign>***", _USER_INFO.sub("***@", str(text)))
