"""What a dry run says of stages that are there already, and that it leaves their time out."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import CALC, run_well, short_run, snapshot

from pinnfluence import PAPER, Influence
from pinnfluence.curvature import gram
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.influence import embeddings, estimate
from pinnfluence.influence.kept import kept_stages
from pinnfluence.storage import stage_store
from pinnfluence.storage.stage_store import StageStore

FULL = recipe_of("gauss-newton", damping=1e-3)
HESSIAN = recipe_of("gauss-newton", curvature="hessian", damping=1e4)
LEVERAGE = recipe_of("gauss-newton", damping=1e-3, leverage=True)
AUTO = recipe_of("gauss-newton")
LOW_AUTO = recipe_of("paper", rank=4, damping="auto")
WHOLE = {
    PAPER: ("eigenpairs", "training points"),
    LOW_AUTO: ("eigenpairs", "damping", "training points"),
    FULL: ("curvature", "damping", "factorisation", "compression"),
    HESSIAN: ("curvature", "damping", "factorisation", "compression"),
    LEVERAGE: ("curvature", "damping", "factorisation", "leverage", "compression"),
    AUTO: ("curvature", "damping", "factorisation", "compression"),
}
recipes = pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=pytest.mark.slow) if recipe in (HESSIAN, LOW_AUTO) else recipe
        for recipe in WHOLE
    ],
    ids=lambda recipe: recipe.name,
)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn((2, 6, 5, 3)), flow_points(12), flow_points(12, 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, each saved at once; every trial of the estimate takes a second."""
    monkeypatch.setattr(embeddings, "BLOCK_POINTS", 10)
    monkeypatch.setattr(gram, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(stage_store, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(stage_store, "PART_OF_THE_TIME", np.inf)
    monkeypatch.setattr(estimate, "_seconds", lambda function: 1.0)


def influence_of(case, recipe, folder: Path) -> Influence:
    return Influence(case[0], case[1], recipe, 10, stages_path=folder)


def parts(case, recipe, folder: Path, test_x=None) -> dict[str, float]:
    test_x = case[2] if test_x is None else test_x
    found = kept_stages(influence_of(case, recipe, folder), test_x)
    return {name: part for name, part in found.items() if part}


def seconds(case, recipe, folder: Path, restart: bool = False) -> float:
    return estimate.cost(influence_of(case, recipe, folder), case[2], False, restart).seconds


@recipes
def test_all_is_kept_after_a_run(case, tmp_path: Path, recipe) -> None:
    """Except, for other test points, what depends on the test points."""
    assert parts(case, recipe, tmp_path) == {}
    before = seconds(case, recipe, tmp_path)
    influence_of(case, recipe, tmp_path).influence(case[2])
    everything = (*WHOLE[recipe], "stationarity", "test points")
    assert parts(case, recipe, tmp_path) == dict.fromkeys(everything, 1.0)
    assert seconds(case, recipe, tmp_path) == 0
    assert seconds(case, recipe, tmp_path, restart=True) == before > 0
    found = parts(case, recipe, tmp_path, case[2][::2])
    expected = {*WHOLE[recipe], "stationarity"} - {"factorisation", "compression"}
    if recipe in (FULL, HESSIAN, LEVERAGE):  # its damping is given
        expected -= {"damping"}
    assert found == dict.fromkeys(expected, 1.0)


class Killed(BaseException):
    pass


@recipes
def test_what_is_left_shrinks_with_each_save(case, tmp_path: Path, monkeypatch, recipe) -> None:
    """A computation that is stopped behind some of its saves, and goes on."""
    save, n = StageStore.save, 0

    def stopped(store, stage, arrays, facts=None):
        nonlocal n
        save(store, stage, arrays, facts)
        n += 1
        if n % 9 in (0, 4):
            raise Killed

    monkeypatch.setattr(StageStore, "save", stopped)
    left, seen = [seconds(case, recipe, tmp_path)], set()
    while left[-1] > 0:
        with contextlib.suppress(Killed):
            influence_of(case, recipe, tmp_path).influence(case[2])
        before = snapshot(tmp_path)
        left.append(seconds(case, recipe, tmp_path))
        found = parts(case, recipe, tmp_path)
        assert all(0 < part <= 1 for part in found.values())
        seen |= {name for name, part in found.items() if part < 1}
        assert snapshot(tmp_path) == before  # looking changes nothing
    assert left == sorted(left, reverse=True)
    long = "curvature" if not recipe.is_low_rank else "training points"
    assert seen == {long, "test points"}


def test_stages_of_others_and_damaged_ones_do_not_count(case, tmp_path: Path) -> None:
    influence_of(case, PAPER, tmp_path).influence(case[2])
    for path in tmp_path.glob("eigenpairs-*"):
        path.write_bytes(path.read_bytes()[:100])
    assert "eigenpairs" not in parts(case, PAPER, tmp_path)
    before = snapshot(tmp_path)
    assert parts(case, recipe_of("paper", rank=3), tmp_path) == {}
    assert snapshot(tmp_path) == before


def test_dry_run(tmp_path: Path) -> None:
    shutil.copytree(short_run(), tmp_path / "run")
    flags = ("--checkpoint", tmp_path / "run", "--test_x_path", tmp_path / "run" / "train_x.npy")
    line = "kept, and left out of the time: "
    assert line not in run_well(CALC, *flags, "--dry-run").stdout
    run_well(CALC, *flags)
    before = snapshot(tmp_path)
    out = run_well(CALC, *flags, "--dry-run").stdout
    assert f"{line}eigenpairs, stationarity, training points\n" in out
    assert line not in run_well(CALC, *flags, "--dry-run", "--restart").stdout
    assert snapshot(tmp_path) == before
