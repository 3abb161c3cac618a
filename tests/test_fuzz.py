"""Files damaged at random: every reader refuses them in bounded time, or reads what was there."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scores import make_scores

from pinnfluence import MLP, load_scores
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.storage import checkpoint
from pinnfluence.storage.config import RunConfig, load_config, save_config
from pinnfluence.storage.stage_store import StageStore
from pinnfluence.training.history import read_history

KEY = "0123456789abcdef" * 4
SECONDS = 20
"""For a file of a few kilobytes, on a machine that is busy with other things."""

Damage = Callable[[bytes], bytes]


def _at(content: bytes, place: float) -> int:
    return min(int(place * len(content)), len(content) - 1)


def _flip(places: list[tuple[float, int]]) -> Damage:
    def damage(content: bytes) -> bytes:
        damaged = bytearray(content)
        for place, bit in places:
            damaged[_at(content, place)] ^= 1 << bit
        return bytes(damaged)

    return damage


def _replace(place: float, n: int, by: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        start = _at(content, place)
        return content[:start] + by + content[start + n :]

    return damage


PLACE = st.floats(0, 1)
DAMAGE = st.one_of(
    st.builds(_flip, st.lists(st.tuples(PLACE, st.integers(0, 7)), min_size=1, max_size=4)),
    st.builds(lambda place: lambda content: content[: _at(content, place)], PLACE),
    st.builds(_replace, PLACE, st.integers(0, 40), st.binary(max_size=40)),
)


@dataclass
class Reader:
    """A file, how it is read, and whether it carries a checksum: then only what was written is."""

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    has_checksum: bool


def network() -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP((2, 5, 4, 3), "gelu", PROBLEM.network.scale)


def read_weights(path: Path) -> bytes:
    weights = checkpoint.load_weights(path, 2, 3)
    return b"".join(name.encode() + w.numpy().tobytes() for name, w in sorted(weights.items()))


def write_legacy(path: Path) -> None:
    content = {"model_state_dict": network().state_dict()}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_state(path: Path) -> None:
    checkpoint.write_tensors(
        path, {"state": {"step": 3, "rows": [[1.0, None]]}, "rng": torch.ones(4)}
    )


def read_state(path: Path) -> str:
    return repr(checkpoint.read_tensors(path))


def read_scores(path: Path) -> bytes:
    with warnings.catch_warnings(action="ignore"):  # of version 1
        scores = load_scores(path)
    parts = [np.asarray(scores[name]).tobytes() for name in scores]
    return repr(list(scores)).encode() + b"".join(parts)


def write_stage(path: Path) -> None:
    StageStore(path.parent, KEY).save("one", {"a": np.arange(6.0).reshape(2, 3)}, {"x": 1})
    StageStore(path.parent, KEY)._path("one").rename(path)


def read_stage(path: Path) -> str:
    store = StageStore(path.parent / "stages", KEY)
    store._path("one").parent.mkdir(exist_ok=True)
    store._path("one").write_bytes(path.read_bytes())
    store.facts("one")
    store.arrays_of_parts("one")
    saved = store.load("one")
    if saved is None:
        raise ValueError
    return repr(saved)


def write_history(path: Path) -> None:
    path.write_text("step,pde,error_u,seconds\n0,1.5,,0.1\n100,0.25,0.5,2.5\n")


READERS = {
    "model.pt": Reader(
        lambda path: checkpoint.save_checkpoint(path, network().state_dict(), {}),
        read_weights,
        True,
    ),
    "legacy.pt": Reader(write_legacy, read_weights, False),
    "state.pt": Reader(write_state, read_state, True),
    "points.npy": Reader(
        lambda path: np.save(path, np.random.default_rng(0).random((9, 2), np.float32)),
        lambda path: checkpoint.load_points(path, 2, "training"),
        False,
    ),
    "config.json": Reader(
        lambda path: save_config(
            path, RunConfig.of({"layers": [2, 3, 1], "seed": 4, "versions": {"a": "1"}}, "")
        ),
        load_config,
        False,
    ),
    "influences.safetensors": Reader(
        lambda path: make_scores().save(path.parent), read_scores, True
    ),
    "influence_arrs.npz": Reader(
        lambda path: make_scores().save_dense(path.parent), read_scores, False
    ),
    "stage.npz": Reader(write_stage, read_stage, True),
    "history.csv": Reader(write_history, read_history, False),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    reader, path = READERS[name], tmp_path / name
    reader.write(path)
    good, expected = path.read_bytes(), reader.read(path)

    @settings(
        max_examples=400,
        deadline=1000 * SECONDS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(DAMAGE)
    def check(damage: Damage) -> None:
        path.write_bytes(damage(good))
        try:
            read = reader.read(path)
        except ValueError as error:  # InputError is one
            refusals.append(str(error))
        else:
            assert not reader.has_checksum or read == expected

    refusals: list[str] = []
    check()
    assert len(refusals) > 100
    assert not [line for line in refusals if "\n" in line]


def test_what_a_file_of_random_bytes_gives(tmp_path: Path) -> None:
    for name, reader in READERS.items():
        for n in (0, 1, 9, 1000):
            (tmp_path / name).write_bytes(np.random.default_rng(n).bytes(n))
            with pytest.raises(ValueError):  # noqa: PT011
                reader.read(tmp_path / name)
