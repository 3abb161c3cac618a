"""The Makefile in a fresh clone, with commands that only note their arguments."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("good", "broken", "bad", "best")
SEEDS = ("bad_43", "bad_44")
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
        "python train.py --variant best --num_domain 1000 --num_boundary 1000 "
        "--n_iterations_lm 400 --sampler rard --sampler_mode add --sampler_every 10 "
        "--sampler_points 100 --patience 100 --save_path runs/best",
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
