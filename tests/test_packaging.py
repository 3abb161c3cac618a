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
MODELS = ("good", "broken", "bad", "best")
SEEDS = ("bad_43", "bad_44")

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


# ---- pins


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


# ---- wheel and texts


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
    expected = {p.relative_to(source).as_posix() for p in package.rglob("*") if p.is_file()}
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


# ---- make, with a stand-in for Python that writes down what it is asked to do

PYTHON_STUB = """#!/usr/bin/env bash
case "$(basename "$0") $*" in *"${FAIL:-nothing fails}"*) exit 1;; esac
case "$*" in
  "-c "*) exec REAL "$@";;
  "-m venv "*)
    mkdir -p "$3/bin"
    for tool in python ruff mypy jupyter mkdocs; do cp "$0" "$3/bin/$tool"; done;;
esac
echo "$(basename "$0") $*" >> calls.txt
case "$*" in
  calc_influences.py*)
    folder="${*: -1}"
    mkdir -p "$folder"
    echo scores > "$folder/influences.safetensors";;
  *train.py*)
    folder="${*: -1}"
    mkdir -p "$folder"
    touch "$folder"/{adam-2,lbfgs-3}.pt "$folder"/{train_x.npy,config.json,history.{csv,png}};;
  nbconvert*) mkdir -p build figures; touch build/eval.ipynb figures/1.png;;
  explore.py*) mkdir -p build; touch build/explorer.html;;
esac
"""


class Clone:
    """A fresh clone whose `python3` is the stub; `make` gives the calls it caused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for file in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / file, root)
        shutil.copytree(ROOT / ".ci", root / ".ci")
        (root / "pinnfluence").mkdir()
        files = [
            "pinnfluence/errors.py",
            "calc_influences.py",
            "train.py",
            "eval.ipynb",
            "explore.py",
        ]
        for model in (*MODELS, *SEEDS):
            (root / "model_zoo" / model).mkdir(parents=True)
            files += [f"model_zoo/{model}/lbfgs-1.pt", f"model_zoo/{model}/config.json"]
        for file in files:
            (root / file).touch()
            os.utime(root / file, (1, 1))
        self.stub = root / "python3"
        self.write_stub(PYTHON_STUB.replace("REAL", sys.executable))

    def write_stub(self, text: str) -> None:
        self.stub.write_text(text)
        self.stub.chmod(0o755)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        path = f"{self.root}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command, cwd=self.root, env=clean | {"PATH": path} | env, capture_output=True, text=True
        )

    def make(self, *targets: str) -> list[str]:
        calls = self.root / "calls.txt"
        calls.unlink(missing_ok=True)
        done = self.run("make", *targets)
        assert done.returncode == 0, done.stdout + done.stderr
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_setup_runs_again_only_when_its_inputs_change(clone: Clone) -> None:
    install = "python -m pip install -c constraints.txt -e .[notebook,dev,docs]"
    assert clone.make("setup") == ["python3 -m venv .venv", install]
    assert clone.make("setup") == []
    for file in ("pyproject.toml", "constraints.txt"):
        stamp = (clone.root / ".venv" / ".installed").stat().st_mtime
        os.utime(clone.root / file, (stamp + 1, stamp + 1))
        assert install in clone.make("setup")
        os.utime(clone.root / file, (1, 1))


def test_old_python_is_refused_in_one_line(clone: Clone) -> None:
    old = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])"
    clone.write_stub(f"#!/usr/bin/env bash\nexec {sys.executable} -c '{old}' \"$2\"\n")
    done = clone.run("make", "setup")
    assert done.returncode != 0
    message, *rest = done.stderr.strip().splitlines()
    assert message.startswith("pinnfluence needs Python 3.11 or newer, python3 is 3.10")
    assert all(line.startswith("make") for line in rest)
    assert not (clone.root / ".venv").exists()


PREDICTED = ("good", "broken", "bad")
NOTEBOOK = "jupyter nbconvert --to notebook --execute --output-dir build eval.ipynb"
EXPLORER = "python explore.py {} -o build/explorer.html".format(
    " ".join(f"model_zoo/{model}_gauss-newton_influences" for model in PREDICTED)
)


def paper(model: str) -> str:
    folder = f"model_zoo/{model}"
    return f"python calc_influences.py --checkpoint {folder} --save_path {folder}_influences"


def predicting(model: str) -> str:
    flags = "--recipe gauss-newton --test_points 1000"
    folder = f"model_zoo/{model}_gauss-newton_influences"
    return f"python calc_influences.py --checkpoint model_zoo/{model} {flags} --save_path {folder}"


def test_demo_makes_scores_then_figures_and_only_what_is_out_of_date(clone: Clone) -> None:
    everything = [*map(paper, MODELS), *map(predicting, PREDICTED), NOTEBOOK, EXPLORER]
    assert clone.make("demo")[2:] == everything
    assert clone.make("demo") == []
    os.utime(clone.root / "model_zoo" / "bad" / "lbfgs-1.pt")
    assert clone.make("demo") == [paper("bad"), predicting("bad"), NOTEBOOK, EXPLORER]
    (clone.root / "model_zoo" / "bad" / "state.pt").touch()  # a run state is no model
    assert clone.make("demo") == []
    os.utime(clone.root / "pinnfluence" / "errors.py")
    assert clone.make("demo") == everything
    shutil.rmtree(clone.root / "figures")
    assert clone.make("demo") == [NOTEBOOK]
    printed = clone.run("make", "demo").stdout
    assert str(clone.root / "figures") in printed
    assert str(clone.root / "build" / "explorer.html") in printed


def test_recipes_makes_further_scores_which_the_notebook_then_draws(clone: Clone) -> None:
    clone.make("demo")
    assert clone.make("recipes") == [*map(paper, SEEDS), *map(predicting, SEEDS)]
    assert clone.make("recipes") == []
    assert clone.make("demo") == [NOTEBOOK]
    assert clone.make("demo") == []
    os.utime(clone.root / "pinnfluence" / "errors.py")  # what make demo does not need stays
    assert not any("bad_4" in call for call in clone.make("demo"))


def test_zoo_trains_the_models(clone: Clone) -> None:
    of_a_fifth = "python train.py --num_domain 1500 --num_boundary 500"
    assert clone.make("zoo")[2:] == [
        "python train.py --save_path runs/good",
        "python train.py --broken --save_path runs/broken",
        "python train.py --num_domain 1500 --num_boundary 500 --save_path runs/bad",
        "python train.py --variant best --sampler rad --sampler_every 10 --save_path runs/best",
        "python train.py --variant best --num_domain 2500 --num_boundary 800 "
        "--n_iterations_lm 200 --save_path runs/overfit",
        "python train.py --start_from runs/good --n_iterations 0 --n_iterations_lbfgs 11206 "
        "--dtype float64 --save_path runs/good_float64",
        *(f"{of_a_fifth} --seed {seed} --save_path runs/bad_{seed}" for seed in (43, 44)),
        "python train.py --problem heat --n_iterations 15000 --n_iterations_lbfgs 5000 "
        "--n_iterations_lm 120 --dtype float64 --save_path runs/heat",
        "python train.py --problem burgers --n_iterations 5000 --n_iterations_lbfgs 3000 "
        "--n_iterations_lm 200 --dtype float64 --save_path runs/burgers",
    ]
    for model in (*MODELS, "good_float64", *SEEDS, "heat", "burgers"):
        found = sorted(file.name for file in (clone.root / "model_zoo" / model).iterdir())
        assert found == ["config.json", "history.csv", "history.png", "lbfgs-3.pt", "train_x.npy"]


def test_ci_lints_and_tests_a_fresh_clone(clone: Clone) -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    shutil.copy(clone.stub, clone.root / "chromium")  # present: nothing is installed
    done = clone.run(".ci/run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone.root / "calls.txt").read_text().splitlines()[2:] == [
        "ruff format --check .",
        "ruff check .",
        "mypy ",
        "python -m pytest",
        "mkdocs build --quiet --strict",
    ]


@pytest.mark.parametrize(
    ("target", "fails"),
    [
        ("setup", "-m pip"),
        ("lint", "ruff format"),
        ("lint", "ruff check"),
        ("lint", "mypy"),
        ("test", "-m pytest"),
        ("test-slow", "-m slow"),
        ("demo", "model_zoo/broken"),
        ("demo", "nbconvert"),
        ("demo", "explore.py"),
        ("bench", "one.py"),
        ("zoo", "--broken"),
    ],
)
def test_a_failing_step_fails_its_target(clone: Clone, target: str, fails: str) -> None:
    (clone.root / "benchmarks").mkdir()
    for script in ("one.py", "two.py"):
        (clone.root / "benchmarks" / script).touch()
    assert clone.run("make", target, FAIL=fails).returncode != 0
    clone.make(target)
