"""The key of kept stages: whatever changes the scores changes it."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pinnfluence import Equation, Influence, Recipe
from pinnfluence.influence import identity
from pinnfluence.storage import stage_store

LAYERS = (2, 4, 3)
PAPER = Recipe(rank=5)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn(LAYERS), flow_points(12), flow_points(12, 1)


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
}


@pytest.mark.parametrize("change", [{"loss_weights": {"continuity": 2.0}}, {"weight_decay": 0.1}])
def test_the_weights_of_the_training_give_another_key(case, change) -> None:
    pinn, train_x, test_x = case
    recipe = Recipe(rank=5, weighting="training")
    both = (pinn, dataclasses.replace(pinn, **change))
    keys = {Influence(p, train_x, recipe).key(test_x) for p in both}
    assert len(keys) == 2


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
