"""What the models say in words that not every warehouse has, in the words of those that have others.

sqlglot writes all the rest. By the manuals of BigQuery, Databricks, Snowflake, Redshift, Trino and ClickHouse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlglot
from sqlglot import exp

# columns of JSON that models read as text
JSON_COLUMNS = ("resources", "created_by")

SECONDS, PERCENTILE, TEXTS, JSON_TEXT, IN_UTC = "seconds", "percentile", "texts", "json text", "in utc"

# {0} is what it is said of, {1} the part below a percentile, {2} the same in percent
WORDS: Mapping[str, Mapping[str, str]] = {
    "bigquery": {
        SECONDS: "(UNIX_MICROS({0}) / 1000000.0)",
        # approximate, for exact ones are no aggregates there
        PERCENTILE: "APPROX_QUANTILES({0}, 100)[SAFE_OFFSET({2})]",
        JSON_TEXT: "TO_JSON_STRING({0})",
    },
    "databricks": {
        SECONDS: "(UNIX_MICROS({0}) / 1000000.0)",
        PERCENTILE: "PERCENTILE({0}, {1})",
        # else days would be cut in the session's time zone
        IN_UTC: "CONVERT_TIMEZONE('UTC', {0})",
    },
    "snowflake": {SECONDS: "(DATE_PART(EPOCH_MICROSECOND, {0}) / 1000000.0)"},
    "redshift": {
        TEXTS: "LISTAGG({0}, ',') WITHIN GROUP (ORDER BY {0})",
        JSON_TEXT: "JSON_SERIALIZE({0})",
    },
    "trino": {
        SECONDS: "TO_UNIXTIME({0})",
        PERCENTILE: "APPROX_PERCENTILE({0}, {1})",
    },
    "clickhouse": {
        SECONDS: "toFloat64({0})",
        PERCENTILE: "quantileExactInclusive({1})({0})",
        TEXTS: "arrayStringConcat(arraySort(groupArray({0})), ',')",
    },
}

# what a join does not find is a zero or an empty text in ClickHouse unless this is set, and a name is first of all what
# is selected under it. Around the whole, for set in a union it is for the last part alone
AS_ELSEWHERE = "SELECT * FROM ({0}) AS model SETTINGS join_use_nulls = 1, prefer_column_name_to_alias = 1"


def said_in(query: exp.Expr, dialect: str) -> exp.Query:
    """`query`, which was written in DuckDB's SQL, in words that sqlglot can write in `dialect`."""
    words = WORDS.get(dialect, {})

    def said(node: exp.Expr) -> exp.Expr:
        for what, (told, of) in SAID.items():
            if what in words and told(node):
                thing = of(node).transform(said)
                part = str(node.expression) if what == PERCENTILE else "0"
                text = words[what].format(thing.sql(dialect), part, round(100 * float(part)))
                return sqlglot.parse_one(text, read=dialect)
        return node

    found = query.transform(said)
    if dialect == "clickhouse":
        _name_columns(found)
        found = sqlglot.parse_one(AS_ELSEWHERE.format(found.sql(dialect)), read=dialect)
    assert isinstance(found, exp.Query)
    return found


def _name_columns(query: exp.Expr) -> None:
    """Name what is selected of joined tables: ClickHouse would call it `run.id` where others say `id`."""
    for select in query.find_all(exp.Select):
        columns = select.expressions
        of_tables = [isinstance(column, exp.Column) and column.table and not column.is_star for column in columns]
        named = zip(columns, of_tables, strict=True)
        select.set("expressions", [exp.alias_(column, column.name) if of else column for column, of in named])


def _is_epoch(node: exp.Expr) -> bool:
    return isinstance(node, exp.Extract) and node.this.name == "EPOCH"


def _is_json_text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Column) and node.this.name in JSON_COLUMNS


# how each is recognised in DuckDB's SQL, and what it is said of
SAID: Mapping[str, tuple[Callable[[exp.Expr], bool], Callable[[exp.Expr], exp.Expr]]] = {
    SECONDS: (_is_epoch, lambda node: node.expression),
    PERCENTILE: (lambda node: isinstance(node, exp.PercentileCont), lambda node: node.this),
    TEXTS: (lambda node: isinstance(node, exp.GroupConcat), lambda node: node.this.this),
    JSON_TEXT: (_is_json_text, lambda node: node.this),
    IN_UTC: (lambda node: isinstance(node, exp.AtTimeZone), lambda node: node.this),
}
