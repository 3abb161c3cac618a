"""Files of points: what is read, and what is refused."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import RunsCode

from pinnfluence import InputError
from pinnfluence.storage import checkpoint


def refuse_points(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checkpoint.load_points(path, 2, "training")


def test_points_are_read_as_float32(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((4, 2))
    for dtype in (np.float32, np.float64):
        np.save(tmp_path / "x.npy", points.astype(dtype))
        found = checkpoint.load_points(tmp_path / "x.npy", 2, "training")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, points.astype(np.float32))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((4, 3)), re.escape("expected training points of shape [n, 2], found (4, 3)")),
        (np.zeros(4), re.escape("found (4,)")),
        (np.zeros((4, 2, 1)), re.escape("found (4, 2, 1)")),
        (np.array(1.0), re.escape("found ()")),
        (np.zeros((4, 2), int), "expected float32 or float64, found int64"),
        (np.zeros((4, 2), bool), "found bool"),
        (np.zeros((4, 2), complex), "found complex128"),
        (np.zeros((4, 2), "U3"), "found <U3"),
        (np.zeros((0, 2)), "no training points, expected at least one"),
        (np.array([[0, 0], [np.nan, 0], [0, np.inf]]), "2 training points are NaN.* row 1"),
    ],
)
def test_unfit_points_are_refused(tmp_path: Path, points: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", points)
    refuse_points(tmp_path / "x.npy", message)


def test_points_that_would_run_code_are_refused(tmp_path: Path) -> None:
    objects = np.empty((1, 2), object)
    objects[:] = RunsCode(tmp_path / "ran")
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    refuse_points(tmp_path / "x.npy", "not a readable .npy file of plain numbers")
    (tmp_path / "x.npy").write_bytes(pickle.dumps(objects))
    refuse_points(tmp_path / "x.npy", "not a readable .npy file of plain numbers")
    assert not (tmp_path / "ran").exists()


def test_other_files_are_no_points(tmp_path: Path) -> None:
    refuse_points(tmp_path / "none.npy", "no training points at")
    refuse_points(tmp_path, "no training points at")
    np.savez(tmp_path / "x.npz", points=np.zeros((4, 2)))
    refuse_points(tmp_path / "x.npz", "found an archive")
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    good = (tmp_path / "x.npy").read_bytes()
    for length in range(len(good)):
        (tmp_path / "y.npy").write_bytes(good[:length])
        refuse_points(tmp_path / "y.npy", "not a readable")
    (tmp_path / "y.npy").write_bytes(b"PK\\x03\\x04" + good)
    refuse_points(tmp_path / "y.npy", "not a readable")
