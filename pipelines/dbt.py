"""`prefect-runs dbt`: writes the dbt package for the destination, runs it and its tests through dlt's dbt runner."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dlt.helpers.dbt
import yaml
from dlt.common.runners import Venv
from dlt.helpers.dbt import DBT_DESTINATION_MAP
from dlt.helpers.dbt.exceptions import DBTProcessingError
from dlt.helpers.dbt.runner import DBTPackageRunner, create_runner

from prefect_runs import ConfigurationError

from .dbt_package import write_package
from .destination.failures import explained
from .destination.warehouse import dialect_of
from .local.environments import environment_python
from .models import check_destination
from .options import SyncOptions
from .target import Target

# dbt tells its maker of every run, unless it is asked not to
STATISTICS = "DBT_SEND_ANONYMOUS_USAGE_STATS"
# one environment serves both
TESTED_ADAPTERS = ("duckdb", "postgres")
DLT_PROFILES = Path(dlt.helpers.dbt.__file__).with_name("profiles.yml")
# dlt's own profile for DuckDB downloads extensions that the models do not need
OWN_PROFILES = {"duckdb": Path(__file__).parent / "dbt_package" / "profiles"}


@dataclass(frozen=True)
class DbtReport:
    """What dbt did: the models that it made, how many tests held, and what failed, each in words."""

    destination: str
    source_dataset: str
    models_dataset: str
    package: str
    models: list[str]
    tests_passed: int
    failures: list[str]

    def as_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self))

    def as_text(self) -> str:
        """The report for a person."""
        made = f"{len(self.models)} models in {self.destination}, dataset {self.models_dataset}"
        lines = [f"{made}, made from {self.source_dataset}; {self.tests_passed} tests passed"]
        lines += [f"FAILED {failure}" for failure in self.failures]
        return "\n".join([*lines, f"the package: {self.package}"])


def run_dbt(options: SyncOptions, models_dataset: str | None = None) -> DbtReport:
    """Make all models in a dataset beside the loaded one, and test them and what they are made from.

    Args:
        models_dataset: where to; by default the name of the loaded dataset with `_models` behind it.

    Raises:
        ConfigurationError: nothing was loaded into the destination yet.
        PrefectRunsError: see `prefect_runs.exceptions`.
    """
    into = models_dataset or f"{options.dataset}_models"
    if into == options.dataset:
        raise ConfigurationError(
            "the models need a dataset of their own, for a view of the same name may be in this one"
        )
    options.check_file()
    with explained(), Target(options) as target:
        target.restore()
        target.require_runs()
        with target.pipeline.destination_client() as destination:
            configuration: Any = destination.config
        with target.pipeline.sql_client() as client:
            # as it is called there: dlt makes my_data of My-Data
            dataset, dialect = client.dataset_name, dialect_of(client)
        check_destination(dialect)
        check_profile(configuration.destination_type)
        package = Path(target.pipeline.working_dir) / "dbt"
        write_package(package, dialect)
        kind = configuration.destination_type
        runner = create_runner(
            dbt_environment(kind),
            configuration,
            working_dir=target.pipeline.working_dir,
            package_location=str(package),
            package_profile_name=kind,
            package_profiles_dir=str(OWN_PROFILES[kind]) if kind in OWN_PROFILES else None,
        )
        # dbt's own output is for a person, and standard output may be for a program
        with contextlib.redirect_stdout(sys.stderr):
            return _run(runner, options, dataset, into, package)


def check_profile(destination: str) -> None:
    """Refuse a destination that dlt's dbt runner cannot tell dbt of.

    Raises:
        ConfigurationError: it has no profile for it.
    """
    if destination not in yaml.safe_load(DLT_PROFILES.read_text()):
        raise ConfigurationError(
            f"dlt has no dbt profile for {destination}: write the package with prefect-runs dbt --write DIR, and run "
            "it with a profile of your own"
        )


def _run(runner: DBTPackageRunner, options: SyncOptions, dataset: str, into: str, package: Path) -> DbtReport:
    given: dict[str, Any] = {"additional_vars": {"source_dataset_name": dataset}, "destination_dataset_name": into}
    tested: list[str] = []
    os.environ.setdefault(STATISTICS, "false")
    # neither packages nor seeds, which run_all would see to first
    made, failed = _results(lambda: runner.run((), **given))
    if not failed:
        tested, failed = _results(lambda: runner.test(**given))
    return DbtReport(options.where, dataset, into, str(package), made, len(tested), failed)


def _results(step: Callable[[], Sequence[Any]]) -> tuple[list[str], list[str]]:
    """What went well by name, and what did not, in words."""
    try:
        results = step()
    except DBTProcessingError as error:
        if not error.run_results:
            raise
        results = error.run_results
    good = [result.model_name for result in results if result.status in ("success", "pass")]
    bad = [
        f"{result.model_name} ({result.status}): {result.message}"
        for result in results
        if result.status not in ("success", "pass", "skipped")
    ]
    return good, bad


def dbt_environment(destination: str) -> Venv:
    """An environment with dbt for a destination, and with the connector's own dlt and DuckDB."""
    adapters = (
        TESTED_ADAPTERS if destination in TESTED_ADAPTERS else (DBT_DESTINATION_MAP.get(destination, destination),)
    )
    own = {name: version(name) for name in ("dlt", "duckdb")}
    label = "-".join(["dbt", *adapters, *own.values()])
    wanted = [*(f"dbt-{adapter}" for adapter in adapters), *(f"{name}=={pinned}" for name, pinned in own.items())]
    python = environment_python(label, "dbt", "dbt-core", *wanted)
    return Venv.restore(str(python.parent.parent))
