"""The models in ClickHouse's SQL give there what they give in DuckDB, on a history made by hand.

python benchmarks/clickhouse.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlglot import exp

from prefect_runs.tables import ALL_TABLES, TABLES
from prefect_runs_pipelines.local.environments import environment_python
from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.models.catalogue import DLT_CHILD_COLUMNS, DLT_COLUMNS
from prefect_runs_pipelines.models.dialects import said_in

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import handmade  # noqa: E402 - the tests' own history

READER = HERE / "clickhouse_reader.py"
PINS = HERE / "environments" / "clickhouse"
TYPES = {
    "text": "String",
    "timestamp": "DateTime64(6, 'UTC')",
    "double": "Float64",
    "bigint": "Int64",
    "bool": "Bool",
    # as dlt has it there
    "json": "String",
}
# what depends on when it is asked, for the history has runs that run still
OF_NOW = {"copied_until", "as_of", "seconds_since_success", "run_seconds", "run_hours", "start_delay_seconds"}

Row = dict[str, Any]


def statements() -> Iterator[str]:
    """What makes the tables, their rows and the views."""
    for table in ALL_TABLES.values():
        types = {column.name: TYPES[column.type] for column in table.columns}
        types |= dict.fromkeys(DLT_COLUMNS if table.name in TABLES else DLT_CHILD_COLUMNS, "String")
        columns = ", ".join(f"`{name}` Nullable({type_})" for name, type_ in types.items())
        yield f"CREATE TABLE {table.name} ({columns}) ENGINE = Memory"
    for name, row in handmade.rows():
        types = {column.name: column.type for column in ALL_TABLES[name].columns}
        values = ", ".join(_literal(value, types.get(column)) for column, value in row.items())
        yield f"INSERT INTO {name} ({', '.join(row)}) VALUES ({values})"
    for model in models():
        query = said_in(model.placed(exp.to_table), "clickhouse").sql("clickhouse")
        yield f"CREATE VIEW {model.name} AS {query}"


def _literal(value: Any, type_: str | None) -> str:
    if value is None or isinstance(value, bool | int | float):
        return "NULL" if value is None else json.dumps(value)
    if type_ == "timestamp":
        value = datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    text = value if isinstance(value, str) else json.dumps(value)
    return exp.Literal.string(text).sql("clickhouse")


def in_duckdb() -> dict[str, list[Row]]:
    """Model → its rows."""
    found: dict[str, list[Row]] = {}
    with handmade.in_memory() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for model in models():
            rows = connection.execute(f"SELECT * FROM {model.name}")
            names = [column[0] for column in rows.description or ()]
            found[model.name] = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    return found


def in_clickhouse() -> dict[str, dict[str, Any]]:
    """Model → `types` and `rows`, or why it was `refused`."""
    lines = [{"do": sql} for sql in statements()] + [{"ask": f"SELECT * FROM {model.name}"} for model in models()]
    python = environment_python("clickhouse", str(PINS), "chdb-core")
    said = "\n".join(map(json.dumps, lines))
    ended = subprocess.run([python, READER], input=said, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    answers = map(json.loads, ended.stdout.splitlines())
    return {model.name: answer for model, answer in zip(models(), answers, strict=True)}


def plain(value: Any, type_: str = "") -> Any:
    """A value that compares whichever of both it is from: times to the second, numbers to three places.

    ClickHouse gives 0 and 1 for what is true or not.
    """
    if value is None:
        return value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if "Date" in type_:
        return str(value)[:19]
    if isinstance(value, int | float) or "Int" in type_ or "Float" in type_:
        return round(float(value), 3)
    return str(value)


def comparable(rows: list[Row], types: dict[str, str]) -> list[str]:
    """Rows in an order, as text."""
    told = (
        {name: plain(value, types.get(name, "")) for name, value in sorted(row.items()) if name not in OF_NOW}
        for row in rows
    )
    return sorted(json.dumps(row, sort_keys=True) for row in told)


def main() -> int:
    """Compare each model, and say what differs."""
    differing = 0
    theirs = in_clickhouse()
    for name, rows in in_duckdb().items():
        answer = theirs[name]
        if "refused" in answer:
            print(f"{name}: refused: {answer['refused'][:500]}")
        elif (mine := comparable(rows, {})) != (other := comparable(answer["rows"], answer["types"])):
            print(f"{name}: {len(mine)} rows and {len(other)} there, {len(set(mine) ^ set(other))} that differ")
            print(*sorted(set(mine) ^ set(other))[:4], sep="\n")
        else:
            print(f"{name}: the same {len(rows)} rows")
            continue
        differing += 1
    print(f"{differing} of {len(theirs)} models differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
