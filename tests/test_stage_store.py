"""Stages on disk: what is kept, what is taken again, what is damaged or another's."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pinnfluence.storage import stage_store
from pinnfluence.storage.stage_store import StageStore

KEY = "0123456789abcdef" * 4
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.zeros((0, 4), np.float32)}


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in folder.glob("*.npz"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "s", KEY)
    assert store.load("one") is None
    facts = {"x": 0.1 + 0.2, "y": float("inf"), "z": None}
    store.save("one", ARRAYS, facts)
    saved = StageStore(tmp_path / "s", KEY).load("one")
    assert saved is not None
    assert saved.facts == facts
    for name, array in ARRAYS.items():
        assert saved.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(saved.arrays[name], array)


def test_without_a_folder_nothing_is_kept() -> None:
    store = StageStore(None)
    store.save("one", ARRAYS)
    assert store.load("one") is None
    assert store.load_parts("one") == []
    assert not store.is_due()


def test_files_of_another_key_are_removed(tmp_path: Path) -> None:
    old, new = (StageStore(tmp_path, key) for key in (KEY, KEY[::-1]))
    for store in (old, new):
        store.save("one", ARRAYS)
        store.save("two", ARRAYS)
        store.save_part("three", 0, ARRAYS)
    assert len(names(tmp_path)) == 6
    assert new.load("one") is not None
    assert len(new.load_parts("three")) == 1
    assert names(tmp_path) == ["one", "three.0000", "two", "two"]


def test_parts(tmp_path: Path) -> None:
    store = StageStore(tmp_path, KEY)
    for number in range(3):
        store.save_part("one", number, {"a": np.full(2, number)})
    assert [int(part.arrays["a"][0]) for part in store.load_parts("one")] == [0, 1, 2]
    store.save("one", ARRAYS)
    store.remove_parts("one")
    assert names(tmp_path) == ["one"]
    store.remove("one")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "bit", "text", "no facts", "facts", "pickle", "renamed"]
)
def test_a_damaged_file_is_computed_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StageStore(tmp_path, KEY)
    store.save("one", ARRAYS, {"x": 1})
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[content.index(np.float64(5).tobytes())] ^= 1
    kept = {"empty": b"", "cut": bytes(content[:-40]), "bit": bytes(content)}
    path.write_bytes(kept.get(damage, b"hello"))
    if damage == "no facts":
        with zipfile.ZipFile(path, "w"):
            pass
    elif damage == "renamed":
        other = StageStore(tmp_path, KEY)
        other.save("two", ARRAYS, {"x": 1})
        other._path("two").rename(path)
    elif damage == "facts":
        np.savez(path, facts=np.frombuffer(b"{", np.uint8))
    elif damage == "pickle":
        np.savez(path, facts=np.array([{}], object))
    assert store.load("one") is None
    error = capsys.readouterr().err
    assert error == f"warning: {path} is damaged; computing it again\n"
    assert not path.exists()


def test_a_folder_that_cannot_be_written_costs_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    store = StageStore(tmp_path / "file" / "stages", KEY)
    for _ in range(2):
        store.save("one", ARRAYS)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot save the stages in" in error
    assert store.load("one") is None


FORGED = {
    "a list": b"[1]",
    "a number": b"3",
    "empty": b"",
    "nested": b"[" * 100_000 + b"]" * 100_000,
}
"""Facts that a store does not write."""


@pytest.mark.parametrize("facts", FORGED)
def test_a_forged_file_is_computed_again(
    tmp_path: Path, facts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, with the right key, and not what a store wrote."""
    store = StageStore(tmp_path, KEY)
    text = np.frombuffer(FORGED[facts], np.uint8)
    np.savez(store._path("one"), allow_pickle=False, facts=text, **ARRAYS)
    assert store.facts("one") is None
    assert store.load("one") is None
    assert "is damaged; computing it again" in capsys.readouterr().err


def test_an_array_that_is_missing_is_seen(tmp_path: Path) -> None:
    store = StageStore(tmp_path, KEY)
    store.save("one", ARRAYS, {"x": 1})
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        members = {name: file[name] for name in file.files if name != "a"}
    np.savez(path, allow_pickle=False, **members)
    assert store.load("one") is None


def test_a_flipped_bit_of_a_stage_is_never_a_number(tmp_path: Path) -> None:
    """Also in the headers of the arrays, where a smaller shape would leave numbers out."""
    store = StageStore(tmp_path, KEY)
    store.save("one", ARRAYS, {"x": 1})
    (path,) = tmp_path.iterdir()
    good, n_refused = path.read_bytes(), 0
    rng = np.random.default_rng(0)
    for position in rng.permutation(len(good))[:400]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        saved = store.load("one")
        if saved is None:
            n_refused += 1
            continue
        assert saved.facts == {"x": 1}
        assert saved.arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert saved.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(saved.arrays[name], array)
    assert n_refused > 200


def test_a_store_leaves_what_another_process_is_writing(tmp_path: Path) -> None:
    (tmp_path / ".one-012.npz.x1y2.tmp").write_bytes(b"half")
    StageStore(tmp_path, KEY).load("one")
    assert len(list(tmp_path.iterdir())) == 1


def test_saving_waits_and_takes_a_tenth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, cost = 0.0, 20.0
    monkeypatch.setattr(stage_store.time, "monotonic", lambda: now)

    def write(path: Path, arrays: object) -> None:
        nonlocal now
        now += cost

    monkeypatch.setattr(stage_store, "write_npz", write)
    store = StageStore(tmp_path, KEY)
    now += 29
    assert not store.is_due()
    now += 1
    assert store.is_due()
    store.save("one", {})
    now += 199
    assert not store.is_due()
    now += 1
    assert store.is_due()
