"""`prefect-runs` as ever, under Python's profiler: whose code took the time of its main thread.

    python benchmarks/profiled.py RESULT sync …

Writes seconds by package as JSON: `prefect_runs` for the connector, `import` for the loading of modules, `waiting` for
the server and its own threads.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import re
import sys
from collections import Counter
from pathlib import Path

OURS = tuple(str(Path(__file__).resolve().parents[1] / folder) for folder in ("sources", "pipelines"))
INSTALLED = re.compile(r"[/\\]site-packages[/\\](\w+)")
WAITING = re.compile(r"lock' objects|'recv|'connect|select|time.sleep")

# a function as the profiler names it: file, line, name
Function = tuple[str, int, str]


def whose(function: Function) -> str:
    """The package that a function belongs to."""
    file, _, name = function
    if "importlib" in file or name == "<module>":
        return "import"
    if file.startswith(OURS):
        return "prefect_runs"
    installed = INSTALLED.search(file)
    return installed[1] if installed else "python"


def by_package(profile: cProfile.Profile) -> Counter[str]:
    """Package → seconds. What is built into Python counts for who called it."""
    found: Counter[str] = Counter()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for function, (_, _, own, _, callers) in stats.items():
        if WAITING.search(function[2]):
            found["waiting"] += own
        elif function[0] != "~" or not callers:
            found[whose(function)] += own
        else:
            for caller, (_, _, own_there, _) in callers.items():
                found[whose(caller)] += own_there
    return found


def profiled(result: Path, arguments: list[str]) -> int:
    """Run the command, imports included; its exit code."""
    profile = cProfile.Profile()
    profile.enable()
    from prefect_runs_pipelines.cli import main

    code = int(main(arguments))
    profile.disable()
    seconds = {package: round(own, 3) for package, own in by_package(profile).most_common()}
    result.write_text(json.dumps(seconds))
    return code


if __name__ == "__main__":
    sys.exit(profiled(Path(sys.argv[1]), sys.argv[2:]))
