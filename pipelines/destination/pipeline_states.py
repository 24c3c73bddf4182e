"""How far each pipeline came that loads into a dataset, as dlt keeps it there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import dlt
from dlt.common.destination.client import WithStateSync
from dlt.common.destination.exceptions import DestinationUndefinedEntity
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.state_sync import load_pipeline_state_from_destination

from .failures import patiently


def stored_state(pipeline: dlt.Pipeline, name: str) -> Any:
    """The last state of the pipeline `name` in the dataset of `pipeline`; None where there is none."""
    with pipeline.destination_client() as client, contextlib.suppress(DestinationUndefinedEntity):
        if isinstance(client, WithStateSync):
            return load_pipeline_state_from_destination(name, client)
    return None


def states_of_others(pipeline: dlt.Pipeline) -> Iterator[Any]:
    """The last state of every other pipeline in the dataset; none of a filesystem, which cannot be asked for them."""
    for name in patiently(lambda: _names_of_others(pipeline)):
        state = patiently(lambda name=name: stored_state(pipeline, name))  # type: ignore[misc]
        if state:
            yield state


def _names_of_others(pipeline: dlt.Pipeline) -> list[str]:
    with pipeline.destination_client() as client, contextlib.suppress(DestinationUndefinedEntity):
        if isinstance(client, SqlJobClientBase):
            sql = client.sql_client
            table = sql.make_qualified_table_name(client.schema.state_table_name)
            with sql.execute_query(f"SELECT DISTINCT pipeline_name FROM {table}") as cursor:
                return sorted({str(name) for (name,) in cursor.fetchall()} - {pipeline.pipeline_name})
    return []
