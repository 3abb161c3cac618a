"""Dense score files in the published layout against the scores that they hold."""

import zipfile

import numpy as np
import pytest
from small_scores import N_TEST, N_TRAIN, OUTPUTS, make_scores, one_line

from pinnfluence import Scores, load_scores
from pinnfluence.scores import matrix as matrix_module
from pinnfluence.scores.dense import DENSE_FILE_NAME, DenseScores
from pinnfluence.scores.matrix import FactoredMatrix
from pinnfluence.storage.files import map_npz

DENSE_KEYS = {
    **{f"output_dim_{i}": name for i, name in enumerate(OUTPUTS)},
    "influences_pde": "pde",
    "bcs": "bcs",
    "all_loss_terms": "all",
}


@pytest.fixture
def scores() -> Scores:
    return make_scores()


@pytest.fixture
def dense_path(scores, tmp_path):
    return scores.save_dense(tmp_path)


def test_published_layout(scores, dense_path):
    assert dense_path.name == DENSE_FILE_NAME == "influence_arrs.npz"
    with np.load(dense_path, allow_pickle=False) as file:
        assert set(file) == {*DENSE_KEYS, "train_x", "test_x"}
        assert {array.dtype for array in file.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(file["train_x"], scores.train_x)
        np.testing.assert_array_equal(file["test_x"], scores.test_x)
        for key, quantity in DENSE_KEYS.items():
            assert file[key].shape == (N_TEST, N_TRAIN)
            np.testing.assert_array_equal(file[key], np.asarray(scores[quantity]))


def test_dense_file_is_written_block_by_block(scores, dense_path, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_module, "BLOCK_ELEMENTS", 5 * N_TRAIN)
    other = map_npz(scores.save_dense(tmp_path / "blocks.npz"))
    for name, array in map_npz(dense_path).items():
        np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-6)


def test_load_dense(scores, dense_path):
    found = load_scores(dense_path)
    assert isinstance(found, DenseScores)
    assert list(found) == list(DENSE_KEYS.values())
    np.testing.assert_array_equal(found.train_x, scores.train_x)
    np.testing.assert_array_equal(found.test_x, scores.test_x)
    for quantity in found:
        np.testing.assert_array_equal(np.asarray(found[quantity]), np.asarray(scores[quantity]))
        np.testing.assert_allclose(
            np.asarray(found.matrix(quantity, scale="paper")),
            np.asarray(scores[quantity]) * N_TRAIN,
            rtol=1e-6,
        )
    with pytest.raises(KeyError, match="no quantity 'noslip', expected one of u, v, p"):
        found["noslip"]
    with pytest.raises(ValueError, match="sums over all loss terms"):
        found.matrix("u", "noslip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale must be"):
        found.matrix("u", scale="mean")


def test_dense_arrays_are_memory_maps(dense_path):
    arrays = map_npz(dense_path)
    for array in arrays.values():
        base = array if isinstance(array, np.memmap) else array.base
        assert isinstance(base, np.memmap)
        assert not array.flags.writeable


def test_compressed_dense_file(scores, dense_path, tmp_path):
    with np.load(dense_path) as file:
        np.savez_compressed(tmp_path / "compressed.npz", **file)
    found = load_scores(tmp_path / "compressed.npz")
    for quantity in found:
        np.testing.assert_array_equal(np.asarray(found[quantity]), np.asarray(scores[quantity]))


def test_other_names_of_outputs(dense_path):
    assert list(load_scores(dense_path, outputs=("T",))) == ["T", "pde", "bcs", "all"]


def test_dense_file_with_a_byte_missing(dense_path):
    content = dense_path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 10):
        dense_path.write_bytes(content[:size])
        one_line(dense_path, "is no npz archive or is truncated; make it again")


def test_foreign_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, weights=np.zeros(3))
    one_line(path, "none of the keys output_dim_0, .* found, only weights")
    np.savez(path, output_dim_0=np.array([{}, None]))
    one_line(path, "holds Python objects")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("output_dim_0.npy", "no array")
    one_line(path, "is not a dense score file")


@pytest.mark.parametrize(
    "change",
    [
        {"output_dim_0": np.zeros(N_TRAIN, np.float32)},
        {"bcs": np.zeros((N_TEST, N_TRAIN + 1), np.float32)},
        {"bcs": np.zeros((N_TEST - 1, N_TRAIN), np.float32)},
        {"train_x": np.zeros((N_TRAIN - 1, 2), np.float32)},
    ],
)
def test_dense_shapes_that_do_not_fit(dense_path, change):
    with np.load(dense_path) as file:
        content = dict(file) | change
    np.savez(dense_path, **content)
    one_line(dense_path, "shape")


def test_an_error_in_a_dense_file_leaves_the_old_one(scores, dense_path, monkeypatch):
    before = dense_path.read_bytes()
    monkeypatch.setattr(FactoredMatrix, "_block", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scores.save_dense(dense_path)
    assert [file.name for file in dense_path.parent.iterdir()] == [dense_path.name]
    assert dense_path.read_bytes() == before
