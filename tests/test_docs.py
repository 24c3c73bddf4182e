"""The pages in docs/: those that are generated are the generated ones, and no link leads nowhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.models.questions import QUESTIONS

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS))

import generate  # noqa: E402


def test_pages_of_tables_and_models_are_the_generated_ones() -> None:
    folders = ("tables", "models")
    committed = {f"{folder}/{path.name}": path.read_text() for folder in folders for path in (DOCS / folder).iterdir()}
    assert committed == generate.pages(), "run make docs"


def test_questions_page_asks_the_ten_questions() -> None:
    page = (DOCS / generate.QUESTIONS_PAGE).read_text()
    assert re.findall(r"^## \d+\. (.*)$", page, re.MULTILINE) == [question.question for question in QUESTIONS]
    assert re.findall(r"```sql\n(.*?)\n```", page, re.DOTALL) == [question.sql for question in QUESTIONS]
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


def test_every_model_has_its_page_and_every_column_its_meaning() -> None:
    for model in models():
        rows = re.findall(
            r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", (DOCS / f"models/{model.name}.md").read_text(), re.MULTILINE
        )
        assert rows
        assert [name for name, meaning in rows if not meaning.strip()] == [], model.name
