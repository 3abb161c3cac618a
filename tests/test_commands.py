"""The commands ``pinnfluence COMMAND``: in a clone, as a module, and installed from a wheel."""

import os
import re
import subprocess
import sys
import venv
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, assert_refused, run, run_well

from pinnfluence.commands import COMMANDS

MAIN = ROOT / "pinnfluence" / "__main__.py"
SCRIPTS = {name: name for name in COMMANDS if name != "indicators"} | {"scores": "calc_influences"}
HEAVY = ("torch", "numpy", "deepxde", "scipy", "matplotlib")


def test_every_module_is_a_command() -> None:
    files = {path.stem for path in (ROOT / "pinnfluence" / "commands").glob("[a-z]*.py")}
    assert files == set(COMMANDS)


@pytest.mark.parametrize("flags", [(), ("--help",)])
def test_all_commands_are_listed(flags: tuple[str, ...]) -> None:
    listed = " ".join(run_well(MAIN, *flags).stdout.split())
    for name, text in COMMANDS.items():
        assert f"{name} {text}" in listed


def test_an_unknown_command_is_refused() -> None:
    assert_refused(run(MAIN, "trian"), "'trian'", "train", "pinnfluence --help")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_is_its_script(name: str) -> None:
    text, script = run_well(MAIN, name, "--help").stdout, f"{SCRIPTS[name]}.py"
    of_script = run_well(ROOT / script, "--help").stdout
    assert text.split() == of_script.replace(script, f"pinnfluence {name}").split()
    assert_refused(run(MAIN, name, "--nonsense"), f"see pinnfluence {name} --help")


def test_help_waits_for_no_large_package() -> None:
    code = f"""
import sys
from pinnfluence.__main__ import main
sys.argv = ["pinnfluence"]
try:
    main()
finally:
    assert not set({HEAVY}) & sys.modules.keys(), sys.modules.keys()
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_flag_is_explained() -> None:
    for name in COMMANDS:
        parser = import_module(f"pinnfluence.commands.{name}").make_parser()
        for action in parser._actions:
            assert action.help, (name, action.dest)
            assert not re.search(r"  |[^.]\.$", action.help), (name, action.help)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_wheel_works_without_a_clone(tmp_path: Path) -> None:
    """Built, installed with its dependencies into an empty environment, and used there."""
    build: list[Any] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    bin_folder = tmp_path / "env" / "bin"
    pins = ("-c", ROOT / "constraints.txt")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(name: str, *arguments: object) -> str:
        words = [str(bin_folder / name), *map(str, arguments)]
        done = subprocess.run(words, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("pip", "install", "--quiet", *pins, wheel)
    assert str(tmp_path) in call("python", "-c", "import pinnfluence; print(pinnfluence.__file__)")
    call("pinnfluence", "--help")
    run_flags = ("--problem", "heat", "--variant", "bad", "--n_iterations", 20, "--layers", 2, 6, 1)
    call("pinnfluence", "train", *run_flags, "--n_iterations_lm", 5, "--save_path", "run")
    call("pinnfluence", "scores", "--checkpoint", "run", "--test_points", 20)
    call("pinnfluence", "diagnose", "--checkpoint", "run", "--fresh", 50)
    call("pinnfluence", "explore", "run_influences", "--checkpoint", "run", "-o", "run.html")
    flags = ("--removed", 3, "--proximal", 1e-3, "--processes", 1)
    call("python", "-m", "pinnfluence", "validate", "--checkpoint", "run", *flags)
    for file in ("run_influences", "run_diagnosis/report.html", "run.html", "run_validation"):
        assert (tmp_path / file).exists(), file
