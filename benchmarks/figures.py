"""Figures of several runs, their medians, and the page in `docs/` that shows them."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HEADERS = ("what", "by", "rows", "requests", "MB", "seconds", "peak MB", "rows/s")
FLOOR, OURS = "floor", "prefect-runs"
REST_API, REST_API_TUNED, LOOP = "dlt rest_api", "dlt rest_api, tuned", "requests loop"


@dataclass(frozen=True)
class Figure:
    """One run: requests, bytes as the server sent them, seconds and peak memory of the whole process, rows loaded."""

    requests: int
    bytes: int
    seconds: float
    peak_mb: float
    rows: int

    @property
    def rows_a_second(self) -> float:
        """Rows loaded in a second of the whole process."""
        return self.rows / self.seconds


@dataclass
class Series:
    """Runs of the same thing. `part` names the part of the rows where it is not all of them."""

    what: str
    by: str
    part: str = ""
    figures: list[Figure] = field(default_factory=list)

    def median(self, name: str) -> float:
        """The median of one of the columns."""
        return float(statistics.median(getattr(figure, name) for figure in self.figures))

    def compared(self, other: Series, compare: Callable[[Figure, Figure], float]) -> float:
        """The median of what `compare` says of the two figures of each round: a machine may be slower in another."""
        return statistics.median(compare(own, theirs) for own, theirs in zip(self.figures, other.figures, strict=True))

    @property
    def cells(self) -> list[str]:
        """The medians as a line of the table."""
        rows, seconds, bytes_ = self.median("rows"), self.median("seconds"), self.median("bytes")
        return [
            self.what,
            f"{self.by}, {self.part}" if self.part else self.by,
            f"{rows:,.0f}" if rows else "",
            f"{self.median('requests'):,.0f}",
            f"{bytes_ / 1e6:,.1f}" if bytes_ else "",
            f"{seconds:,.1f}",
            f"{self.median('peak_mb'):,.0f}",
            f"{rows / seconds:,.0f}" if rows else "",
        ]


class Server:
    """The figures of one server, in the order in which they were begun. `title` says what the server holds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.series: list[Series] = []
        self.notes: list[str] = []

    def add(self, what: str, by: str, figure: Figure, part: str = "") -> None:
        """Take a figure, and print it at once: a benchmark that is cut off has measured something all the same."""
        series = self.of(what, by)
        if series is None:
            series = Series(what, by, part)
            self.series.append(series)
        series.figures.append(figure)
        cells = Series(what, by, part, [figure]).cells
        print("  ".join(f"{name} {cell}" if name not in ("what", "by") else cell for name, cell in self._said(cells)))
        self._flush()

    def note(self, text: str) -> None:
        """Take something that is no figure, and print it."""
        self.notes.append(text)
        print(text)
        self._flush()

    def of(self, what: str, by: str) -> Series | None:
        """The runs of one thing, if there are any."""
        return next((series for series in self.series if (series.what, series.by) == (what, by)), None)

    def table(self) -> str:
        """All medians as a Markdown table."""
        order = list(dict.fromkeys(series.what for series in self.series))
        sorted_ = sorted(self.series, key=lambda series: order.index(series.what))
        return _table(HEADERS, [series.cells for series in sorted_])

    def ratios(self) -> Iterator[list[str]]:
        """What is compared with what: seconds with the floor, rows a second with the rivals."""
        for ours in self.series:
            if ours.by != OURS:
                continue
            if floor := self.of(ours.what, FLOOR):
                times = ours.compared(floor, _times_as_long)
                yield [ours.what, FLOOR, f"{times:.2f} times its time"]
            for rival in (REST_API, REST_API_TUNED, LOOP):
                if theirs := self.of(ours.what, rival):
                    faster = ours.compared(theirs, lambda own, other: own.rows_a_second / other.rows_a_second)
                    yield [ours.what, rival, f"{faster:.1f} times its rows a second"]

    @staticmethod
    def _said(cells: Sequence[str]) -> Iterator[tuple[str, str]]:
        return ((name, cell) for name, cell in zip(HEADERS, cells, strict=True) if cell)

    @staticmethod
    def _flush() -> None:
        print(end="", flush=True)


def machine() -> str:
    """The machine in words, as far as it matters for a figure."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in ("dlt", "duckdb", "requests"))
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GB of memory, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def page(servers: Sequence[Server], intro: str, beside: Server | None = None) -> str:
    """The page: what was measured how, on what, and the tables.

    Args:
        beside: figures of the first server in the same rounds as those of the second.
    """
    parts = ["# Benchmarks", intro, f"Machine: {machine()}."]
    for server in servers:
        parts += [f"## {server.title}", server.table()]
        ratios = list(server.ratios())
        if ratios:
            parts.append(_table(("what", "compared with", "prefect-runs takes"), ratios))
        if server.notes:
            parts.append("\n".join(f"- {note}" for note in server.notes))
    if beside:
        parts += ["## Growth", growth(servers[1], beside)]
    return "\n\n".join(parts) + "\n"


def growth(larger: Server, smaller: Server) -> str:
    """How much longer what was measured in turns took on the larger server: the median over the rounds."""
    lines = []
    for large in larger.series:
        small = smaller.of(large.what, large.by)
        if small:
            times = large.compared(small, _times_as_long)
            seconds = f"{small.median('seconds'):,.1f} → {large.median('seconds'):,.1f}"
            peaks = f"{small.median('peak_mb'):,.0f} → {large.median('peak_mb'):,.0f}"
            lines.append([large.what, large.by, seconds, f"{times:.2f} times as long", peaks])
    return _table(("what", "by", "seconds", "on the larger server", "peak MB"), lines)


def _times_as_long(own: Figure, other: Figure) -> float:
    return own.seconds / other.seconds


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [headers, ["---"] * len(headers), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
