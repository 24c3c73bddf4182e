"""`prefect-runs completion`: what a shell completes the command with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from .arguments import parser

# how an option shows what it takes → what a shell completes it with
PATHS = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}


def completion(shell: str) -> str:
    """The script that `shell` is to run: bash, zsh or fish."""
    made = parser()
    for action in _actions(made):
        if action.metavar in PATHS:
            action.complete = PATHS[str(action.metavar)]  # type: ignore[attr-defined]  # where shtab looks for it
    return str(shtab.complete(made, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The options of a parser and of all its commands, which argparse has no public way to list."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
