"""The files that a page of docs/ gives to be pasted, and the commands that it gives to be typed."""

from __future__ import annotations

import re
from pathlib import Path

from outcome import Place

DOCS = Path(__file__).parents[1] / "docs"


def files(page: str) -> dict[str, str]:
    """Name → text, of the fenced blocks whose first line is a comment with the name of a file."""
    blocks = re.findall(r"^```\w+\n(# ([\w.-]+)\n.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return {name: text for text, name in blocks}


def commands(page: str) -> list[str]:
    """What stands behind a `$` in the console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def with_examples(toml: str) -> str:
    """A block of configuration with the lines that are commented out, for they are examples, in force."""
    return re.sub(r"^# (?=\w+ = )", "", toml, flags=re.MULTILINE)


def table_in(place: Place) -> list[list[str]]:
    """The rows of the table that a command wrote; none in a clone in which it has not run yet."""
    page = place.page.read_text()
    # it fails where the markers are not
    assert place.written(page, "") != page
    return [line.strip("| ").split(" | ") for line in place.rows()]
