"""What is configured and cannot be kept is refused, and so is what is misspelt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from prefect_api import now

from prefect_runs import (
    ConfigurationError,
    PrefectCredentials,
    PrivacyRules,
    ReadSettings,
    RunFilters,
    prefect_runs,
)
from prefect_runs.sections import refuse_unknown_sections
from prefect_runs.settings import MOST
from prefect_runs_pipelines.cli import main
from prefect_runs_pipelines.command.outcomes import EXIT_CONFIGURATION


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, whose configuration dlt reads again when asked to."""
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        yield tmp_path
    Container()[PluggableRunContext].reload(str(Path.cwd()))


def resolved(spec: ReadSettings | RunFilters | PrivacyRules) -> object:
    return resolve_configuration(spec, sections=("sources", "prefect_runs"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lookback_minutes", "-60"),
        ("lookback_minutes", "nan"),
        ("horizon_hours", "-5"),
        ("in_flight_days", "-5"),
        ("connections", "0"),
        ("requests_per_minute", "0"),
        ("chunk_rows", "0"),
        ("chunk_rows", "-3"),
        ("events_kept_days", "-1"),
        ("runs_kept_days", "-1"),
    ],
)
def test_number_with_which_no_read_is_complete(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SOURCES__PREFECT_RUNS__SETTINGS__{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=rf"{name} is .*must be \d or more"):
        resolved(ReadSettings())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        *((name, "1e9", "a hundred years") for name in MOST),
        ("lookback_minutes", "inf", "a hundred years"),
        ("runs_kept_days", "0", "leave it unset"),
        ("events_kept_days", "0", "leave it unset"),
    ],
)
def test_span_that_no_server_has(name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SOURCES__PREFECT_RUNS__SETTINGS__{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=rf"{name} is .*{told}"):
        resolved(ReadSettings())


@pytest.mark.parametrize("name", MOST)
def test_longest_span_can_be_gone_by(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SOURCES__PREFECT_RUNS__SETTINGS__{name.upper()}", str(MOST[name]))
    settings = resolved(ReadSettings())
    assert isinstance(settings, ReadSettings)
    for span in (settings.lookback, settings.horizon, settings.runs_kept, settings.events_kept):
        assert span is None or now() - span < now() + span


@pytest.mark.parametrize(
    ("section", "option", "spec", "meant"),
    [
        ("privacy", "dropp", PrivacyRules, "is drop meant"),
        ("filters", "flow_name", RunFilters, "is flow_names meant"),
        ("settings", "lookback_minuts", ReadSettings, "is lookback_minutes meant"),
        ("workspaces.a.privacy", "droped", PrivacyRules, "is drop meant"),
        ("filters", "zzz", RunFilters, "there are tags_any,"),
    ],
)
@pytest.mark.parametrize("place", ["file", "variable"])
def test_misspelt_option(
    section: str, option: str, spec: type, meant: str, place: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = f"sources.prefect_runs.{section}.{option}"
    if place == "file":
        (folder / ".dlt").mkdir()
        (folder / ".dlt" / "config.toml").write_text(f'[sources.prefect_runs.{section}]\n{option} = ["tags"]\n')
        Container()[PluggableRunContext].reload(str(folder))
    else:
        named = named.replace(".", "__").upper()
        monkeypatch.setenv(named, '["tags"]')
    with pytest.raises(ConfigurationError, match=f"{named} is no option of this version: {meant}"):
        resolved(spec())


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("sources.prefect_runs.privcy.drop", "privcy is no option of this version: is privacy meant"),
        ("sources.prefect_runs.setings.page_size", "setings is no option of this version: is settings meant"),
        ("sources.prefect_runs.drop", "drop is no option of this version: it belongs into the section privacy"),
        (
            "sources.prefect_runs.api_url",
            "api_url is no option of this version: it belongs into the section cred",
        ),
        ("sources.prefect_runs.credentials.apikey", "apikey is no option of this version: is api_key meant"),
        ("sources.prefect_runs.credentials.zzz", "zzz is no option of this version: there are api_url, "),
        (
            "sources.prefect_runs.workspace.production.api_url",
            "workspace is no option of this version: is workspaces.",
        ),
        ("sources.prefect_runs.workspaces.a.privcy.drop", "a.privcy is no option of this version: is privacy meant"),
        (
            "sources.prefect_runs.workspaces.a.tags_any",
            "tags_any is no option of this version: it belongs into",
        ),
        ("source.prefect_runs.privacy.drop", "privacy is no option of this version: is sources.prefect_runs meant"),
    ],
)
@pytest.mark.parametrize("by", ["command", "source"])
def test_misspelt_section_or_option_in_another_one(
    place: str, meant: str, by: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section, _, option = place.rpartition(".")
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "secrets.toml").write_text(f'[{section}]\n{option} = "sesame-open"\n')
    Container()[PluggableRunContext].reload(str(folder))
    if by == "command":
        assert main(["sync", "--database", "x.duckdb"]) == EXIT_CONFIGURATION
        told = capsys.readouterr().err
    else:
        with pytest.raises(ConfigurationError) as error:
            prefect_runs(PrefectCredentials())
        told = str(error.value)
    assert meant in told
    assert "sesame" not in told


def test_variable_of_a_misspelt_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__SETTING__PAGE_SIZE", "7")
    with pytest.raises(ConfigurationError, match="SETTING__PAGE_SIZE is no option of this version: is settings meant"):
        refuse_unknown_sections()


def test_what_dlt_looks_for_in_a_source_is_left_to_it(folder: Path) -> None:
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "config.toml").write_text(
        "[sources.prefect_runs]\nmax_table_nesting = 2\n[sources.prefect_runs.data_writer]\nbuffer_max_items = 100\n"
        "[sources.prefect_runs.flow_runs.data_writer]\nbuffer_max_items = 100\n[sources.prefect_runs.extract]\n"
    )
    Container()[PluggableRunContext].reload(str(folder))
    refuse_unknown_sections()


def test_command_ends_with_two_before_it_asks_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__PRIVACY__DROPP", '["tags"]')
    assert main(["sync", "--api-url", "http://127.0.0.1:9/api"]) == EXIT_CONFIGURATION
    assert "PRIVACY__DROPP is no option" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
