"""Memory: its peak on all systems, batches that fit into it, score files that stay on disk."""

import sys
import tracemalloc

import numpy as np
import pytest
import torch

from pinnfluence import Influence, load_scores
from pinnfluence.influence import batch_size as batch_sizes
from pinnfluence.runtime import memory
from pinnfluence.runtime.memory import peak_bytes
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores

# ---- its peak


def test_the_peak_grows_with_what_is_held() -> None:
    before = peak_bytes()
    held = bytearray(before + 200_000_000)
    assert 0.5 < peak_bytes() / (before + len(held)) < 2


def test_macos_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = peak_bytes()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_bytes() == pytest.approx(linux / 1024, rel=0.1)


def test_without_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which has no such module."""
    peak = peak_bytes()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.1 * peak < peak_bytes() < 1.2 * peak


# ---- batch size


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn((2, 4, 3)), flow_points(12), flow_points(12, 1)


def test_batch_size_from_memory(case, monkeypatch) -> None:
    pinn, train_x, _ = case
    many = pinn.at(np.tile(train_x, (20, 1)))
    found = {}
    for free in (10**12, 10**8, 10**7, 10**6, 10**5, 0):
        monkeypatch.setattr(batch_sizes, "free_bytes", lambda device, free=free: free)
        found[free] = batch_sizes.default_batch_size(many)
    assert found[10**12] == batch_sizes.FASTEST == 500
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found[0] == 1
    each = batch_sizes.bytes_of_a_point(many)
    for free, size in found.items():
        assert any(500 >> k == size for k in range(9))
        assert size == 1 or size * each <= free / 4
    assert Influence(pinn, train_x).executor.batch_size == 1
    monkeypatch.undo()
    assert batch_sizes.default_batch_size(pinn.at(train_x)) == len(train_x)


def test_free_memory_is_that_of_the_machine_or_its_group(tmp_path, monkeypatch) -> None:
    device = torch.device("cpu")
    assert 10**7 < memory.free_bytes(device) < 10**15
    monkeypatch.setattr(memory, "_group_bytes", lambda: [123])
    assert memory.free_bytes(device) == 123


# ---- score files are mapped


def test_a_row_of_a_big_file_costs_little_memory(tmp_path) -> None:
    rng, n_test, n_train, rank = np.random.default_rng(0), 60_000, 100, 64
    test = {
        name: Embedding(
            rng.standard_normal((n_test, rank), np.float32), np.arange(n_test, dtype=np.int32)
        )
        for name in ("u", "v")
    }
    values = rng.standard_normal((n_train, rank), np.float32)
    train = {"r": Embedding(values, np.arange(n_train, dtype=np.int32))}
    x = rng.random((n_test, 2), np.float32)
    groups: dict[str, list[str]] = {"pde": [], "bcs": [], "all": []}
    metadata = {"terms": ["r"], "groups": groups, "recipe": {}}
    scores = Scores(x[:n_train], x, train, test, metadata, np.ones(rank))
    path = scores.save(tmp_path)
    expected = np.asarray(scores["u"][777])
    assert path.stat().st_size > 30e6
    tracemalloc.start()
    loaded = load_scores(path)
    found = loaded["u"][777]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, expected)
    assert isinstance(loaded, Scores)
    for embedding in (*loaded.test.values(), *loaded.train.values()):
        assert isinstance(embedding.values, np.memmap)
    assert loaded.metadata["groups"] == metadata["groups"]
    assert peak < 3e6
