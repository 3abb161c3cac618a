"""calc_influences.py: what it reads and writes, that it repeats itself."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import TERMS
from calc_runs import calc, some_reference_points, written
from helpers import (
    CALC,
    assert_refused,
    run,
    run_well,
    snapshot,
)

import pinnfluence

QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")


@pytest.fixture(scope="module")
def test_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_reference_points(tmp_path_factory.mktemp("points"))


def test_scores_hold_everything_a_reader_needs(model: Path, test_x: Path, tmp_path: Path) -> None:
    result = calc(model, test_x, "--save_path", tmp_path / "scores")
    assert list(written(tmp_path / "scores")) == ["influences.safetensors"]
    assert f"wrote {tmp_path / 'scores' / 'influences.safetensors'}" in result.stdout
    scores = pinnfluence.load_scores(tmp_path / "scores")
    assert isinstance(scores, pinnfluence.Scores)
    np.testing.assert_array_equal(scores.train_x, np.load(model / "train_x.npy"))
    np.testing.assert_array_equal(scores.test_x, np.load(test_x))
    assert set(scores) == {*QUANTITIES, *TERMS}
    metadata = scores.metadata
    assert metadata["recipe"]["name"] == "paper"
    assert metadata["checkpoint"]["name"] == "lbfgs-130.pt"
    assert metadata["config"]["layers"] == [2, 4, 4, 3]
    assert metadata["config"]["scale"] == [2.2, 0.41]
    assert metadata["versions"]["torch"] == torch.__version__
    assert metadata["dtype"] == "float64"
    assert set(metadata["stationarity"]["losses"]) == set(TERMS)


def test_scores_are_those_of_the_library(model: Path, test_x: Path, tmp_path: Path) -> None:
    calc(model, test_x, "--save_path", tmp_path / "scores")
    found = pinnfluence.load_scores(tmp_path / "scores")
    trained = pinnfluence.load_model(model)
    points = np.load(test_x)
    expected = pinnfluence.Influence(trained.pinn, trained.train_x, "paper").influence(points)
    for quantity in QUANTITIES:
        np.testing.assert_allclose(
            np.asarray(found[quantity][:]), np.asarray(expected[quantity][:]), rtol=1e-5, atol=1e-9
        )


def test_prints_the_losses_the_recipe_and_how_far_from_stationary(
    model: Path, test_x: Path
) -> None:
    result = calc(model, test_x)
    out = result.stdout
    assert "lbfgs-130.pt: problem cylinder_flow, variant good, conditions corrected, " in out
    assert "activation gelu, scale 2.2 0.41\n" in out
    for term in TERMS:
        assert re.search(rf"^  {term} +\d\.\d+e[-+]\d+$", out, re.MULTILINE), term
    assert "estimate: " in out
    assert "recipe paper (reproduces the paper; hardly predicts retraining): " in out
    assert "smallest eigenvalue seen" in out
    assert "stationarity: ||grad L||" in out
    assert (model.parent / "run_influences" / "influences.safetensors").is_file()


def test_a_file_and_its_folder_are_the_same_checkpoint(
    model: Path, test_x: Path, tmp_path: Path
) -> None:
    calc(model, test_x, "--save_path", tmp_path / "a")
    calc(model / "lbfgs-130.pt", test_x, "--save_path", tmp_path / "b")
    calc(model / "adam-80.pt", test_x, "--save_path", tmp_path / "c")
    a, b, c = (snapshot(tmp_path / name)["influences.safetensors"] for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("checkpoint", "folder"),
    [(".", "run_influences"), ("lbfgs-130.pt", "run/lbfgs-130_influences")],
)
def test_the_default_folder_is_beside_the_checkpoint(
    model: Path, test_x: Path, checkpoint: str, folder: str
) -> None:
    calc(Path(checkpoint), test_x, cwd=model)
    assert list(written(model.parent / folder)) == ["influences.safetensors"]


def test_what_a_checkpoint_does_not_say_is_printed_as_assumed(model: Path, test_x: Path) -> None:
    (model / "config.json").unlink()
    out = calc(model, test_x, "--scale", 2, 0.5, "--conditions", "corrected").stdout
    assert "variant good (assumed), conditions corrected, " in out
    assert "activation gelu (assumed), scale 2.0 0.5\n" in out


def test_a_scale_that_contradicts_the_config_is_refused(model: Path, test_x: Path) -> None:
    result = run(CALC, "--checkpoint", model, "--test_x_path", test_x, "--scale", 1, 1)
    assert_refused(result, "--scale 1.0 1.0", "2.2 0.41")


def test_the_same_input_gives_the_same_bytes(model: Path, test_x: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        calc(model, test_x, "--dense", "--save_path", tmp_path / name)
    assert snapshot(tmp_path / "first") == snapshot(tmp_path / "second")
    assert len(written(tmp_path / "first")) == 2


def test_dense_holds_the_published_keys(model: Path, test_x: Path, tmp_path: Path) -> None:
    calc(model, test_x, "--dense", "--save_path", tmp_path / "scores")
    assert list(written(tmp_path / "scores")) == ["influence_arrs.npz", "influences.safetensors"]
    scores = pinnfluence.load_scores(tmp_path / "scores")
    with np.load(tmp_path / "scores" / "influence_arrs.npz", allow_pickle=False) as arrays:
        outputs = [f"output_dim_{i}" for i in range(4)]
        losses = ["influences_pde", "bcs", "all_loss_terms"]
        assert set(arrays) == {*outputs, *losses, "train_x", "test_x"}
        for key, quantity in zip([*outputs, *losses], QUANTITIES, strict=True):
            assert arrays[key].dtype == np.float32
            np.testing.assert_array_equal(arrays[key], np.asarray(scores[quantity][:]))


def test_float32_is_close_to_float64(model: Path, test_x: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        calc(model, test_x, "--dtype", dtype, "--save_path", tmp_path / dtype)
    single, double = (pinnfluence.load_scores(tmp_path / name) for name in ("float32", "float64"))
    for quantity in QUANTITIES:
        a, b = (np.asarray(scores[quantity][:]) for scores in (single, double))
        assert np.abs(a - b).max() < 1e-2 * np.abs(b).max(), quantity
        assert np.abs(a - b).max() > 0


@pytest.mark.parametrize("batch_size", [33, 80])
def test_batch_size_does_not_change_scores(
    model: Path, test_x: Path, tmp_path: Path, batch_size: int
) -> None:
    calc(model, test_x, "--save_path", tmp_path / "default")
    calc(model, test_x, "--batch_size", batch_size, "--save_path", tmp_path / "other")
    for quantity in QUANTITIES:
        a, b = (
            np.asarray(pinnfluence.load_scores(tmp_path / name)[quantity][:])
            for name in ("default", "other")
        )
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(a).max())


def test_other_training_points_can_be_given(model: Path, test_x: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.load(model / "train_x.npy")[::2])
    (model / "train_x.npy").unlink()
    flags = ("--train_x_path", tmp_path / "few.npy", "--save_path", tmp_path / "scores")
    calc(model, test_x, *flags)
    assert pinnfluence.load_scores(tmp_path / "scores")["u"].shape[1] == 40


def test_one_point_is_enough(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([[1.0, 0.2]]))
    flags = ("--train_x_path", tmp_path / "one.npy", "--save_path", tmp_path / "scores")
    result = calc(model, tmp_path / "one.npy", *flags)
    assert "loss term inflow_u acts on no training point" in result.stderr
    assert pinnfluence.load_scores(tmp_path / "scores")["u"].shape == (1, 1)


def test_without_test_points_the_reference_is_taken(model: Path) -> None:
    result = run_well(CALC, "--checkpoint", model, "--dry-run", "--device", "cpu", "--threads", 1)
    assert "estimate: " in result.stdout


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--broken",), ("--variant broken contradicts", "which says good")),
        (("--variant", "bad"), ("--variant bad contradicts", "which says good")),
        (("--conditions", "published"), ("--conditions published", "which says corrected")),
        (("--activation", "tanh"), ("--activation tanh", "which says gelu")),
        (("--layers", 2, 7, 3), ("--layers 2 7 3", "which says 2 4 4 3")),
    ],
)
def test_a_flag_that_contradicts_config_is_refused(
    model: Path, test_x: Path, flags: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    before = snapshot(model.parent)
    result = calc(model, test_x, *flags, well=False)
    assert_refused(result, *words, str(model / "config.json"))
    assert snapshot(model.parent) == before


def test_flags_that_agree_with_config_change_nothing(
    model: Path, test_x: Path, tmp_path: Path
) -> None:
    flags = ("--problem", "cylinder_flow", "--variant", "good", "--conditions", "corrected")
    more = ("--activation", "gelu", "--layers", 2, 4, 4, 3)
    calc(model, test_x, "--save_path", tmp_path / "a")
    calc(model, test_x, *flags, *more, "--save_path", tmp_path / "b")
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), {"variant": "good", "conditions": "corrected", "activation": "gelu"}),
        (("--broken",), {"variant": "broken"}),
        (("--variant", "bad"), {"variant": "bad"}),
        (("--conditions", "published"), {"conditions": "published"}),
        (("--activation", "tanh", "--layers", 2, 4, 4, 3), {"activation": "tanh"}),
    ],
)
def test_without_config_flags_say_what_was_trained(
    model: Path, test_x: Path, flags: tuple[Any, ...], expected: dict[str, str]
) -> None:
    (model / "config.json").unlink()
    calc(model, test_x, *flags)
    scores = pinnfluence.load_scores(model.parent / "run_influences")
    assert isinstance(scores, pinnfluence.Scores)
    assert {key: scores.metadata["config"][key] for key in expected} == expected


def test_an_implausible_activation_is_warned_about(model: Path, test_x: Path) -> None:
    (model / "config.json").unlink()
    assert "zero field" not in calc(model, test_x, "--dry-run").stderr
    result = calc(model, test_x, "--activation", "sigmoid", "--dry-run")
    assert "warning: the loss" in result.stderr
    assert "that of a zero field, so scores are probably of a wrong model" in result.stderr


def test_config_in_the_score_file_is_that_of_the_run(model: Path, test_x: Path) -> None:
    calc(model, test_x)
    scores = pinnfluence.load_scores(model.parent / "run_influences")
    assert isinstance(scores, pinnfluence.Scores)
    stated = json.loads((model / "config.json").read_text())
    assert scores.metadata["config"] == {k: v for k, v in stated.items() if v is not None}
