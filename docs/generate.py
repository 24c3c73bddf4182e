"""Writes the pages of this folder that are made from the code: a page for each table and model, a diagram, questions.

    python docs/generate.py [--questions]

`--questions` asks the ten questions of a real server's sample flows anew; the rest needs no server.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from prefect_runs import PrefectCredentials, ReadSettings, RunFilters, prefect_runs
from prefect_runs.tables import EXTRAS, TABLES, Table
from prefect_runs_pipelines.command.screen import cell
from prefect_runs_pipelines.demo import IMPATIENT, play
from prefect_runs_pipelines.local.server import local_server
from prefect_runs_pipelines.models import Model, models
from prefect_runs_pipelines.models.catalogue import TYPES, ModelColumn, model_columns
from prefect_runs_pipelines.models.questions import QUESTIONS
from prefect_runs_pipelines.options import SyncOptions
from prefect_runs_pipelines.sync import sync
from prefect_runs_pipelines.views import create_views

DOCS = Path(__file__).parent
QUESTIONS_PAGE = "questions.md"
GENERATED = "<!-- made by docs/generate.py -->"


def pages() -> dict[str, str]:
    """The pages of tables and models: path in this folder → text."""
    all_models = models()
    columns = model_columns(all_models)
    found = {f"tables/{table.name}.md": _table_page(table, all_models) for table in TABLES.values()}
    found |= {f"models/{model.name}.md": _model_page(model, columns[model.name], all_models) for model in all_models}
    found["tables/README.md"] = _index_of_tables()
    found["models/README.md"] = _index_of_models(all_models)
    return found


def write(found: dict[str, str]) -> None:
    """Write pages; those of tables and models that are no more are removed."""
    for folder in {path.partition("/")[0] for path in found if "/" in path}:
        shutil.rmtree(DOCS / folder, ignore_errors=True)
    for path, text in found.items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text)


def _table_page(table: Table, all_models: Sequence[Model]) -> str:
    parts = [GENERATED, f"# {table.name}", table.description]
    if table.name in EXTRAS:
        parts.append(f"Loaded where it is asked for: `prefect-runs sync --with {table.name}` ([extras](../extras.md)).")
    if table.key:
        parts.append(f"Key: {_names(table.key)}.")
    if table.leads_to:
        links = (f"`{column}` → [{to}]({to}.md)" for column, to in table.leads_to.items())
        parts.append(f"Leads to: {', '.join(links)}.")
    used = [f"[{model.name}](../models/{model.name}.md)" for model in all_models if table.name in model.sources]
    if used:
        parts.append(f"Models made from it: {', '.join(used)}.")
    parts.append(_columns_of(table))
    for child in table.children.values():
        joined = f"`{child.name}._dlt_parent_id = {table.name}._dlt_id`"
        parts += [f"## {child.name}", f"{child.description} It is joined by {joined}.", _columns_of(child)]
    return _text(parts)


def _columns_of(table: Table) -> str:
    rows = [(f"`{column.name}`", TYPES[column.type].lower(), column.description) for column in table.columns]
    return _markdown(("column", "type", "meaning"), rows)


def _model_page(model: Model, columns: Sequence[ModelColumn], all_models: Sequence[Model]) -> str:
    own = {other.name for other in all_models}
    made = (
        f"[{name}]({name}.md)" if name in own else f"[{name}](../tables/{name.partition('__')[0]}.md)"
        for name in sorted(model.sources)
    )
    used = [f"[{other.name}]({other.name}.md)" for other in all_models if model.name in other.sources]
    rows = [(f"`{column.name}`", column.type, column.description) for column in columns]
    parts = [GENERATED, f"# {model.name}", model.description, f"Made from: {', '.join(made)}."]
    if used:
        parts.append(f"Models made from it: {', '.join(used)}.")
    source = f"[pipelines/models/{model.layer}/{model.name}.sql](../../pipelines/models/{model.layer}/{model.name}.sql)"
    parts += [_markdown(("column", "type", "meaning"), rows), f"SQL: {source}"]
    return _text(parts)


def _index_of_tables() -> str:
    source = prefect_runs(PrefectCredentials(), "docs", RunFilters(), ReadSettings())
    diagram = source.discover_schema().to_mermaid(hide_columns=True, include_dlt_tables=False).strip()
    rows = [(f"[{table.name}]({table.name}.md)", table.description) for table in TABLES.values()]
    return _text(
        [
            GENERATED,
            "# Tables",
            "What `prefect-runs sync` loads. Column names are the API's own; times have a time zone, durations are "
            "seconds. The same descriptions are in dlt's schema, in the dbt package and, after `prefect-runs models`, "
            "in the warehouse's comments.",
            _markdown(("table", "what"), rows),
            f"```mermaid\n{diagram}\n```",
        ]
    )


def _index_of_models(all_models: Sequence[Model]) -> str:
    rows = [(f"[{model.name}]({model.name}.md)", model.layer, model.description) for model in all_models]
    return _text(
        [
            GENERATED,
            "# Models",
            "Views of `prefect-runs models`, and models of the dbt package: the same SQL. Each comes after those that "
            "it is made from.",
            _markdown(("model", "layer", "one row"), rows),
        ]
    )


def questions_page() -> str:
    """The ten questions, with what a warehouse answers into which a real server's sample flows were synced."""
    with tempfile.TemporaryDirectory() as folder:
        with local_server(settings=IMPATIENT) as server:
            options = SyncOptions(
                api_url=server.url,
                workspace="sample",
                database=str(Path(folder, "x.duckdb")),
                pipelines_dir=str(Path(folder, "dlt")),
            )
            play(server, "run", io.StringIO())
            sync(options)
            play(server, "change", io.StringIO())
            # what is recorded late is in the next sync
            time.sleep(2)
            sync(options)
        create_views(options)
        parts = [
            GENERATED,
            "# Ten questions",
            "In DuckDB's SQL, on the views of `prefect-runs models` (in another warehouse's: "
            "`prefect-runs models --print --dialect NAME`). The answers are those of the sample flows of `prefect-runs "
            "demo`, which ran on a real server: half of them fail on purpose.",
        ]
        with duckdb.connect(options.where, read_only=True) as connection:
            for number, question in enumerate(QUESTIONS, 1):
                answer = connection.execute(question.sql)
                names = [column[0] for column in answer.description or ()]
                rows = [[_cell(value) for value in row] for row in answer.fetchall()]
                parts += [
                    f"## {number}. {question.question}",
                    f"```sql\n{question.sql}\n```",
                    _markdown(names, rows) if rows else "No row.",
                ]
        return _text(parts)


def _cell(value: Any) -> str:
    return cell(value).replace("|", "\\|")


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _text(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", action="store_true", help="ask the ten questions anew")
    found = pages()
    if parser.parse_args().questions:
        found[QUESTIONS_PAGE] = questions_page()
    write(found)


if __name__ == "__main__":
    main()
