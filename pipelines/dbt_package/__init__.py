"""A dbt package made from the models, in the SQL of one warehouse: sources, models, their docs and their tests."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from sqlglot import exp

from prefect_runs import ConfigurationError
from prefect_runs.tables import ALL_TABLES, Table

from ..models import LAYERS, WRITTEN_IN, Model, check_dialect, models
from ..models.catalogue import ModelColumn, empty_table, model_columns
from ..models.dialects import said_in

HERE = Path(__file__).parent
COPIED = ("dbt_project.yml", "README.md", *(f"{name}/*.sql" for name in ("macros", "tests")))
# folders whose files are all this package's
OWN = ("models", "macros", "tests")
# stands in SQL for what Jinja puts there
PLACE = "jinja__"
PLACED = re.compile(rf"{PLACE}(\w+)")
GENERATED = "made by `prefect-runs dbt --write` from the models of dlt-source-prefect (pipelines/models): change those"
LOADED_AT = "finished_at"
# those of `models` that do not say so themselves
FIXED = ("exposures.yml", "unit_tests.yml")

Yaml = dict[str, Any]


def write_package(folder: Path, dialect: str = WRITTEN_IN) -> None:
    """Write the package into `folder`; what an earlier one left there is replaced.

    Args:
        dialect: whose SQL, by sqlglot's name.

    Raises:
        ConfigurationError: sqlglot does not know the dialect, or the folder holds something else too.
    """
    check_dialect(dialect)
    if folder.exists() and not _may_be_replaced(folder):
        raise ConfigurationError(f"{folder} is not empty, and what it holds is not this package: name another folder")
    if foreign := _foreign(folder):
        raise ConfigurationError(
            f"{folder} holds files that are not this package's, which would be lost: {', '.join(map(str, foreign))}. "
            "Move them into a project of your own, which takes this folder as a package"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for path in _copied():
        text = path.read_text()
        (folder / path.relative_to(HERE)).write_text(f"-- {GENERATED}\n{text}" if path.suffix == ".sql" else text)
    all_models = models()
    for layer in LAYERS:
        (folder / "models" / layer).mkdir(parents=True)
    for model in all_models:
        (folder / "models" / model.layer / f"{model.name}.sql").write_text(_model_sql(model, dialect))
    columns, tests = model_columns(all_models), yaml.safe_load((HERE / "tests.yml").read_text())
    for layer in LAYERS:
        documented = [
            _model_docs(model, columns[model.name], tests.get(model.name, {}))
            for model in all_models
            if model.layer == layer
        ]
        _write_yaml(folder / "models" / layer / "schema.yml", {"version": 2, "models": documented})
    _write_yaml(folder / "models" / "sources.yml", {"version": 2, "sources": [_source()]})
    shutil.copyfile(HERE / "exposures.yml", folder / "models" / "exposures.yml")
    unit_tests = (HERE / "unit_tests.yml").read_text()
    for name in ("text", "timestamp"):
        unit_tests = unit_tests.replace(f"{{{name}}}", _type(name, dialect))
    (folder / "models" / "unit_tests.yml").write_text(unit_tests)
    (folder / "macros" / "prefect_empty.sql").write_text(_empty_macro(dialect))


def _may_be_replaced(folder: Path) -> bool:
    project = folder / "dbt_project.yml"
    if project.is_file():
        own: Yaml = yaml.safe_load((HERE / "dbt_project.yml").read_text())
        found = yaml.safe_load(project.read_text())
        return isinstance(found, dict) and found.get("name") == own["name"]
    return folder.is_dir() and not any(folder.iterdir())


def _copied() -> list[Path]:
    return [path for pattern in COPIED for path in sorted(HERE.glob(pattern))]


def _foreign(folder: Path) -> list[Path]:
    """The files in the package's folders that no version of it wrote."""
    fixed = {path.relative_to(HERE) for path in _copied()} | {Path("models", name) for name in FIXED}
    found = (path for name in OWN for path in sorted((folder / name).rglob("*")) if path.is_file())
    return [
        relative
        for path in found
        if (relative := path.relative_to(folder)) not in fixed
        and GENERATED not in path.read_text(errors="replace").partition("\n")[0]
    ]


def _model_sql(model: Model, dialect: str) -> str:
    placed = model.placed(lambda name: exp.to_table(PLACE + name))
    query = said_in(placed, dialect).sql(dialect, pretty=True)

    def jinja(match: re.Match[str]) -> str:
        name = match[1]
        return f"{{{{ prefect_table('{name}') }}}}" if name in ALL_TABLES else f"{{{{ ref('{name}') }}}}"

    return f"-- {GENERATED}\n{PLACED.sub(jinja, query)}\n"


def _model_docs(model: Model, columns: list[ModelColumn], tests: Yaml) -> Yaml:
    key, not_null = tests.get("key", []), tests.get("not_null", [])
    documented: Yaml = {"name": model.name, "description": model.description}
    if len(key) > 1:
        documented["data_tests"] = [{"unique_together": {"arguments": {"columns": key}}}]
    documented["columns"] = []
    for column in columns:
        own: list[Any] = ["unique"] if key == [column.name] else []
        own += ["not_null"] if column.name in (*key, *not_null) else []
        if values := tests.get("values", {}).get(column.name):
            own.append({"accepted_values": {"arguments": {"values": values}}})
        if to := tests.get("leads_to", {}).get(column.name):
            own.append({"relationships": {"arguments": {"to": f"ref('{to}')", "field": "id"}}})
        told = {"name": column.name, "description": column.description}
        documented["columns"].append(told | ({"data_tests": own} if own else {}))
    return documented


def _source() -> Yaml:
    return {
        "name": "prefect",
        "description": "What prefect-runs loads from a Prefect server.",
        "schema": "{{ var('source_dataset_name', 'prefect') }}",
        "tables": [_source_table(table) for table in ALL_TABLES.values()],
    }


def _source_table(table: Table) -> Yaml:
    documented: Yaml = {"name": table.name, "description": table.description}
    if LOADED_AT in (column.name for column in table.columns):
        documented["config"] = {
            "loaded_at_field": LOADED_AT,
            "freshness": {
                "warn_after": {"count": 1, "period": "day"},
                "error_after": {"count": 7, "period": "day"},
            },
        }
    documented["columns"] = [
        {"name": column.name, "description": column.description} | ({"data_tests": tests} if tests else {})
        for column in table.columns
        for tests in [
            ["unique", "not_null"] if table.name in ("flow_runs", "syncs") and (column.name,) == table.key else []
        ]
    ]
    return documented


def _empty_macro(dialect: str) -> str:
    branches = "".join(
        f"  {{%- {'el' if number else ''}if name == '{name}' -%}}\n    {empty_table(table).sql(dialect)}\n"
        for number, (name, table) in enumerate(ALL_TABLES.items())
    )
    return f"{{#- {GENERATED} -#}}\n{{% macro prefect_empty(name) %}}\n{branches}  {{%- endif -%}}\n{{% endmacro %}}\n"


def _type(name: str, dialect: str) -> str:
    written = {"text": "VARCHAR", "timestamp": "TIMESTAMPTZ"}[name]
    return exp.DataType.build(written, dialect=WRITTEN_IN).sql(dialect)


def _write_yaml(file: Path, content: Yaml) -> None:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=116)
    file.write_text(f"# {GENERATED}\n{text}")
