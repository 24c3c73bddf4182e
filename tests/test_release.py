"""The checks of a release: each finds what it is for, in a copy of this tree into which it was put."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import checks
import pytest

ROOT = Path(__file__).parents[1]
VERSION = checks.project(ROOT)["version"]
LOCAL = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.duckdb*", "target", "logs", "secrets.toml")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the checks look at, with a changelog that is ready to be released."""
    root = tmp_path / "tree"
    for folder in ("pipelines", "sources", "dbt", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=LOCAL)
    for file in ("pyproject.toml", "constraints.txt", "README.md", *(name for name in checks.SDIST if "/" not in name)):
        shutil.copy(ROOT / file, root / file)
    (root / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## [Unreleased]\n\n## [{VERSION}] - 2026-01-31\n\n- All of it.\n"
    )
    return root


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_this_tree_has_one_version_a_lock_that_fits_and_a_changelog() -> None:
    # what is installed is what `prefect-runs --version` says
    assert importlib.metadata.version("dlt-source-prefect") == VERSION
    assert checks.version_problems(ROOT) == []
    assert checks.lock_problems(ROOT) == []
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert heads[0] in ("## [Unreleased]", f"## [{VERSION}]")


def test_tree_that_is_ready_has_no_problems(tree: Path) -> None:
    # that docs/ and dbt/ are the generated ones is held by other tests
    for check in (checks.version_problems, checks.changelog_problems, checks.lock_problems):
        assert check(tree) == []


def test_another_version_in_the_dbt_package_is_found(tree: Path) -> None:
    changed(tree / "dbt/dbt_project.yml", f"version: {VERSION}", "version: 9.9.9")
    assert checks.version_problems(tree) == [f"dbt/dbt_project.yml says 9.9.9, pyproject.toml {VERSION}"]


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("# Changelog\n", "newest section of CHANGELOG.md is none"),
        ("## [9.9.9] - 2026-01-31\n\n- It.\n", "newest section of CHANGELOG.md is 9.9.9"),
        (f"## [{VERSION}]\n\n- It.\n", "has no date"),
        (f"## [Unreleased]\n\n- More.\n\n## [{VERSION}] - 2026-01-31\n\n- It.\n", "has unreleased changes"),
    ],
    ids=["no section", "another version", "no date", "unreleased changes"],
)
def test_changelog_of_another_version_is_found(tree: Path, changelog: str, problem: str) -> None:
    (tree / "CHANGELOG.md").write_text(changelog)
    [found] = checks.changelog_problems(tree)
    assert problem in found


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("constraints.txt", "\ndlt==1.31.0", "\ndlt==1.30.0", "pins dlt==1.30.0"),
        ("pipelines/local/servers/airflow.txt", "\nsqlglot==30.21.0", "\nsqlglot==30.24.0", "pins sqlglot==30.24.0"),
        ("constraints.txt", "\npytest==", "\nno-pytest==", "does not pin pytest"),
        ("sources/prefect_runs/requirements.txt", "dlt>=1.31", "dlt>=1.2", "asks for dlt>=1.2,<2"),
    ],
    ids=["too low", "too high in an environment of its own", "missing", "copy asks for another"],
)
def test_lock_that_does_not_fit_is_found(tree: Path, file: str, old: str, new: str, problem: str) -> None:
    changed(tree / file, old, new)
    [found] = checks.lock_problems(tree)
    assert problem in found


def test_page_and_package_that_were_not_made_anew_are_found(tree: Path) -> None:
    changed(tree / "docs/tables/flow_runs.md", "flow_runs", "flow runs")
    (tree / "dbt/models/marts/daily_figures.sql").unlink()
    # and nothing else is
    page, model = checks.docs_problems(tree)
    assert page.startswith("docs/tables/flow_runs.md is not what")
    assert model.startswith("dbt/models/marts/daily_figures.sql is not what")


def test_uncommitted_file_and_tag_that_is_there_are_found(tree: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "All of it")
    assert checks.tree_problems(tree) == []
    (tree / "new.py").touch()
    git("tag", f"v{VERSION}")
    file, tag = checks.tree_problems(tree)
    assert (file, tag[: len(VERSION) + 9]) == ("not committed: new.py", f"the tag v{VERSION}")


def archives(tree: Path, folder: Path, without: str = "", also: str = "") -> tuple[Path, Path]:
    """A wheel and an sdist of the tree, in form: without one file, and with another."""
    files = checks.packaged(tree)
    wheel, sdist = folder / "it.whl", folder / "it.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in [*files, "it.dist-info/METADATA", *([f"prefect_runs/{also}"] if also else [])]:
            if files.get(name, name) != without:
                archive.writestr(name, "")
    with tarfile.open(sdist, "w:gz") as archive:
        for name in [*files.values(), *checks.SDIST, "PKG-INFO", *([also] if also else [])]:
            if name != without:
                archive.add(tree / "README.md", f"it-{VERSION}/{name}")
    return wheel, sdist


def test_what_the_packages_lack_or_should_not_hold_is_found(tree: Path, tmp_path: Path) -> None:
    assert checks.archive_problems(tree, *archives(tree, tmp_path)) == []
    css = "pipelines/report/page.css"
    assert checks.archive_problems(tree, *archives(tree, tmp_path, without=css)) == [
        "the wheel lacks prefect_runs_pipelines/report/page.css",
        f"the sdist lacks {css}",
    ]
    assert checks.archive_problems(tree, *archives(tree, tmp_path, also="tests/test_it.py")) == [
        "the wheel holds prefect_runs/tests/test_it.py, which is not in the tree",
        "the sdist holds tests/test_it.py, which does not belong there",
    ]


def test_every_file_of_the_packages_is_one_that_setuptools_takes() -> None:
    setuptools = checks.tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for name in checks.packaged(ROOT):
        folder = name.rpartition("/")[0].replace("/", ".")
        package = name.partition("/")[0]
        patterns = [f"{package}/{pattern}" for pattern in setuptools["package-data"][package]]
        taken = any(Path(name).match(pattern) and pattern.count("/") == name.count("/") for pattern in patterns)
        assert taken or (name.endswith(".py") and folder in setuptools["packages"]), name
