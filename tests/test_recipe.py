"""Recipes: their names, their settings, and the flags that change them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CALC, assert_refused, run, run_well, short_run

import pinnfluence
from pinnfluence import GAUSS_NEWTON, PAPER, InputError, Recipe
from pinnfluence.curvature.recipe import damping_of, rank_of, recipe_of
from pinnfluence.influence import estimate


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (PAPER, "paper"),
        (GAUSS_NEWTON, "gauss-newton"),
        (Recipe(rank=20), "paper, rank 20"),
        (recipe_of("paper", rank=50), "paper"),
        (recipe_of("paper", rank="full", damping="auto"), "paper, rank full, damping auto"),
        (
            recipe_of("gauss-newton", weighting="uniform", damping=1e-3, rank=None),
            "gauss-newton, weighting uniform, damping 0.001",
        ),
        (recipe_of("gauss-newton", leverage=True), "gauss-newton, leverage"),
        (
            recipe_of("paper", curvature="gauss-newton", threshold=0.0),
            "paper, curvature gauss-newton, threshold 0",
        ),
    ],
)
def test_names(recipe, name):
    assert recipe.name == recipe.metadata()["name"] == name
    settings = {key: value for key, value in recipe.metadata().items() if key != "name"}
    assert Recipe(**settings) == recipe


def test_the_two_recipes():
    assert Recipe("paper", "hessian", "uniform", 50, 1e-6, 1e-5) == PAPER
    assert GAUSS_NEWTON.settings() | {"threshold": 0} == {
        "curvature": "gauss-newton",
        "weighting": "training",
        "rank": "full",
        "damping": "auto",
        "threshold": 0,
        "leverage": False,
        "inverse": "full",
    }


def test_from_text():
    assert (rank_of("20"), rank_of("full")) == (20, "full")
    assert (damping_of("1e-3"), damping_of("auto")) == (1e-3, "auto")
    with pytest.raises(InputError, match="expected recipe paper or gauss-newton, found best"):
        recipe_of("best")


# ---- on the command line


@pytest.fixture(scope="module")
def test_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("points") / "test_x.npy"
    np.save(path, np.load(short_run() / "train_x.npy")[::3])
    return path


def arguments(test_x: Path, *flags: Any) -> tuple[Any, ...]:
    return (CALC, "--checkpoint", short_run(), "--test_x_path", test_x, *flags)


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (("--recipe", "gauss-newton"), {}),
        (("--recipe", "gauss-newton", "--damping", "1e-2"), {"damping": 1e-2}),
        (("--rank", "7", "--weighting", "training"), {"rank": 7, "weighting": "training"}),
        (("--curvature", "gauss-newton", "--damping", "auto"), None),
    ],
)
def test_flags(test_x: Path, tmp_path: Path, flags: tuple[Any, ...], changes: Any) -> None:
    changes = {"curvature": "gauss-newton", "damping": "auto"} if changes is None else changes
    base = "gauss-newton" if "--recipe" in flags else "paper"
    recipe = recipe_of(base, **changes)
    result = run_well(*arguments(test_x, *flags, "--save_path", tmp_path / "scores"))
    found = pinnfluence.load_scores(tmp_path / "scores")
    assert isinstance(found, pinnfluence.Scores)
    assert found.recipe == recipe.metadata()
    assert f"\nrecipe {recipe.name} (" in result.stdout
    trained, points = pinnfluence.load_model(short_run()), np.load(test_x)
    expected = pinnfluence.Influence(trained.pinn, trained.train_x, recipe).influence(points)
    for name in expected:
        scale = abs(np.asarray(expected[name])).max()
        np.testing.assert_allclose(
            np.asarray(found[name]), np.asarray(expected[name]), rtol=0, atol=1e-4 * scale
        )


def test_full_rank_says_how_it_was_compressed(test_x: Path, tmp_path: Path) -> None:
    flags = ("--recipe", "gauss-newton", "--save_path", tmp_path / "scores")
    result = run_well(*arguments(test_x, *flags))
    assert re.search(r"^compressed to rank \d+ from \d+ test points; ", result.stdout, re.M)
    assert re.search(r"^damping auto: \d", result.stdout, re.M)
    for name in ("u", "speed", "momentum_x", "all"):
        pattern = rf"^  {name} +training points [\d.e+-]+ [\d.e+-]+, test points [\d.e+-]+"
        assert re.search(pattern, result.stdout, re.M), name


def test_same_bytes(test_x: Path, tmp_path: Path) -> None:
    for name in "ab":
        flags = ("--recipe", "gauss-newton", "--save_path", tmp_path / name)
        run_well(*arguments(test_x, *flags))
    one, other = ((tmp_path / name / "influences.safetensors").read_bytes() for name in "ab")
    assert one == other


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rank", "half"), ("--rank", "'half'")),
        (("--rank", "0"), ("rank must be at least 1 or full, found 0",)),
        (("--damping=-1",), ("damping must be a number of at least 0 or auto, found -1",)),
        (("--damping", "some"), ("--damping", "'some'")),
        (("--curvature", "best"), ("expected curvature gauss-newton or hessian, found best",)),
        (("--weighting", "none"), ("expected weighting uniform or training, found none",)),
        (("--recipe", "best"), ("expected recipe paper or gauss-newton, found best",)),
        (("--rank", "full"), ("most negative eigenvalue", "larger --damping")),
    ],
)
def test_what_is_refused(test_x: Path, tmp_path: Path, flags: Any, words: tuple[str, ...]) -> None:
    folder = tmp_path / "scores"
    assert_refused(run(*arguments(test_x, *flags, "--save_path", folder)), *words)
    assert not (folder / "influences.safetensors").exists()


@pytest.mark.parametrize("flags", [{}, {"rank": 20}, {"curvature": "hessian"}, {"damping": 1.0}])
def test_the_estimate_knows_the_recipe(
    test_x: Path, flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "_seconds", lambda function: (function(), 1e-3)[1])
    trained, points = pinnfluence.load_model(short_run()), np.load(test_x)
    recipe = recipe_of("gauss-newton", **flags)
    influence = pinnfluence.Influence(trained.pinn, trained.train_x, recipe)
    cost = estimate.cost(influence, points, False)
    assert 1e-3 < cost.seconds < 60
    assert 4e8 < cost.memory_bytes < 4e9
    assert cost.disk_bytes > 0
