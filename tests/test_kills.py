"""calc_influences.py goes on where it was killed, with the bytes of a run that was left alone."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CALC, assert_refused, kill_after, run, run_well, short_run, snapshot, start

from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.storage.lock import LOCK

SAVES = """
from pinnfluence.storage import stage_store
from pinnfluence.curvature import gram
from pinnfluence.influence import embeddings
stage_store.SAVE_SECONDS, stage_store.PART_OF_THE_TIME = 0, 1e9
embeddings.BLOCK_POINTS = 20
gram.BLOCK_BYTES = 10_000
"""
"""Blocks of few points, each saved at once, so that a short run has many states."""

RECIPES = {"paper": ("--rank", 5), "gauss-newton": ("--recipe", "gauss-newton")}
FILE = "influences.safetensors"


@pytest.fixture(scope="module")
def test_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test points of all kinds: some of the reference solution's, which has all boundaries."""
    assert PROBLEM.reference is not None
    path = tmp_path_factory.mktemp("points") / "test_x.npy"
    np.save(path, PROBLEM.reference().points[::500])
    return path


def flags(recipe: str, test_x: Path, folder: Path) -> tuple[Any, ...]:
    points = ("--test_x_path", test_x, "--batch_size", 20)
    return ("--checkpoint", short_run(), *points, *RECIPES[recipe], "--save_path", folder)


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A folder of finished scores that a test may spoil."""
    return shutil.copytree(finished_once, tmp_path / "scores")


@pytest.fixture(scope="module")
def finished_once(test_x: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "scores"
    run_well(CALC, *flags("paper", test_x, folder))
    return folder


def kill_often(recipe: str, test_x: Path, tmp_path: Path, n_kills: int) -> None:
    """Kill a run at random moments again and again; whenever it gets to its end, compare."""
    untouched, folder = tmp_path / "untouched", tmp_path / "killed"
    command = flags(recipe, test_x, untouched)  # trains the model, if nothing did yet
    began = time.monotonic()
    run_well(CALC, *command, prelude=SAVES)
    seconds, random_numbers, n_killed = time.monotonic() - began, random.Random(0), 0
    while True:
        child = start(CALC, *flags(recipe, test_x, folder), prelude=SAVES)
        if n_killed < n_kills:
            result = kill_after(child, 0.6 * seconds * random_numbers.random())
            if result.code == -signal.SIGKILL:
                n_killed += 1
                continue
        assert child.wait().code == 0, child.wait().stderr
        files = snapshot(folder)
        files.pop(LOCK, None)  # of a run that was killed when all but its lock was there
        assert files == snapshot(untouched)
        assert len(files) > 2
        if n_killed == n_kills:
            return
        seconds /= 2  # it got to its end: kill it sooner
        shutil.rmtree(folder)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_kills_do_not_change_a_bit(recipe: str, test_x: Path, tmp_path: Path) -> None:
    kill_often(recipe, test_x, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recipe", RECIPES)
def test_twenty_kills_do_not_change_a_bit(recipe: str, test_x: Path, tmp_path: Path) -> None:
    kill_often(recipe, test_x, tmp_path, 20)


def test_what_a_killed_run_was_writing_goes(test_x: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    (folder / ".stages").mkdir(parents=True)
    for path in (folder / f".{FILE}.x1y2.tmp", folder / ".stages" / ".eigenpairs-0.npz.z.tmp"):
        path.write_bytes(b"half of it")
    run_well(CALC, *flags("paper", test_x, folder))
    assert not [name for name in snapshot(folder) if name.endswith(".tmp")]


def test_finished_scores_are_not_made_again(test_x: Path, finished: Path) -> None:
    folder = finished
    before, changed = snapshot(folder), (folder / FILE).stat().st_mtime_ns
    again = run_well(CALC, *flags("paper", test_x, folder))
    assert f"{folder} holds these scores already; --restart makes them again" in again.stdout
    assert "estimate" not in again.stdout
    assert (folder / FILE).stat().st_mtime_ns == changed
    dense = run_well(CALC, *flags("paper", test_x, folder), "--dense")
    assert f"wrote {folder / 'influence_arrs.npz'}" in dense.stdout
    (folder / "influence_arrs.npz").unlink()
    restarted = run_well(CALC, *flags("paper", test_x, folder), "--restart")
    assert "as saved" not in restarted.stderr
    assert (folder / FILE).stat().st_mtime_ns > changed
    assert snapshot(folder) == before


def test_other_settings_make_other_scores(test_x: Path, finished: Path, tmp_path: Path) -> None:
    """In the same folder: what belongs to the old ones is taken where it fits, else removed."""
    folder, other = finished, tmp_path / "other"
    few = tmp_path / "few.npy"
    np.save(few, np.load(test_x)[::2])
    result = run_well(CALC, *flags("paper", few, folder))
    assert "eigenpairs: as saved" in result.stderr
    run_well(CALC, *flags("paper", few, other))
    assert snapshot(folder) == snapshot(other)
    result = run_well(CALC, *flags("paper", few, folder), "--rank", 4)
    assert "as saved" not in result.stderr
    assert len(snapshot(folder)) == len(snapshot(other))


def test_a_damaged_stage_is_computed_again(test_x: Path, finished: Path) -> None:
    folder = finished
    before = snapshot(folder)
    (folder / FILE).unlink()
    damaged = sorted((folder / ".stages").iterdir())
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-30])
    result = run_well(CALC, *flags("paper", test_x, folder))
    for path in damaged:
        assert f"warning: {path} is damaged; computing it again" in result.stderr
    assert snapshot(folder) == before


def test_bad_input_writes_no_stages(test_x: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scores"
    result = run(CALC, *flags("paper", test_x, folder), "--batch_size", 81)
    assert_refused(result, "from 1 to the 80 training points")
    assert not folder.exists()
