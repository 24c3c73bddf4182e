"""Privacy rules: what they name, what is refused, and what they leave of a row."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from conftest import Copy
from pages import with_examples
from prefect_api import PrefectApi

from prefect_runs import ConfigurationError, PrivacyRules
from prefect_runs.deployment_changes import deployment_version
from prefect_runs.json_paths import ANY, only, parsed, replaced, without
from prefect_runs.privacy import RULED, Privacy
from prefect_runs.rows import RunShape, Shape, StateShape, shaped_with_children
from prefect_runs.tables import (
    DEPLOYMENT_CHANGES,
    DEPLOYMENTS,
    EXTRAS,
    FLOW_RUN_STATES,
    FLOW_RUNS,
    RECORDS,
    TABLES,
    TASK_RUN_STATES,
    TASK_RUNS,
)
from prefect_runs_pipelines.models import models
from prefect_runs_pipelines.views import create_views

ROOT = Path(__file__).parent.parent
SALT = "grains of salt for the tests"
TIME = "2026-01-01T00:00:00Z"
STATE = {
    "id": "state 1",
    "type": "FAILED",
    "name": "Failed",
    "timestamp": TIME,
    "message": "refused",
    "state_details": {"cache_key": "k", "retriable": True},
}
RUN = {
    "id": "run 1",
    "updated": TIME,
    "state_id": "state 1",
    "state": STATE,
    "name": "a name",
    "tags": ["one", "two"],
    "parameters": {"user": {"name": "Ada", "password": "x"}, "region": "eu", "days": 3},
}


def rules(salt: str = SALT, **options: list[str]) -> Privacy:
    """The rules of these options."""
    spec = PrivacyRules()
    spec.salt = salt
    for name, value in options.items():
        setattr(spec, name, value)
    return Privacy(spec)


def digest(text: str) -> str:
    """What stands for `text`."""
    return hmac.new(SALT.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("state_message", ("state_message",)),
        ("flow_runs.parameters.password", ("flow_runs", "parameters", "password")),
        ("parameters.*.token", ("parameters", ANY, "token")),
        ('labels."prefect.flow.id"', ("labels", "prefect.flow.id")),
        ('labels."say ""hi""".x', ("labels", 'say "hi"', "x")),
        ('labels."*"', ("labels", "*")),
        ("parameters.with space", ("parameters", "with space")),
    ],
)
def test_steps_of_a_rule(rule: str, steps: tuple[str | None, ...]) -> None:
    assert parsed(rule) == steps


VALUES: list[Any] = [
    pytest.param({"a": 1, "b": 2}, "a", {"b": 2}, {"a": 1}, id="key"),
    pytest.param({"a": {"b": 1, "c": 2}}, "a.b", {"a": {"c": 2}}, {"a": {"b": 1}}, id="path"),
    pytest.param({"a": {"b": 1}}, "a.x", {"a": {"b": 1}}, {"a": {}}, id="nothing there"),
    pytest.param({"a": 1}, "a.b", {"a": 1}, {}, id="nothing to look into"),
    pytest.param([{"a": 1, "b": 2}], "a", [{"b": 2}], [{"a": 1}], id="list in between"),
    pytest.param([[{"a": 1, "b": 2}], "x"], "a", [[{"b": 2}], "x"], [[{"a": 1}]], id="list in a list"),
    pytest.param({"a": [1, [2]]}, "a.*", {"a": []}, {"a": [1, [2]]}, id="all items"),
    pytest.param({"x": {"a": 1}, "y": {}}, "*.a", {"x": {}, "y": {}}, {"x": {"a": 1}, "y": {}}, id="any key"),
    pytest.param({"a": [{"b": 1, "c": 2}]}, "a.*.b", {"a": [{"c": 2}]}, {"a": [{"b": 1}]}, id="key of every item"),
    # where it is not clear which is meant, less is loaded
    pytest.param({"a": [{"x": {"b": 1}}]}, "a.*.b", {"a": [{"x": {}}]}, {"a": [{}]}, id="any key of every item"),
    pytest.param({"Password": 1, "b": 2}, "password", {"b": 2}, {}, id="another case"),
    pytest.param({"a.b": 1, "a": {"b": 2}}, '"a.b"', {"a": {"b": 2}}, {"a.b": 1}, id="key with a dot"),
    pytest.param({"*": 1, "b": 2}, '"*"', {"b": 2}, {"*": 1}, id="star that is a key"),
    pytest.param("text", "a", "text", None, id="text"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "rule", "less", "alone"), VALUES)
def test_places_inside_json(value: Any, rule: str, less: Any, alone: Any) -> None:
    before = json.dumps(value)
    assert without(value, [parsed(rule)]) == less
    assert only(value, [parsed(rule)]) == alone
    assert json.dumps(value) == before


def test_several_places_inside_json() -> None:
    value = {"a": {"b": 1, "c": [1, None]}, "d": 2}
    paths = [parsed("a.b"), parsed("a.c.*"), parsed("d")]
    assert without(value, paths) == {"a": {"c": []}}
    assert replaced(value, paths, str) == {"a": {"b": "1", "c": ["1", "None"]}, "d": "2"}
    assert only(value, paths[:1]) == {"a": {"b": 1}}


def shaped(privacy: Privacy) -> dict[str, Any]:
    """The run, with its parameters as JSON."""
    row = RunShape(FLOW_RUNS, "w", privacy)(RUN)
    return {**row, "parameters": json.loads(row.get("parameters") or "null")}


def test_what_is_dropped_is_not_in_the_row() -> None:
    row = shaped(rules(drop=["name", "parameters.user.password", "tags", "state_details.cache_key"][1:]))
    assert row["parameters"] == {"user": {"name": "Ada"}, "region": "eu", "days": 3}
    assert row["tags"] == []
    assert row["state_details"] == [{"state_id": "state 1", "retriable": True}]
    assert "name" not in shaped(rules(drop=["flow_runs.name"]))
    assert shaped(rules(drop=["state_details"]))["state_details"] == []
    # a state that says nothing else
    assert shaped(rules(drop=["cache_key", "retriable"]))["state_details"] == []


def test_a_value_is_hashed_alike_wherever_it_is() -> None:
    row = shaped(rules(hash=["flow_runs.name", "tags", "parameters.user.name", "parameters.days", "cache_key"]))
    assert row["name"] == digest("a name")
    assert row["tags"] == [digest("one"), digest("two")]
    assert row["parameters"]["user"] == {"name": digest("Ada"), "password": "x"}
    assert row["parameters"]["days"] == digest("3")
    assert row["state_details"][0]["cache_key"] == digest("k")
    whole = rules(hash=["parameters"])
    told = '{"days": 3, "region": "eu", "user": {"name": "Ada", "password": "x"}}'
    assert shaped(whole)["parameters"] == {"hash": digest(told)}
    of_the_rest = rules(hash=["parameters"], drop=["parameters.user", "parameters.days"])
    assert shaped(of_the_rest)["parameters"] == {"hash": digest('{"region": "eu"}')}
    in_another_order = {**RUN, "parameters": dict(reversed(RUN["parameters"].items()))}  # type: ignore[attr-defined]
    assert RunShape(FLOW_RUNS, "w", whole)(in_another_order) == RunShape(FLOW_RUNS, "w", whole)(RUN)
    other = rules("another salt for the same tests", hash=["flow_runs.name"])
    assert shaped(other)["name"] != digest("a name")


def test_a_lone_surrogate_can_be_hashed() -> None:
    assert len(Shape(FLOW_RUNS, "w", rules(hash=["flow_runs.name"]))({"id": "a", "name": "\ud800"})["name"]) == 64


def test_only_what_is_listed_is_kept_of_a_json_column() -> None:
    assert shaped(rules(keep=["parameters.region"]))["parameters"] == {"region": "eu"}
    listed = rules(keep=["parameters.user"], drop=["parameters.user.password"], hash=["parameters.region"])
    assert shaped(listed)["parameters"] == {"user": {"name": "Ada"}, "region": digest("eu")}
    assert shaped(listed)["name"] == "a name"


def test_only_what_is_listed_is_kept_of_a_table() -> None:
    listed = rules(keep=["flow_runs.start_time", "flow_runs.parameters.region"], hash=["flow_runs.name"])
    row = shaped(listed)
    del row["parameters"]
    assert row == {
        "id": "run 1",
        "workspace": "w",
        "updated": TIME,
        "state_id": "state 1",
        "state_timestamp": TIME,
        "name": digest("a name"),
        "tags": [],
        "state_details": [],
    }
    assert shaped(listed)["parameters"] == {"region": "eu"}
    assert RunShape(TASK_RUNS, "w", listed)(RUN)["name"] == "a name"
    with_children = rules(keep=["deployments.schedules.active", "deployments.name", "deployments.tags"])
    schedule = {"id": "s", "active": True, "slug": "daily", "parameters": {"a": 1}}
    deployment = {"id": "d", "name": "n", "path": "p", "tags": ["t"], "schedules": [schedule]}
    assert shaped_with_children(DEPLOYMENTS, "w", with_children)(deployment) == {
        "id": "d",
        "workspace": "w",
        "name": "n",
        "tags": ["t"],
        "schedules": [{"active": True}],
    }


def test_only_the_child_table_that_is_listed_is_kept_of_a_table() -> None:
    assert {name for name, value in shaped(rules(keep=["flow_runs.tags"])).items() if value} == {
        *("id", "workspace", "updated", "state_id", "state_timestamp"),
        "tags",
    }
    # a column of a child table is of that table
    assert shaped(rules(keep=["flow_runs.tags.value"]))["name"] == "a name"


@pytest.mark.parametrize("rule", ["tags", "tags.value", "value"])
@pytest.mark.parametrize("option", ["drop", "hash"])
def test_a_rule_for_tags_is_for_those_in_a_column_too(option: str, rule: str) -> None:
    shape = Shape(DEPLOYMENT_CHANGES, "w", rules(**{option: [rule]}))
    version = deployment_version({"id": "d", "name": "n", "tags": ["customer-x"]}, shape)
    assert "customer-x" not in json.dumps(version)


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"drop": ["parameters"]}, {}),
        ({"drop": ["parameters.password"]}, {"parameters": {"region": "eu"}}),
        ({"drop": ["schedules.parameters"]}, {}),
        ({"keep": ["parameters.region"]}, {"parameters": {"region": "eu"}}),
        ({"hash": ["parameters.password"]}, {"parameters": {"region": "eu", "password": digest("secret")}}),
    ],
    ids=str,
)
def test_a_rule_for_parameters_is_for_those_of_schedules_in_versions_of_deployments(rule: Any, left: Any) -> None:
    schedule = {"active": True, "slug": "daily", "parameters": {"region": "eu", "password": "secret"}}
    shape = Shape(DEPLOYMENT_CHANGES, "w", rules(**rule))
    [loaded] = json.loads(deployment_version({"id": "d", "schedules": [schedule]}, shape)["schedules"])
    assert {name: part for name, part in loaded.items() if part is not None} == {
        "active": True,
        "slug": "daily",
        **left,
    }


@pytest.mark.parametrize(
    ("rule", "of_flow_runs", "of_task_runs"),
    [
        ("state_message", True, True),
        ("message", True, True),
        ("flow_runs.state_message", True, False),
        ("flow_run_states.message", True, False),
        ("task_run_states.message", False, True),
    ],
)
def test_a_rule_is_for_both_names_of_a_message(rule: str, of_flow_runs: bool, of_task_runs: bool) -> None:
    privacy = rules(drop=[rule])
    for run, state, dropped in (
        (FLOW_RUNS, FLOW_RUN_STATES, of_flow_runs),
        (TASK_RUNS, TASK_RUN_STATES, of_task_runs),
    ):
        assert ("state_message" not in RunShape(run, "w", privacy)(RUN)) is dropped
        column = run.name.replace("_runs", "_run_id")
        assert ("message" not in StateShape(state, column, "w", privacy)(STATE, "run 1")) is dropped


def test_details_of_a_run_s_state_are_those_of_its_history() -> None:
    privacy = rules(drop=["task_runs.state_details.cache_key"])
    for row in (RunShape(TASK_RUNS, "w", privacy)(RUN), StateShape(TASK_RUN_STATES, "t", "w", privacy)(STATE, "t")):
        assert row["state_details"] == [{"state_id": "state 1", "retriable": True}]
    assert RunShape(FLOW_RUNS, "w", privacy)(RUN)["state_details"][0]["cache_key"] == "k"


@pytest.mark.parametrize(
    ("option", "rule", "words"),
    [
        ("drop", "flow_runs.id", "flow_runs.id cannot be left out or hashed, for it tells rows apart"),
        ("drop", "workspace", "it tells rows apart. A rule without a table"),
        ("hash", "updated", "it tells which copy of a row is the newest"),
        ("drop", "flow_runs.flow_id", "it leads to rows of flows"),
        ("drop", "expected_start_time", "syncs and verify go by it"),
        ("drop", "state_timestamp", "syncs and verify go by it"),
        ("drop", "end_time", "syncs and verify go by it"),
        ("hash", "name", "flow_run_states.name cannot be left out or hashed"),
        ("drop", "state_details.state_id", "syncs and verify go by it"),
        ("drop", "emptied", "it takes rows away"),
        ("hash", "start_time", "type timestamp, which can hold no hash: drop it"),
        ("hash", "state_details", "which can hold no hash"),
        ("drop", "flow_runs.name.first", "flow_runs.name is of type text, and has nothing inside"),
        ("drop", "flow_run.name", "no table or column that is loaded is called 'flow_run'; there is flow_runs"),
        ("drop", "flow_runs.paramters.x", "flow_runs has no column 'paramters.x' that is loaded; there is parameters"),
        ("drop", "State_Message", "there is state_message"),
        ("drop", "job_variables", "no table or column that is loaded is called 'job_variables'"),
        ("drop", "flow_runs", "flow_runs is a table: name its columns"),
        ("drop", "*", "no table or column that is loaded is called '*'"),
        ("drop", "syncs.gaps", "syncs tells what syncs did, and is loaded as it is"),
        ("drop", "server_url", "no table or column that is loaded is called 'server_url'"),
        ("drop", "parameters..x", "a step is empty"),
        ("drop", "", "a step is empty"),
        ("drop", 1, "no table or column that is loaded is called '1'"),
        ("drop", 'labels."a', "a quote is not closed"),
        ("keep", "name", "a column that is kept is named with its table"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused(option: str, rule: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        rules(**{option: [rule]})
    assert f"sources.prefect_runs.privacy.{option}: {rule!r}: " in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("salt", ["", "<configure me>", "too short"])
def test_hashes_need_a_salt_that_cannot_be_guessed(salt: str) -> None:
    with pytest.raises(ConfigurationError, match=r"needs a salt of 16 .*privacy\.salt") as refused:
        rules(salt, hash=["flow_runs.name"])
    assert not salt or salt not in str(refused.value)
    rules(salt, drop=["flow_runs.name"])


def test_rules_with_their_salt_have_a_fingerprint() -> None:
    assert Privacy().fingerprint is rules().fingerprint is None
    some = [
        rules(drop=["tags"]),
        rules(hash=["tags"]),
        rules("another salt for the same tests", hash=["tags"]),
        rules(drop=["tags", "labels"]),
    ]
    assert len({privacy.fingerprint for privacy in some}) == len(some)
    assert rules(drop=["tags", "labels"]).fingerprint == rules(drop=["labels", "tags"]).fingerprint


def test_without_rules_nothing_is_done_to_a_column() -> None:
    for table in RULED.values():
        assert Privacy().of(table).dropped == frozenset()
        assert Privacy().of(table).changes == {}


@pytest.mark.parametrize("page", ["README.md", "sources/prefect_runs/README.md", "docs/privacy.md"])
def test_rules_of_the_pages_can_be_kept(page: str) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    told: dict[str, Any] = {}
    for block in blocks:
        told |= tomllib.loads(with_examples(block))["sources"]["prefect_runs"].get("privacy", {})
    assert {"drop", "hash"} <= told.keys()
    rules(**{"salt": SALT, **told})


def test_the_page_says_of_every_rule_in_its_table_what_it_is_for() -> None:
    table = (ROOT / "docs/privacy.md").read_text().partition("| rule | is for |")[2].partition("\n\n")[0]
    named = [rule for row in table.splitlines()[2:] for rule in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(named) == 10
    rules(drop=named)


def free_columns(*types: str) -> list[str]:
    """Every column of every table that a rule may name, such as flow_runs__tags.value."""
    return [
        f"{table.name}.{column.name}"
        for table in RULED.values()
        for column in table.columns
        if table.why_needed(column) is None and (not types or column.type in types)
    ]


@pytest.mark.parametrize("option", ["drop", "hash"])
def test_everything_that_can_be_hidden_is_and_syncs_verify_and_models_go_on(
    copy: Copy, api: PrefectApi, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = free_columns(*(("text", "json") if option == "hash" else ()))
    monkeypatch.setenv(f"SOURCES__PREFECT_RUNS__PRIVACY__{option.upper()}", json.dumps(named))
    monkeypatch.setenv("SOURCES__PREFECT_RUNS__PRIVACY__SALT", SALT)
    failed = {"type": "FAILED", "name": "Failed", "message": "refused", "state_details": {"cache_key": "k"}}
    run_id = api.flow_run(failed, tags=["one"], parameters={"a": 1})
    api.task_run(failed, flow_run_id=run_id, tags=["one"])
    api.call("POST", "/deployments/", {"name": run_id, "flow_id": api.flow(), "tags": ["one"], "parameters": {"a": 1}})
    copy.sync()
    copy.outlive_lookback()
    assert copy.sync().whole
    assert copy.verify(sweep=True).whole
    there = set(copy.values("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'prefect'"))
    assert set(TABLES) - there <= {"work_pools", "work_queues", "verifications", *EXTRAS}
    hash_ = re.compile(r'(\{"hash":")?[0-9a-f]{64}("\})?')
    for place in named:
        table, _, column = place.partition(".")
        found = copy.values(f'SELECT DISTINCT "{column}"::VARCHAR FROM prefect.{table}') if table in there else []
        assert not [value for value in found if value and (option == "drop" or not hash_.fullmatch(value))], place
    assert ("flow_runs__tags" in there) is (option == "hash")
    create_views(copy.sync_options())
    for model in models():
        copy.values(f"SELECT count(*) FROM prefect.{model.name}")
    assert copy.values("SELECT count(*) FROM prefect.flow_run_facts") == [1]


def test_rules_are_for_every_table_but_the_records() -> None:
    assert {name for name in TABLES if name not in RULED} == set(RECORDS)
