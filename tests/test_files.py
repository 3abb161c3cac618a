"""Files are written whole or not at all, and read as data."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from pinnfluence import InputError
from pinnfluence.storage.files import (
    Rows,
    atomic_writer,
    map_npz,
    write_bytes,
    write_npy,
    write_npz,
)


def test_memory_maps_of_any_array(tmp_path):
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "c": rng.random((3, 4)),
        "fortran": np.asfortranarray(rng.random((3, 4))),
        "ints": np.arange(5, dtype=np.int16),
        "empty": np.zeros((0, 3)),
    }
    np.savez(tmp_path / "numpy.npz", **arrays)
    write_npz(tmp_path / "ours.npz", arrays)
    for path in (tmp_path / "numpy.npz", tmp_path / "ours.npz"):
        found = map_npz(path)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
    with np.load(tmp_path / "ours.npz") as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)


def test_rows_that_do_not_fill_the_shape(tmp_path):
    for n in (2, 4):
        rows = Rows((3, 2), partial(lambda n: [np.zeros((n, 2), np.float32)], n))
        with pytest.raises(ValueError, match=r"a: expected shape \(3, 2\)"):
            write_npz(tmp_path / "a.npz", {"a": rows})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, b"what was there"])
@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_atomic_writer_leaves_nothing_behind(tmp_path, before, error):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def write() -> None:
        with atomic_writer(path) as stream:
            stream.write(b"half of it")
            assert not path.exists() or path.read_bytes() == before
            raise error

    with pytest.raises(type(error)):
        write()
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert left == ({} if before is None else {"file": before})


def test_atomic_files_are_as_readable_as_others(tmp_path):
    write_bytes(tmp_path / "folder" / "a", b"content")
    (tmp_path / "b").write_bytes(b"content")
    modes = {(tmp_path / name).stat().st_mode for name in ("folder/a", "b")}
    assert len(modes) == 1
    assert (tmp_path / "folder" / "a").read_bytes() == b"content"


def test_write_npy(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_npy(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npy(tmp_path / "a.npy", np.array([{}]))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)
