"""Texts of others without the credentials that they may hold: some drivers put a connection string into an error."""

from __future__ import annotations

import re

# up to the last @, for a password may have one too
_USER_INFO = re.compile(r"(?<=://)[^\s'\"]*@")
_PASSWORD = re.compile(r"(?P<name>\w*passw(?:or)?d|pwd)=(?:'[^']*'|[^\s;,&)'\"]+)", re.IGNORECASE)


def redacted(text: object) -> str:
    """`text` with `***` in the place of what stands before a URL's host and behind `password=`."""
    return _PASSWORD.sub(r"\g<name>=***", _USER_INFO.sub("***@", str(text)))
