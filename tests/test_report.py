"""The report in a real browser: drawn, quiet, readable at both widths, and closed to what stands in names."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt
import handmade
import pytest

from prefect_runs import ConfigurationError
from prefect_runs.resources import resource
from prefect_runs.tables import TABLES
from prefect_runs_pipelines.answers import Answers
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.demo import IMPATIENT, play
from prefect_runs_pipelines.local.server import local_server
from prefect_runs_pipelines.names import pipeline_name
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.report import write_report
from prefect_runs_pipelines.report.charts import seconds_text
from prefect_runs_pipelines.report.figures import find, health
from prefect_runs_pipelines.report.page import page
from prefect_runs_pipelines.sync import sync
from prefect_runs_pipelines.target import asked_only
from prefect_runs_pipelines.verify import VerifyOptions, verify

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# in a container there is no sandbox, and nobody is to be called
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
CHARTS = {"chart-days", "chart-duration", "chart-delay", "chart-lanes", "chart-inside-0", "chart-episodes"}
NASTY = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"><b>bold"


@dataclass
class Shown:
    """A page as a browser shows it at a width: what it said on its console, what it asked the network for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def charts(self) -> dict[str, int]:
        """Marks drawn, by chart."""
        return dict(
            self.page.evaluate(
                """() => Object.fromEntries([...document.querySelectorAll('.plotly-graph-div')].map(
                    chart => [chart.id, chart.querySelectorAll('.point path, .points path').length]))"""
            )
        )


class Browser:
    """A real Chromium."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def show(self, file: Path, width: int, dark: bool = False) -> Shown:
        """Open a file."""
        page = self._chromium.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        page.set_default_timeout(120_000)
        shown = Shown(page)
        page.on("console", lambda message: shown.said.append(message.text))
        page.on("pageerror", lambda error: shown.said.append(str(error)))
        page.on("request", lambda request: shown.asked.append(request.url))
        page.goto(file.as_uri(), wait_until="load")
        page.wait_for_function("document.querySelectorAll('.plotly-graph-div:not(.js-plotly-plot)').length == 0")
        return shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield Browser(chromium)
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on what sample flows did on a real server."""
    folder = tmp_path_factory.mktemp("report")
    with local_server(settings=IMPATIENT) as server:
        play(server, "run", io.StringIO())
        options = SyncOptions(
            api_url=server.url,
            workspace="sample",
            database=str(folder / "x.duckdb"),
            pipelines_dir=str(folder / "pipelines"),
        )
        sync(options)
        verify(options, VerifyOptions())
    write_report(options, folder / "report.html", 14, datetime.now(UTC))
    return folder / "report.html"


@pytest.fixture(scope="module")
def handmade_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on the history worked out by hand."""
    folder = tmp_path_factory.mktemp("handmade_report")
    options = handmade.load(folder, "duckdb")
    write_report(options, folder / "report.html", 14, datetime.now(UTC))
    return folder / "report.html"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
class TestInABrowser:
    def test_every_chart_is_drawn_and_nothing_is_fetched(
        self, browser: Browser, report: Path, width: int, dark: bool
    ) -> None:
        shown = browser.show(report, width, dark)
        assert shown.said == []
        # the page itself, and its empty icon
        assert [url for url in shown.asked if not url.startswith("data:")] == [report.as_uri()]
        charts = shown.charts()
        assert charts.keys() >= CHARTS
        assert all(charts.values()), charts
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        shown.page.screenshot(path=str(report.with_name(f"{width}-{dark}.png")), full_page=True)

    def test_text_can_be_told_from_the_paper(self, browser: Browser, report: Path, width: int, dark: bool) -> None:
        shown = browser.show(report, width, dark)
        paper, ink, in_charts = shown.page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
                      getComputedStyle(document.querySelector('.plotly-graph-div text')).fill]"""
        )
        assert contrast(paper, ink) > 7
        assert contrast(paper, in_charts) > 7


def contrast(one: str, other: str) -> float:
    """Contrast of two CSS colours, by the definition of WCAG."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


class TestContent:
    def test_figures_are_those_worked_out_by_hand(self, browser: Browser, handmade_report: Path) -> None:
        shown = browser.show(handmade_report, 1280)
        cards = shown.page.locator(".cards li").all_inner_texts()
        assert [card.splitlines()[0] for card in cards] == ["7", "33.3 %", "47.8 min", "1", "-", "never"]
        failures, deployments = shown.page.locator("table").all()
        # what is still broken comes first
        told = [row.locator("td").all_inner_texts()[0::3] for row in failures.locator("tbody tr").all()]
        assert told == [["etl", "-"], ["nightly etl", "47.8 min"]]
        row = deployments.locator("tbody tr").first.locator("td").all_inner_texts()
        assert row[:4] == ["nightly etl", "etl", "overdue", "0"]
        # the run itself, two that waited once and ran, and one of a cached result
        inside = shown.page.locator("#chart-inside-0 .yaxislayer-above text").all_text_contents()
        assert [label.strip("\u200b") for label in inside] == ["cached", "stands-for", "retried", "good"]

    def test_names_are_text(self, browser: Browser, tmp_path: Path) -> None:
        options = handmade.load(tmp_path, "duckdb", flow_name=NASTY)
        write_report(options, tmp_path / "report.html", 14, datetime.now(UTC))
        shown = browser.show(tmp_path / "report.html", 1280)
        assert shown.said == []
        assert shown.page.title() == "Prefect runs of handmade"
        assert shown.page.locator("img").count() == 0
        assert NASTY in shown.page.locator("table").last.inner_text()

    def test_of_a_warehouse_without_a_single_ended_run(self, browser: Browser, tmp_path: Path) -> None:
        options = handmade.load(tmp_path, "duckdb", only=("missed",))
        write_report(options, tmp_path / "report.html", 14, datetime.now(UTC))
        shown = browser.show(tmp_path / "report.html", 390)
        assert shown.said == []
        assert "No flow run started in these days." in shown.page.inner_text("main")


@pytest.mark.parametrize(
    ("passes", "whole"),
    [
        ([("flow_runs", True, False), ("task_runs", False, False)], 0),
        (
            [
                ("flow_runs", True, False),
                ("task_runs", False, False),
                ("flow_runs", True, True),
                ("task_runs", True, True),
            ],
            1,
        ),
    ],
    ids=["one table differs", "repaired"],
)
def test_last_comparison_is_that_of_all_tables(
    tmp_path: Path, passes: list[tuple[str, bool, bool]], whole: int
) -> None:
    options = handmade.load(tmp_path, "duckdb")
    before = [("flow_runs", whole == 0, False, handmade.at("10:00:00"))]
    rows = [
        {
            "workspace": handmade.WORKSPACE,
            "resource": table,
            "whole": is_whole,
            "after_repair": after,
            "verified_at": time,
        }
        for table, is_whole, after, time in [*before, *((*table, handmade.at("11:00:00")) for table in passes)]
    ]
    pipeline = dlt.attach(pipeline_name(options, handmade.WORKSPACE), pipelines_dir=options.pipelines_dir)
    pipeline.run(resource(rows, TABLES["verifications"]), destination=options.dlt_destination())
    with asked_only(options) as target:
        found = find(Answers(target), handmade.WORKSPACE, datetime.now(UTC), 14)
    last = found.last_verify
    assert last is not None
    assert (last["verified_at"], last["whole"]) == (handmade.at("11:00:00"), whole)
    assert ("last compared with the server, and found to differ" in page(found)) == (whole == 0)


class TestCommand:
    def test_writes_the_page_in_place_of_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = handmade.load(tmp_path, "duckdb")
        page = tmp_path / "page.html"
        page.write_text("the old one")
        monkeypatch.chdir(tmp_path)
        command = ["report", "--database", options.where, "--workspace", handmade.WORKSPACE, "--file", str(page)]
        assert main([*command, "--days", "30"]) == 0
        assert "7 flow runs of handmade in 30 days" in capsys.readouterr().out
        assert page.read_text().startswith("<!doctype html>")
        assert [path.name for path in tmp_path.glob("*.part")] == []

    @pytest.mark.parametrize("days", ["0", "-3", "1000000"])
    def test_refuses_days_that_are_none(self, days: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", "--days", days]) == 2
        assert "1 to 3650 can be shown" in capsys.readouterr().err

    def test_refuses_a_folder_that_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", "--file", str(tmp_path / "no" / "page.html")]) == 2
        assert f"there is no folder {tmp_path / 'no'} for page.html: make it" in capsys.readouterr().err

    def test_refuses_a_folder_in_the_place_of_the_page(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["report", "--file", str(tmp_path)]) == 2
        assert f"{tmp_path} is a folder: name a file in it" in capsys.readouterr().err

    def test_needs_a_first_load(self, tmp_path: Path) -> None:
        options = SyncOptions(
            api_url="http://127.0.0.1:9",
            workspace="x",
            database=str(tmp_path / "x.duckdb"),
            pipelines_dir=str(tmp_path),
        )
        with pytest.raises(ConfigurationError, match="prefect-runs sync first"):
            write_report(options, tmp_path / "page.html", 14, datetime.now(UTC))

    def test_says_what_is_to_be_installed(self, tmp_path: Path) -> None:
        code = (
            "import sys; sys.modules['plotly'] = None\n"
            "from prefect_runs_pipelines.cli import main\n"
            "sys.exit(main(['report']))"
        )
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert "pip install 'dlt-source-prefect[report]'" in ended.stderr


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (59, "59 s"),
        (90, "1.5 min"),
        (7200, "2 h"),
        (129600, "1.5 d"),
        (None, "-"),
    ],
)
def test_lengths_of_time_are_said_as_a_person_does(seconds: float | None, said: str) -> None:
    assert seconds_text(seconds) == said


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "healthy"),
        ({"failures_in_a_row": 2, "paused": True}, "broken"),
        ({"paused": True, "is_overdue": None}, "paused"),
        ({"is_overdue": True}, "overdue"),
        ({"runs_7d": 0, "success_percent_7d": None}, "idle"),
        ({"success_percent_7d": 94.9}, "flaky"),
    ],
)
def test_health_is_one_word(fields: dict[str, Any], word: str) -> None:
    good = {"failures_in_a_row": 0, "paused": False, "is_overdue": False, "runs_7d": 20, "success_percent_7d": 100}
    assert health({**good, **fields}) == word
