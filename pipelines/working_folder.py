"""dlt's working folder of a pipeline, as a kill may leave it: dlt takes what is there for whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def put_aside(folder: Path) -> Iterator[None]:
    """While dlt makes `folder` anew: the old one goes at once, for a kill would leave half of its files."""
    aside = folder.with_name(f"{folder.name}.dropped")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    yield
    shutil.rmtree(aside, ignore_errors=True)


def remove_half_made(folder: Path) -> None:
    """Remove the part with what was normalized where its folders were not all made: nothing is in it yet."""
    load = folder / "load"
    if load.is_dir() and not (load / "normalized").is_dir():
        shutil.rmtree(load)
