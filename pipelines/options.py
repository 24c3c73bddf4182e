"""What a command is told: which server, which destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dlt

from prefect_runs import RESOURCES, ConfigurationError

from .destination.in_place import check_name

DEFAULT_DATABASE = "prefect_runs.duckdb"
DEFAULT_DATASET = "prefect"


@dataclass(frozen=True)
class SyncOptions:
    """What to sync where; what is None comes from dlt's or Prefect's configuration."""

    api_url: str | None = None
    workspace: str | None = None
    destination: str = "duckdb"
    dataset: str = DEFAULT_DATASET
    database: str | None = None
    resources: Sequence[str] = ()
    extras: Sequence[str] = ()
    start_date: str | None = None
    full: bool = False
    publish: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    pipelines_dir: str | None = None
    only_asks: bool = False

    @property
    def where(self) -> str:
        """The destination in words: its name, or the DuckDB file."""
        return self.database or DEFAULT_DATABASE if self.destination == "duckdb" else self.destination

    @property
    def kind(self) -> str:
        """What the destination is to dlt: its name, or the `destination_type` of one that has a name of its own."""
        type_: str = dlt.config.get(f"destination.{self.destination}.destination_type") or self.destination
        return str(type_).rpartition(".")[2]

    @property
    def read(self) -> Sequence[str]:
        """The resources to read."""
        return (*(self.resources or RESOURCES), *self.extras)

    @property
    def identity(self) -> list[str]:
        """What tells destinations apart."""
        place = str(Path(self.where).resolve()) if self.destination == "duckdb" else self._bucket_url()
        return [self.destination, self.dataset, *([] if place is None else [place])]

    def _bucket_url(self) -> str | None:
        """Where a filesystem is configured to be; empty where it is not."""
        if self.kind != "filesystem":
            return None
        named = (self.destination, self.kind)
        return str(next(filter(None, (dlt.secrets.get(f"destination.{name}.bucket_url") for name in named)), ""))

    def dlt_destination(self) -> Any:
        """The destination as `dlt.pipeline` takes it.

        Raises:
            ConfigurationError: a DuckDB file is named for another destination, is called like the dataset, or is in no
                place for a file.
        """
        if self.destination == "duckdb":
            check_name(Path(self.where))
            check_file_name("--database", self.where, self.dataset)
            # a text could be a URL too, and finding out that it is none loads all of SQLAlchemy where that is installed
            return dlt.destinations.duckdb({"database": self.where, "read_only": self.only_asks})
        if self.database:
            raise ConfigurationError(
                "--database names a DuckDB file; other destinations are configured in .dlt/secrets.toml"
            )
        if self.kind == "filesystem":
            from .destination.lake import Lake

            return Lake(destination_name=self.destination)
        if self.kind == "sqlalchemy" and dlt.config.get(f"destination.{self.destination}.engine_kwargs") is None:
            # an error would tell the rows that it is about
            return dlt.destinations.sqlalchemy(
                engine_kwargs={"hide_parameters": True}, destination_name=self.destination
            )
        return self.destination

    def check_file(self) -> None:
        """Refuse a DuckDB file that is not there, for opening it would make an empty one.

        Raises:
            ConfigurationError: nothing was loaded into it yet, or another folder or name is meant.
        """
        if self.destination != "duckdb":
            return
        file = Path(self.where)
        check_name(file)
        # an empty file cannot be opened to be read only
        if not file.exists() or file.stat().st_size == 0:
            raise ConfigurationError(f"there are no runs in {self.where} yet: run prefect-runs sync first")


def check_file_name(option: str, file: str, dataset: str) -> None:
    """Refuse a DuckDB file whose catalogue, which DuckDB names after the file, would be called like the dataset.

    Raises:
        ConfigurationError: it would, so that `prefect.flow_runs` could mean either.
    """
    # up to the first dot, as DuckDB takes it; names of catalogues and schemas have no case
    catalog = Path(file).name.lstrip(".").partition(".")[0]
    if catalog.lower() == dataset.lower():
        raise ConfigurationError(
            f"{option} {file} and the dataset {dataset} have one name: DuckDB calls a file's catalogue after the file, "
            f"and could not tell which {dataset} is meant in {dataset}.flow_runs. Name another file, such as "
            f"{Path(file).with_name(f'{catalog}_runs.duckdb')}, or another --dataset"
        )
