"""Checks that a release is what it says: version, changelog, lock file and docs agree, the packages are whole.

    python release/checks.py

builds the wheel and the sdist into dist/ when everything else agrees, looks into them, and says what to do next. It
publishes nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "docs"), str(ROOT / "benchmarks")]

# what git and Python leave in folders, and no package holds
LEFT_BEHIND = ("*/__pycache__/*", "*.pyc", "*.duckdb", "*/.dlt/secrets.toml")
# what the sdist has beside the packages
SDIST = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "constraints.txt", "sources/prefect_runs_pipeline.py")


def project(root: Path) -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return found


def version_problems(root: Path) -> list[str]:
    """Where another version stands than in pyproject.toml."""
    version = project(root)["version"]
    problems = []
    for place in ("pipelines/dbt_package/dbt_project.yml", "dbt/dbt_project.yml"):
        found = re.search(r"^version: (\S+)$", (root / place).read_text(), re.MULTILINE)
        if found is None or found[1] != version:
            problems.append(f"{place} says {found[1] if found else 'no version'}, pyproject.toml {version}")
    return problems


def changelog_problems(root: Path) -> list[str]:
    """What keeps CHANGELOG.md from being that of this version: one dated section for it, and nothing unreleased."""
    version = project(root)["version"]
    text = (root / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[?([^\]\s]+)\]?(?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    problems = []
    released = [(name, date) for name, date in heads if name != "Unreleased"]
    if not released or released[0][0] != version:
        problems.append(
            f"the newest section of CHANGELOG.md is {released[0][0] if released else 'none'}, not {version}"
        )
    elif not released[0][1]:
        problems.append(f"the section {version} of CHANGELOG.md has no date: write ## [{version}] - 2026-01-31")
    unreleased = re.search(r"^## \[?Unreleased\]?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if unreleased and re.search(r"^- ", unreleased[1], re.MULTILINE):
        problems.append(f"CHANGELOG.md has unreleased changes: they belong to {version} or to a version after it")
    return problems


def lock_problems(root: Path) -> list[str]:
    """Where constraints.txt, or what the copied source asks for, is not what pyproject.toml allows."""
    described = project(root)
    extras = described["optional-dependencies"].values()
    asked = [*described["dependencies"], *(line for extra in extras for line in extra)]
    wanted = [Requirement(line) for line in asked if not line.startswith(described["name"])]
    pinned = {file: _pins((root / file).read_text().splitlines()) for file in _pin_files(root)}
    # the flow runs in an environment of its own, beside a Prefect
    everywhere = {*pinned["constraints.txt"], *pinned["pipelines/local/servers/prefect-flow.txt"]}
    problems = [
        f"constraints.txt does not pin {requirement.name}"
        for requirement in wanted
        if _name(requirement.name) not in everywhere
    ]
    for file, pins in pinned.items():
        # others are of environments without the project
        for requirement in wanted if "dlt" in pins else ():
            pin = pins.get(_name(requirement.name))
            if pin and not requirement.specifier.contains(pin):
                problems.append(f"{file} pins {requirement.name}=={pin}, pyproject.toml asks for {requirement}")
    # extras ask for parts of what is bound where it is asked for first
    bounds = {_name(requirement.name): requirement.specifier for requirement in reversed(wanted)}
    for line in (root / "sources/prefect_runs/requirements.txt").read_text().splitlines():
        requirement = Requirement(line)
        bound = bounds.get(_name(requirement.name), requirement.specifier)
        if bound != requirement.specifier:
            problems.append(f"sources/prefect_runs/requirements.txt asks for {line}, pyproject.toml for {bound}")
    return problems


def docs_problems(root: Path) -> list[str]:
    """Pages of docs/ and files of dbt/ that are not what their generators write."""
    import generate

    from prefect_runs_pipelines.dbt_package import write_package

    pages = generate.pages()
    folders = {page.partition("/")[0] for page in pages}
    written = _texts(root / "docs")
    there = {page: text for page, text in written.items() if page.partition("/")[0] in folders}
    with tempfile.TemporaryDirectory() as folder:
        write_package(Path(folder))
        package = _texts(Path(folder))
    kept = {path: text for path, text in _texts(root / "dbt").items() if path.split("/")[0] not in ("target", "logs")}
    return [
        *(f"docs/{page} is not what docs/generate.py writes: make docs" for page in _differences(pages, there)),
        *(f"dbt/{path} is not what prefect-runs dbt --write writes: make docs" for path in _differences(package, kept)),
    ]


def tree_problems(root: Path) -> list[str]:
    """What the working tree has that no commit has, and a tag of this version that is there already."""

    def git(*arguments: str) -> list[str]:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    tag = f"v{project(root)['version']}"
    return [
        *(f"not committed: {line[3:]}" for line in git("status", "--porcelain")),
        *(f"the tag {tag} is there already: this version was released" for found in git("tag", "--list", tag)),
    ]


def packaged(root: Path) -> dict[str, str]:
    """The files that the wheel is to hold: path in the wheel → path in the tree."""
    described = tomllib.loads((root / "pyproject.toml").read_text())
    folders: Mapping[str, str] = described["tool"]["setuptools"]["package-dir"]
    found = {}
    for package, folder in folders.items():
        for path in sorted((root / folder).rglob("*")):
            inside = path.relative_to(root / folder).as_posix()
            if path.is_file() and not any(fnmatch(f"/{inside}", pattern) for pattern in LEFT_BEHIND):
                found[f"{package}/{inside}"] = f"{folder}/{inside}"
    return found


def archive_problems(root: Path, wheel: Path, sdist: Path) -> list[str]:
    """What the built packages lack, and what does not belong into them."""
    files = packaged(root)
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        names = [PurePosixPath(member.name) for member in archive.getmembers() if member.isfile()]
    in_sdist = {"/".join(name.parts[1:]) for name in names}
    made = ("PKG-INFO", "setup.cfg", "MANIFEST.in", "README.md", "pyproject.toml", "*.egg-info/*")
    wanted = {*files.values(), *SDIST}
    strange = {name for name in in_sdist - wanted if not any(fnmatch(name, pattern) for pattern in made)}
    return [
        *(f"the wheel lacks {name}" for name in sorted(set(files) - in_wheel)),
        *(f"the wheel holds {name}, which is not in the tree" for name in sorted(in_wheel - set(files))),
        *(f"the sdist lacks {name}" for name in sorted(wanted - in_sdist)),
        *(f"the sdist holds {name}, which does not belong there" for name in sorted(strange)),
    ]


CHECKS: Mapping[str, Callable[[Path], list[str]]] = {
    "version": version_problems,
    "changelog": changelog_problems,
    "lock file": lock_problems,
    "docs and dbt package": docs_problems,
    "working tree": tree_problems,
}


def _pin_files(root: Path) -> list[str]:
    """constraints.txt, and the pins of every environment of its own."""
    folders = ("pipelines/local/servers", "benchmarks/environments")
    found = [path.relative_to(root).as_posix() for folder in folders for path in (root / folder).glob("*.txt")]
    return ["constraints.txt", *sorted(found)]


def _pins(lines: Iterable[str]) -> dict[str, str]:
    pinned = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {_name(name): version.strip() for name, _, version in pinned}


def _name(name: str) -> str:
    # as packaging's canonical names are
    return re.sub(r"[-_.]+", "-", name).lower()


def _texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _told(name: str, problems: list[str]) -> bool:
    print(f"{name}: {'good' if not problems else ''}".rstrip(), *problems, sep="\n  ", flush=True)
    return not problems


def main() -> int:
    """Run the checks, then build and look into what was built; 1 when anything is wrong."""
    # every check is run, for one learns all that is to be done at once
    good = [_told(name, check(ROOT)) for name, check in CHECKS.items()]
    if not all(good):
        return 1
    from compatibility import built, ran, tools

    version, dist = project(ROOT)["version"], ROOT / "dist"
    for old in dist.glob("*"):
        old.unlink()
    wheel, sdist = built(dist)
    if not _told("wheel and sdist", archive_problems(ROOT, wheel, sdist)):
        return 1
    ran([tools() / "twine", "check", "--strict", wheel, sdist])
    print(f"\n{wheel.name} and {sdist.name} are in dist/. Next, where they were not run on this commit:")
    print("  make test && make matrix && make compatibility")
    print("then:")
    print(f"  git tag -a v{version} -m 'prefect-runs {version}' && git push origin v{version}")
    print("  twine upload dist/*    with --repository-url, where your users install from an index of your own")
    return 0


if __name__ == "__main__":
    sys.exit(main())
