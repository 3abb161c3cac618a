"""Influence that keeps its stages: stopped anywhere it goes on, and nothing is computed twice."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pinnfluence import Influence, InputError, Recipe
from pinnfluence.curvature import gram, matrix_store
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.influence import embeddings, fit
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage import stage_store
from pinnfluence.storage.stage_store import StageStore

KEY = "0123456789abcdef" * 4
LAYERS = (2, 4, 3)
PAPER = Recipe(rank=5)
FULL = recipe_of("gauss-newton", damping=1e-3)
AUTO = recipe_of("gauss-newton")


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in folder.glob("*.npz"))


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn(LAYERS), flow_points(12), flow_points(12, 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few points, each saved at once."""
    monkeypatch.setattr(embeddings, "BLOCK_POINTS", 10)
    monkeypatch.setattr(gram, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(stage_store, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(stage_store, "PART_OF_THE_TIME", np.inf)


def scores_of(case, recipe, folder: Path | None, **changes) -> bytes:
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, recipe, 20, stages_path=folder, **changes)
    scores = influence.influence(test_x)
    scores.metadata.pop("key", None)
    with tempfile.TemporaryDirectory() as out:
        return scores.save(Path(out) / "scores").read_bytes()


class Killed(BaseException):
    pass


class Stops:
    """Counts saves, and stops the computation behind some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n, self.every = 0, 10**9
        save = StageStore.save

        def counted(store, stage, arrays, facts=None):
            save(store, stage, arrays, facts)
            self.n += 1
            if self.n % self.every == 0:
                raise Killed

        monkeypatch.setattr(StageStore, "save", counted)


@pytest.mark.parametrize(
    "recipe",
    [
        PAPER,
        AUTO,
        pytest.param(FULL, marks=pytest.mark.slow),
        pytest.param(recipe_of("paper", rank=4, damping="auto"), marks=pytest.mark.slow),
    ],
)
def test_stopped_behind_each_save_and_gone_on(case, tmp_path, quick, monkeypatch, recipe) -> None:
    """Every stage begins where it was, and gives the bytes of a run that nothing stopped."""
    untouched = scores_of(case, recipe, None)
    stops = Stops(monkeypatch)
    assert scores_of(case, recipe, tmp_path / "whole") == untouched
    n, stops.n, stops.every = stops.n, 0, 3
    assert n > 12
    found = None
    while found is None:
        assert stops.n <= n
        with contextlib.suppress(Killed):
            found = scores_of(case, recipe, tmp_path / "stopped")
    assert found == untouched
    assert stops.n == n  # nothing was computed twice
    assert names(tmp_path / "stopped") == names(tmp_path / "whole")


def test_the_same_again_computes_nothing(case, tmp_path, monkeypatch) -> None:
    first = scores_of(case, PAPER, tmp_path / "s")
    for module, name in ((embeddings, "projection"), (Hessian, "matvec")):
        monkeypatch.setattr(module, name, None)
    assert scores_of(case, PAPER, tmp_path / "s") == first


def test_full_rank_again_needs_no_inverse(case, tmp_path, monkeypatch) -> None:
    first = scores_of(case, FULL, tmp_path / "s")
    for module, name in ((embeddings, "projection"), (fit, "invert"), (fit, "compress")):
        monkeypatch.setattr(module, name, None)
    assert scores_of(case, FULL, tmp_path / "s") == first


@pytest.mark.parametrize("recipe", [PAPER, FULL])
def test_other_test_points_take_the_fit(case, tmp_path, monkeypatch, recipe) -> None:
    pinn, train_x, test_x = case
    scores_of(case, recipe, tmp_path / "s")
    other = pinn, train_x, test_x[::2]
    expected = scores_of(other, recipe, None)
    monkeypatch.setattr(Hessian, "matvec", None)
    monkeypatch.setattr(GaussNewton, "_block", None)
    assert scores_of(other, recipe, tmp_path / "s") == expected


def test_a_matrix_serves_all_dampings(case, tmp_path, monkeypatch) -> None:
    """Even where the first damping was too small."""
    hessian = {"curvature": "hessian", "weighting": "uniform"}
    with pytest.raises(InputError, match="not positive definite"):
        scores_of(case, recipe_of("gauss-newton", **hessian, damping=1e-9), tmp_path / "s")
    assert names(tmp_path / "s") == ["matrix"]
    good = recipe_of("gauss-newton", **hessian, damping=1e3)
    expected = scores_of(case, good, None)
    monkeypatch.setattr(Hessian, "matvec", None)
    assert scores_of(case, good, tmp_path / "s") == expected


def test_test_stages_can_be_discarded(case, tmp_path) -> None:
    pinn, train_x, test_x = case
    for recipe, kept in (
        (PAPER, ["eigenpairs", "stationarity", "training_points"]),
        (AUTO, ["damping", "matrix", "stationarity"]),
    ):
        influence = Influence(pinn, train_x, recipe, stages_path=tmp_path / recipe.base)
        influence.influence(test_x)
        influence.discard_test_stages()
        assert names(tmp_path / recipe.base) == kept
        influence.discard_stages()
        assert names(tmp_path / recipe.base) == []


def test_the_matrix_is_half_on_disk(case, tmp_path, monkeypatch) -> None:
    pinn, train_x, _ = case
    monkeypatch.setattr(matrix_store, "COLUMNS", 8)
    curvature = GaussNewton(Loss.uniform(pinn.at(train_x)), Executor(7))
    store = matrix_store.MatrixStore(StageStore(tmp_path, KEY))
    M = curvature.dense(store=store)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 4 * M.shape[0] * (M.shape[0] + 8) + 6000
    monkeypatch.setattr(GaussNewton, "_block", None)
    again = curvature.dense(store=matrix_store.MatrixStore(StageStore(tmp_path, KEY)))
    np.testing.assert_array_equal(again, M)
