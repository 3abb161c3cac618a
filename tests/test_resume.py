"""train.py goes on where it stopped, bit for bit, and leaves other runs alone."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    QUICK,
    SHORT,
    SHORT_RUN_FILES,
    SMALL,
    TRAIN,
    assert_as_undisturbed,
    assert_refused,
    assert_same_weights,
    copy_of_short_run,
    files_below,
    history_of,
    kill,
    kill_after,
    run,
    run_well,
    short_run,
    snapshot,
    start,
)

from pinnfluence import MLP
from pinnfluence.problems.cylinder_flow import PROBLEM

# ---- the same command again


def test_a_finished_run_says_so_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = copy_of_short_run(tmp_path)
    before = snapshot(folder)
    result = run_well(TRAIN, *SHORT, "--save_path", folder)
    assert "was finished before, at step 130, loss" in result.stdout
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--lr", 0.01), ("lr = 0.001, found 0.01",)),
        (("--seed", 43), ("seed = 42, found 43",)),
        (("--n_iterations", 90), ("n_iterations = 80, found 90",)),
        (("--n_iterations_lbfgs", 60), ("n_iterations_lbfgs = 50, found 60",)),
        (("--layers", 2, 7, 3), ("layers = [2, 4, 4, 3], found [2, 7, 3]",)),
        (("--num_domain", 41), ("num_domain = 40, found 41",)),
        (("--num_boundary", 41), ("num_boundary = 40, found 41",)),
        (("--broken",), ("variant = good, found broken",)),
        (("--conditions", "published"), ("conditions = corrected, found published",)),
        (("--dtype", "float64"), ("dtype = float32, found float64",)),
    ],
)
def test_other_flags_are_refused(
    tmp_path: Path, flags: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    folder = copy_of_short_run(tmp_path)
    before = snapshot(folder)
    result = run(TRAIN, *SHORT, *flags, "--save_path", folder)
    assert_refused(result, str(folder), *words, "--restart")
    assert snapshot(folder) == before


def test_restart_moves_the_old_run_aside(tmp_path: Path) -> None:
    folder = copy_of_short_run(tmp_path)
    before = snapshot(folder)
    flags = (*SMALL, "--n_iterations", 1, "--n_iterations_lbfgs", 0, "--save_path", folder)
    for _ in range(2):  # twice within a second
        result = run_well(TRAIN, *flags, "--restart")
        assert "moved the old run" in result.stdout
    asides = sorted(path for path in tmp_path.iterdir() if path != folder)
    assert len(asides) == 2
    assert snapshot(asides[0]) == before
    assert files_below(folder) == [
        *("adam-1.pt", "config.json", "history.csv", "history.png", "state.pt", "train_x.npy")
    ]


def test_restart_without_an_old_run_begins_one(tmp_path: Path) -> None:
    flags = (*SMALL, "--n_iterations", 1, "--n_iterations_lbfgs", 0, "--restart")
    run_well(TRAIN, *flags, "--save_path", tmp_path / "run")
    assert (tmp_path / "run" / "adam-1.pt").is_file()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"layers": null}'])
def test_restart_moves_a_run_with_a_broken_config_aside(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(content)
    flags = (*SMALL, "--n_iterations", 0, "--n_iterations_lbfgs", 0, "--restart")
    run_well(TRAIN, *flags, "--save_path", tmp_path / "run")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (["config.json"], ("holds state.pt, but no config.json",)),
        (["config.json", "state.pt"], ("holds lbfgs-130.pt, but no config.json",)),
        (["state.pt"], ("holds lbfgs-130.pt, but no state.pt",)),
    ],
)
def test_an_incomplete_run_is_left_alone(
    tmp_path: Path, missing: list[str], words: tuple[str, ...]
) -> None:
    folder = copy_of_short_run(tmp_path)
    for name in missing:
        (folder / name).unlink()
    before = snapshot(folder)
    assert_refused(run(TRAIN, *SHORT, "--save_path", folder), *words, "--restart")
    assert snapshot(folder) == before


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "code", "tensor", "other run"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    folder = copy_of_short_run(tmp_path)
    state = folder / "state.pt"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-100])
    elif damage == "empty":
        state.write_bytes(b"")
    elif damage == "text":
        state.write_text("hello")
    elif damage == "code":
        torch.save({"state": RunsCode(tmp_path / "ran")}, state)
    elif damage == "tensor":
        torch.save(torch.zeros(3), state)
    else:
        content = torch.load(state, weights_only=True)
        content["network"] = MLP((2, 4, 3), "gelu", PROBLEM.network.scale).state_dict()
        torch.save(content, state)
    before = snapshot(folder)
    assert_refused(run(TRAIN, *SHORT, "--save_path", folder), "state.pt")
    assert snapshot(folder) == before
    assert not (tmp_path / "ran").exists()


def test_files_that_were_not_written_to_their_end_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = start(TRAIN, *SHORT, "--save_path", folder, prelude=QUICK)
    child.wait_for(folder / "state.pt")
    kill_after(child, 0.2)
    leftovers = [".state.pt.a1b2.tmp", ".lbfgs-999.pt.a1b2.tmp", ".config.json.a1b2.tmp"]
    for name in leftovers:
        (folder / name).write_bytes(b"half a fi")
    (folder / ".other.tmp").write_bytes(b"not ours")
    run_well(TRAIN, *SHORT, "--save_path", folder, prelude=QUICK)
    assert files_below(folder) == [".other.tmp", *SHORT_RUN_FILES]
    assert_same_weights(folder / "lbfgs-130.pt", short_run() / "lbfgs-130.pt")


# ---- interrupted


def seconds_of(folder: Path, phase: str, n_adam: int) -> float:
    """How long a phase took."""
    _, rows = history_of(folder)
    end_of_adam = rows[rows[:, 0] == n_adam, -1][0]
    return float(end_of_adam if phase == "adam" else rows[-1, -1] - end_of_adam)


@pytest.mark.parametrize("phase", ["adam", "lbfgs"])
def test_two_kills_do_not_change_a_bit(tmp_path: Path, phase: str) -> None:
    folder = tmp_path / "run"
    first = folder / ("state.pt" if phase == "adam" else "adam-80.pt")
    longest = 0.4 * seconds_of(short_run(), phase, 80)
    kill(folder, 2, SHORT, first, longest, QUICK)
    run_well(TRAIN, *SHORT, "--save_path", folder, prelude=QUICK)
    assert_as_undisturbed(folder, short_run())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("phase", ["adam", "lbfgs"])
def test_twenty_kills_do_not_change_a_bit(tmp_path: Path, phase: str) -> None:
    n_adam, n_lbfgs = (2000, 100) if phase == "adam" else (100, 1500)
    steps = ("--n_iterations", n_adam, "--n_iterations_lbfgs", n_lbfgs)
    flags = (*SMALL, *steps, "--save_seconds", 0)
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    run_well(TRAIN, *flags, "--save_path", undisturbed)
    first = folder / ("config.json" if phase == "adam" else f"adam-{n_adam}.pt")
    longest = seconds_of(undisturbed, phase, n_adam) / 10
    kill(folder, 20, flags, first, longest, "")
    run_well(TRAIN, *flags, "--save_path", folder)
    assert_as_undisturbed(folder, undisturbed)


STEP = """
import itertools, os, time
from pinnfluence.training.objective import TrainingLoss
calls, evaluate = itertools.count(1), TrainingLoss.evaluate
def evaluate_after(self):
    {beforehand}
    return evaluate(self)
TrainingLoss.evaluate = evaluate_after
"""
"""Does something before each evaluation of the loss; ``calls`` counts them, from 1."""


@pytest.mark.parametrize(
    ("phase", "number", "call"), [("adam", signal.SIGINT, 30), ("lbfgs", signal.SIGTERM, 105)]
)
def test_a_signal_ends_a_run_at_a_complete_state(
    tmp_path: Path, phase: str, number: int, call: int
) -> None:
    folder = tmp_path / "run"
    rarely = [*SHORT[:-1], 1000]
    kills_itself = f"next(calls) == {call} and os.kill(os.getpid(), {int(number)})"
    prelude = QUICK + STEP.format(beforehand=kills_itself)
    result = run(TRAIN, *rarely, "--save_path", folder, prelude=prelude)
    assert result.code == 130
    assert result.last_line.startswith(f"stopped ({phase}, step ")
    assert result.last_line.endswith("the same command goes on from there")
    assert "Traceback" not in result.stderr
    state = torch.load(folder / "state.pt", weights_only=True)["state"]
    assert state["phase"] == phase
    again = run_well(TRAIN, *rarely, "--save_path", folder, prelude=QUICK)
    assert f"from step {state['step']}" in again.stdout
    assert_as_undisturbed(folder, short_run())


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    waits = "[os.kill(os.getpid(), number) for number in (2, 15)]; time.sleep(3600)"
    prelude = QUICK + STEP.format(beforehand=waits)
    result = run(TRAIN, *SHORT, "--save_path", folder, prelude=prelude)
    assert result.code == 130
    assert result.last_line == "stopped at once; the same command goes on from the last save"


def test_a_signal_at_the_first_file_ends_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    prelude = QUICK + (
        "import os, signal\n"
        "from pinnfluence.training import run\n"
        "write = run.write_npy\n"
        "run.write_npy = lambda *a: write(*a) or os.kill(os.getpid(), signal.SIGINT)\n"
    )
    result = run(TRAIN, *SHORT, "--save_path", folder, prelude=prelude)
    assert result.code == 130
    assert result.last_line.startswith("stopped (adam, step ")
    run_well(TRAIN, *SHORT, "--save_path", folder, prelude=QUICK)
    assert_as_undisturbed(folder, short_run())


def test_a_signal_before_training_ends_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    prelude = (
        "import os, signal\n"
        "from pinnfluence.training import run_folder\n"
        "run_folder.prepare = lambda *a: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    result = run(TRAIN, *SHORT, "--save_path", folder, prelude=prelude)
    assert (result.code, result.stdout) == (130, "")
    assert result.stderr == "interrupted; nothing half-written remains\n"
    assert not folder.exists()


def test_the_real_command_stops_on_a_signal(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, TRAIN, *SMALL, "--save_path", folder]
    with subprocess.Popen([str(p) for p in command], stderr=subprocess.PIPE, text=True) as process:
        while not (folder / "train_x.npy").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        stderr = process.communicate()[1]
    assert process.returncode == 130
    assert stderr.strip().splitlines()[-1].startswith("stopped (adam, step ")
