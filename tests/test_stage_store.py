"""Stages on disk: what is kept, what is taken again, what is recognised as another's."""

import contextlib
import dataclasses
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pinnfluence import Equation, Influence, InputError, Recipe, load_scores
from pinnfluence.curvature import gram, matrix_store
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.influence import batch_size as batch_sizes
from pinnfluence.influence import embeddings, fit, identity
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime import memory
from pinnfluence.runtime.executor import Executor
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores
from pinnfluence.storage import stage_store
from pinnfluence.storage.stage_store import StageStore

KEY = "0123456789abcdef" * 4
LAYERS = (2, 4, 3)
PAPER = Recipe(rank=5)
FULL = recipe_of("gauss-newton", damping=1e-3)
AUTO = recipe_of("gauss-newton")
ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.zeros((0, 4), np.float32)}


def names(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[0] for path in folder.glob("*.npz"))


# ---- the store


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


# ---- influence with stages


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
    path = scores.save(Path(os.environ["PYTEST_TMP"]) / "scores")
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path / "out"))


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


@pytest.mark.parametrize("recipe", [PAPER, FULL, AUTO, recipe_of("paper", rank=4, damping="auto")])
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


def without_last_digit(pinn, flow_pinn):
    other = flow_pinn(LAYERS)
    with torch.no_grad():
        p = other.network.linears[0].weight
        p[0, 0] = torch.nextafter(p[0, 0], torch.tensor(9.0, dtype=p.dtype))
    return other


CHANGES: dict[str, Callable] = {
    "weights": lambda pinn, x, flow: (without_last_digit(pinn, flow), x, {}),
    "activation": lambda pinn, x, flow: (flow(LAYERS, "tanh"), x, {}),
    "dtype": lambda pinn, x, flow: (flow(LAYERS, dtype=torch.float32), x, {}),
    "variant": lambda pinn, x, flow: (flow(LAYERS, variant="broken"), x, {}),
    "conditions": lambda pinn, x, flow: (flow(LAYERS, conditions="published"), x, {}),
    "points": lambda pinn, x, flow: (pinn, x[:-1], {}),
    "order": lambda pinn, x, flow: (pinn, x[::-1], {}),
    "rank": lambda pinn, x, flow: (pinn, x, {"recipe": Recipe(rank=4)}),
    "damping": lambda pinn, x, flow: (pinn, x, {"recipe": Recipe(rank=5, damping=1e-5)}),
    "weighting": lambda pinn, x, flow: (pinn, x, {"recipe": Recipe(rank=5, weighting="training")}),
    "batch size": lambda pinn, x, flow: (pinn, x, {"batch_size": 8}),
    "settings": lambda pinn, x, flow: (pinn, x, {"settings": {"problem": "other"}}),
    "loss weights": lambda pinn, x, flow: (
        dataclasses.replace(pinn, loss_weights={"continuity": 2.0}),
        x,
        {"recipe": Recipe(rank=5, weighting="training")},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_gives_another_key(case, flow_pinn, change) -> None:
    pinn, train_x, test_x = case

    def key(pinn, x, recipe=PAPER, batch_size=7, settings=None):
        return Influence(pinn, x, recipe, batch_size, settings=settings).key(test_x)

    changed, x, settings = CHANGES[change](pinn, train_x, flow_pinn)
    assert key(pinn, train_x) == key(flow_pinn(LAYERS), train_x.copy())
    assert key(changed, x, **settings) != key(pinn, train_x)


def test_other_test_points_and_quantities_give_another_key(case) -> None:
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, PAPER)
    keys = {influence.key(x) for x in (test_x, test_x[:-1], test_x[::-1])}
    quantities = {"speed": lambda f: f.u}
    other = Influence(dataclasses.replace(pinn, quantities=quantities), train_x, PAPER)
    assert len(keys | {other.key(test_x)}) == 4


def test_an_equation_is_recognised_by_its_values(case) -> None:
    """Two functions that do the same are the same; one with another factor is not."""
    pinn, train_x, test_x = case

    def key(factor: float) -> str:
        equation = Equation(lambda f: {"r": factor * f.u_x + f.v})
        return Influence(dataclasses.replace(pinn, equations=(equation,)), train_x).key(test_x)

    assert key(2.0) == key(2.0)
    assert key(2.0) != key(3.0)


def test_equations_of_the_same_values_are_told_apart_by_their_gradients(case) -> None:
    """``u u_x`` with a detached u has the same values and other gradients."""
    pinn, train_x, test_x = case

    def key(residual) -> str:
        equation = Equation(lambda f: {"r": residual(f)})
        return Influence(dataclasses.replace(pinn, equations=(equation,)), train_x).key(test_x)

    keys = [
        key(residual)
        for residual in (
            lambda f: f.u * f.u_x,
            lambda f: f.u.detach() * f.u_x,
            lambda f: f.u_x * f.u,
        )
    ]
    assert keys[0] == keys[2] != keys[1]


def test_quantities_of_the_same_values_are_told_apart_by_their_gradients(case) -> None:
    pinn, train_x, test_x = case
    keys = set()
    for function in (lambda f: f.u**2, lambda f: f.u * f.u.detach()):
        other = dataclasses.replace(pinn, quantities={"speed": function})
        keys.add(Influence(other, train_x).key(test_x))
    assert len(keys) == 2


ON_THE_WAY = (
    "curvature/operators/gauss_newton.py",
    "curvature/inverse/residual_space.py",
    "field/envelope.py",
    "influence/quantity.py",
    "loss/differentiators/functional.py",
    "models/deepxde/reader.py",
    "problems/heat.py",
    "runtime/devices.py",
    "scores/file.py",
    "storage/stage_store.py",
)


@pytest.fixture
def copy_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Source files that may be changed, of which the key is taken."""
    package = tmp_path / "pinnfluence"
    sources = shutil.ignore_patterns("__pycache__", "static", "*.npz")
    shutil.copytree(Path(identity.__file__).parents[1], package, ignore=sources)
    monkeypatch.setattr(identity, "__file__", str(package / "influence" / "identity.py"))
    identity.source_hash.cache_clear()
    yield package
    identity.source_hash.cache_clear()


def test_every_source_file_on_the_way_is_part_of_the_key(case, copy_of_the_package) -> None:
    pinn, train_x, test_x = case

    def key() -> str:
        identity.source_hash.cache_clear()
        return Influence(pinn, train_x).key(test_x)

    keys = [key()]
    for name in ON_THE_WAY:
        path = copy_of_the_package / name
        path.write_text(path.read_text() + "\n")
        keys.append(key())
    assert len(set(keys)) == 1 + len(ON_THE_WAY)
    (copy_of_the_package / "curvature" / "inverse" / "new.py").write_text("")
    assert key() not in keys


def test_source_files_that_compute_no_scores_do_not_matter(case, copy_of_the_package) -> None:
    pinn, train_x, test_x = case
    before = Influence(pinn, train_x).key(test_x)
    for room in identity.NOT_ON_THE_WAY:
        path = copy_of_the_package / room / "__init__.py"
        path.write_text(path.read_text() + "\n")
    identity.source_hash.cache_clear()
    assert Influence(pinn, train_x).key(test_x) == before


def test_threads_and_processes_are_part_of_the_key(case, monkeypatch) -> None:
    pinn, train_x, test_x = case
    keys = {Influence(pinn, train_x).key(test_x)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    keys.add(Influence(pinn, train_x, batch_size=7).key(test_x))
    monkeypatch.setattr(stage_store, "FORMAT_VERSION", 99)
    keys.add(Influence(pinn, train_x, batch_size=7).key(test_x))
    assert len(keys) == 3


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


# ---- batch size from memory


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
