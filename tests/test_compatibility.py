"""The compatibility table: what a failure and a missing Python look like in it, and that the page has every line."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import compatibility
import pytest
from pages import table_in
from prefect_api import PrefectApi

THIS = ".".join(platform.python_version_tuple()[:2])
TARGET = compatibility.Target(THIS, "highest")


def test_python_of_this_process_is_found_and_one_that_is_nowhere_is_not() -> None:
    assert compatibility.interpreter(THIS) == Path(sys.executable)
    assert compatibility.interpreter("3.1") is None


def test_python_that_is_not_there_is_named_and_fails_the_run() -> None:
    api = PrefectApi("http://127.0.0.1:1/api")
    result = compatibility.run(compatibility.Target("3.1", "highest"), Path("no.whl"), api)
    assert result.failure == "not run: there is no Python 3.1 on the machine"
    assert "| 3.1 | newest |  |  |  |  | not run: " in compatibility.table([result])


def test_command_that_fails_is_named_with_what_it_said_last(tmp_path: Path) -> None:
    with pytest.raises(compatibility.Failed, match="bash -c ended with 3: it broke"):
        compatibility.ran(["bash", "-c", "echo first >&2; echo it broke >&2; exit 3"], cwd=tmp_path)


def test_page_has_a_line_for_every_python_and_choice_of_dependencies() -> None:
    shown = [(".".join(python.split(".")[:2]), how) for python, how, *_ in table_in(compatibility.PLACE)]
    every = [(target.python, compatibility.HOW[target.how]) for target in compatibility.targets(None)]
    assert shown in ([], every)
