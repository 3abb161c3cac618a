"""The package as a stranger meets it: metadata, pins, wheel, Makefile, conda environment."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
ALONE = ("pina", "workflow")
EXTRAS = {n: needs for n, needs in PROJECT["optional-dependencies"].items() if n not in ALONE}
"""Those that ``make setup`` installs; PINA brings Lightning and PyTorch Geometric along, and
Snakemake needs an older packaging."""
DIRECT = [Requirement(text) for text in sum(EXTRAS.values(), PROJECT["dependencies"])]

# Left unpinned: the installers, and what torch's CUDA builds bring, each pinned by torch itself.
UNPINNED = re.compile(r"(pip|setuptools|triton|nvidia-.*|cuda-.*)")


def read_constraints() -> dict[str, Version]:
    pins: dict[str, Version] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
            pins[canonicalize_name(name)] = Version(version)
    return pins


PINS = read_constraints()


def copy_package(target: Path) -> Path:
    """What an installation needs, and nothing else."""
    shutil.copytree(
        ROOT / "pinnfluence",
        target / "pinnfluence",
        ignore=shutil.ignore_patterns("__pycache__", "*.tmp"),
    )
    for file in ("pyproject.toml", "constraints.txt", "environment.yml", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / file, target)
    if "readme" in PROJECT:
        shutil.copy(ROOT / PROJECT["readme"], target)
    return target


def pip_section() -> list[str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    return next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_direct_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    assert requirement.specifier, f"{requirement.name} has no range"
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin), f"{requirement} does not admit the pin {pin}"


def test_constraints_hold_everything_that_is_needed_at_the_installed_version() -> None:
    waiting, seen, wrong = list(DIRECT), set(), []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or UNPINNED.fullmatch(name):
            continue
        seen.add(key)
        installed = importlib.metadata.distribution(name)
        if name not in PINS or Version(installed.version).public != str(PINS[name]):
            wrong.append(f"{name}=={installed.version}, pinned: {PINS.get(name)}")
        for child in map(Requirement, installed.requires or []):
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(child)
    assert not wrong
    assert len(seen) > len(DIRECT)
    assert set(PINS) == {name for name, _ in seen}, "pins that nothing needs"


def test_conda_environment_installs_the_same_as_make_setup() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "pinnfluence"
    assert {"python=3.11", "pip"} <= {e for e in environment["dependencies"] if isinstance(e, str)}
    assert pip_section() == ["-c constraints.txt", "-e .[notebook,dev,docs]"]
    assert '-c constraints.txt -e ".[notebook,dev,docs]"' in (ROOT / "Makefile").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_conda_pip_section_installs_into_a_fresh_environment(tmp_path: Path) -> None:
    source = copy_package(tmp_path)
    (source / "requirements.txt").write_text("\n".join(pip_section()) + "\n")
    venv.create(source / "env", with_pip=True)
    python = source / "env" / "bin" / "python"

    def call(*args: str) -> str:
        env = os.environ | {"DDE_BACKEND": "pytorch"}
        done = subprocess.run([python, *args], cwd=source, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("-m", "pip", "install", "--quiet", "-r", "requirements.txt")
    call("-m", "pip", "check")
    installed = dict(
        line.split("==") for line in call("-m", "pip", "freeze", "--exclude-editable").splitlines()
    )
    versions = {canonicalize_name(n): Version(v).public for n, v in installed.items()}
    pinned = {n: v for n, v in versions.items() if not UNPINNED.fullmatch(n)}
    assert pinned == {name: str(version) for name, version in PINS.items()}
    call("-c", "import pinnfluence, deepxde, captum, skfem, nbconvert")


def test_wheel_holds_every_module_and_the_reference_data(tmp_path: Path) -> None:
    source = copy_package(tmp_path)
    (source / "pinnfluence" / "reference").mkdir(exist_ok=True)
    (source / "pinnfluence" / "reference" / "influence_probe.npz").touch()  # an ignored name
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = (source / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"pinnfluence-{PROJECT['version']}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    package = source / "pinnfluence"
    files = (p.relative_to(source) for p in package.rglob("*") if p.is_file())
    expected = {p.as_posix() for p in files if "node_modules" not in p.parts}
    assert "pinnfluence/reference/influence_probe.npz" in expected
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {"pinnfluence", info}
    assert f"{info}/licenses/LICENSE" in names
    assert "pinnfluence = pinnfluence.__main__:main" in entry_points.splitlines()
    assert "License-Expression: BSD-3-Clause-Clear" in metadata.splitlines()
    assert "Requires-Python: >=3.11" in metadata.splitlines()


def test_citation_agrees_with_the_package_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("PINNfluence: Influence Functions")
    assert paper["identifiers"][0]["value"] == "arXiv:2409.08958"
    assert all(author.keys() == {"given-names", "family-names"} for author in paper["authors"])


def test_license_and_changelog() -> None:
    license_text = (ROOT / "LICENSE").read_text()
    assert license_text.startswith("The Clear BSD License\n")
    assert "Copyright (c) 2026 The PINNfluence developers" in license_text
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "[Unreleased]"
    dated = [re.fullmatch(r"\[(.+)\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:]]
    versions = [Version(match[1]) for match in dated if match]
    assert len(versions) == len(dated)
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == Version(PROJECT["version"])


def test_a_release_needs_the_tag_of_its_version_and_its_changelog(tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    jobs = workflow["jobs"]
    check = next(s["run"] for s in jobs["build"]["steps"] if "changelog" in s.get("name", ""))
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    for file in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / file, tmp_path)

    def passes(tag: str) -> bool:
        env = os.environ | {"GITHUB_REF_NAME": tag}
        return subprocess.run(["bash", "-ec", check], cwd=tmp_path, env=env).returncode == 0

    assert passes(f"v{PROJECT['version']}")
    assert not passes("v99.0.0")
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    assert not passes(f"v{PROJECT['version']}")
