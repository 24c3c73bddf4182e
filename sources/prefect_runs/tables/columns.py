"""A table and its columns: what dlt's schema, the docs and the dbt package are made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Type = Literal["text", "timestamp", "double", "bigint", "bool", "json"]


@dataclass(frozen=True)
class Column:
    """One column: its name, dlt's data type, what it means."""

    name: str
    type: Type
    description: str
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table that a resource loads, with the child tables that dlt makes of its nested columns."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    children: dict[str, Table] = field(default_factory=dict)
    removed_where: str | None = None
    """Column that is true in rows that take the row of their key away."""
    leads_to: dict[str, str] = field(default_factory=dict)
    """Column with the id of a row of another table → that table."""
    relied_on: tuple[str, ...] = ()
    """Columns that syncs and verify read back, besides the key and `updated`."""

    def why_needed(self, column: Column) -> str | None:
        """Why a column can be neither left out nor hashed; None where it can."""
        if column.name in self.key or not column.nullable:
            return "it tells rows apart"
        if column.name in self.leads_to:
            return f"it leads to rows of {self.leads_to[column.name]}"
        if column.name == "updated" and self.key:
            return "it tells which copy of a row is the newest"
        if column.name == self.removed_where:
            return "it takes rows away"
        return "syncs and verify go by it" if column.name in self.relied_on else None

    def hints(self) -> dict[str, dict[str, Any]]:
        """dlt's column hints: name → schema of the column."""
        return {
            column.name: {
                "name": column.name,
                "data_type": column.type,
                "description": column.description,
                "nullable": column.nullable and column.name not in self.key,
            }
            for column in self.columns
        }


def columns(*rows: tuple[str, Type, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


WORKSPACE = Column("workspace", "text", "Configured name of the server or Cloud workspace.", nullable=False)
ID = Column("id", "text", "Id that Prefect gave (UUID).", nullable=False)
CREATED = Column("created", "timestamp", "When the server made the row.")
UPDATED = Column("updated", "timestamp", "When the server last changed the row.")


def tags(owner: str) -> Table:
    return Table(
        f"{owner}__tags",
        f"One row a tag of a row of {owner}.",
        (Column("value", "text", "The tag."),),
        (),
    )
