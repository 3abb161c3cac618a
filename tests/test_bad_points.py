"""Points that cannot be used, as files of training and of test points."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CALC, run
from refusals import calc_is_refused

import pinnfluence
from pinnfluence.errors import InputError


def spoil(points: np.ndarray, row: int, *values: float) -> np.ndarray:
    points = points.copy()
    points[row] = values
    return points


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: spoil(x, 7, np.nan, 0), ("points are NaN or infinite, the first is row 7",)),
        (lambda x: spoil(x, 0, np.inf, 0), ("points are NaN or infinite, the first is row 0",)),
        (lambda x: x[:, 0], ("of shape [n, 2], found (80,)",)),
        (lambda x: np.c_[x, x[:, 0]], ("of shape [n, 2], found (80, 3)",)),
        (lambda x: np.zeros((5, 2), int), ("expected float32 or float64, found int64",)),
        (lambda x: x.astype(object), ("not a readable .npy file of plain numbers",)),
        (lambda x: x[:0], ("no ", " points, expected at least one")),
        (lambda x: x - 1, ("of 80 points lie outside the domain, the first is row 0",)),
        (lambda x: spoil(x, 3, 0.2, 0.2), ("1 of 80", "row 3 (0.2, 0.2), 0.05 away")),
        (lambda x: spoil(x, 4, 2.2 + 1e-5, 0.2), ("1 of 80", "row 4 (2.20001, 0.2), 1e-05 away")),
        (lambda x: spoil(x.astype(float), 5, 1e300, 0.2), ("1 of 80", "row 5 (inf, 0.2)")),
    ],
)
def test_bad_points(model: Path, side: str, change: Any, words: tuple[str, ...]) -> None:
    path = model.parent / "x.npy"
    np.save(path, change(np.load(model / "train_x.npy")), allow_pickle=True)
    calc_is_refused(model, str(path), *words, flags=(f"--{side}_x_path", path))


def test_repeated_points_are_told(model: Path) -> None:
    points = np.load(model / "train_x.npy")
    for n_more, told in ((3, False), (5, True)):  # one is there twice already
        np.save(model / "train_x.npy", np.concatenate([points, points[:n_more]]))
        flags = ("--test_x_path", model / "train_x.npy", "--dry-run")
        result = run(CALC, "--checkpoint", model, *flags)
        assert result.code == 0
        assert ("training points are repeated" in result.stderr) == told, result.stderr
    assert "warning: 6 of 85 training points" in result.stderr


def test_points_a_rounding_outside_are_inside(model: Path) -> None:
    points = spoil(np.load(model / "train_x.npy"), 4, float(np.float32(2.2)) + 5e-7, 0.2)
    np.save(model.parent / "x.npy", points)
    flags = ("--test_x_path", model.parent / "x.npy", "--dry-run")
    assert run(CALC, "--checkpoint", model, *flags).code == 0


def test_missing_training_points(model: Path) -> None:
    (model / "train_x.npy").unlink()
    flags = ("--test_x_path", "/none.npy")
    calc_is_refused(model, f"no training points at {model / 'train_x.npy'}", flags=flags)


@pytest.mark.parametrize("length", [0, 5, 50, 200, -1])
def test_truncated_points(model: Path, length: int) -> None:
    path = model / "train_x.npy"
    path.write_bytes(path.read_bytes()[:length])
    flags = ("--test_x_path", "/none.npy")
    calc_is_refused(model, "train_x.npy is not a readable .npy file", flags=flags)


def test_masked_points(model: Path) -> None:
    """Their hidden numbers were taken as points."""
    points = np.ma.masked_array(np.load(model / "train_x.npy"))
    pinnfluence.load_model(model, points)
    points[3] = np.ma.masked
    with pytest.raises(InputError, match="training points are masked; give the others"):
        pinnfluence.load_model(model, points)
    trained = pinnfluence.load_model(model)
    for use in (trained.predict, trained.loss_density):
        with pytest.raises(InputError, match="masked"):
            use(points)
    with pytest.raises(InputError, match="masked"):
        pinnfluence.Influence(trained.pinn, points)


def claims(shape: str) -> bytes:
    """A file whose header claims another shape than its 16 numbers have."""
    file = io.BytesIO()
    np.save(file, np.zeros((8, 2), np.float32))
    header = file.getvalue()
    return header.replace(b"(8, 2), }" + b" " * (len(shape) - 6), f"{shape}, }}".encode())


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((5, 2), np.complex64), "expected float32 or float64, found complex64"),
        (np.zeros((5, 2), np.float16), "expected float32 or float64, found float16"),
        (np.zeros((5, 2), bool), "expected float32 or float64, found bool"),
        (np.zeros((5, 2), "U3"), "expected float32 or float64, found <U3"),
        (np.zeros(5, [("x", "f4"), ("y", "f4")]), "of shape [n, 2], found (5,)"),
        (np.float32(1.5), "of shape [n, 2], found ()"),
        (np.zeros((0, 2), np.float32), "expected at least one"),
        (claims("(99999999999999, 2)"), "not a readable .npy file"),
        (claims("(-8, 2)"), "not a readable .npy file"),
        (claims("(8, -2)"), "not a readable .npy file"),
        (b"x,y\n0.1,0.2\n", "not a readable .npy file"),
    ],
)
def test_unfit_points(model: Path, side: str, content: Any, words: str) -> None:
    path = model.parent / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    calc_is_refused(model, str(path), words, flags=(f"--{side}_x_path", path))


def test_an_archive_of_points(model: Path) -> None:
    path = model.parent / "x.npz"
    np.savez(path, np.zeros((5, 2), np.float32))
    calc_is_refused(
        model, f"{path}: expected test points", "an archive", flags=("--test_x_path", path)
    )


def test_points_that_are_a_folder_or_a_checkpoint(model: Path) -> None:
    calc_is_refused(model, f"no test points at {model}", flags=("--test_x_path", model))
    path = model / "lbfgs-130.pt"
    calc_is_refused(model, f"{path}: expected test points", flags=("--test_x_path", path))
