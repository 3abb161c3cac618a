"""The main paths on every device but the CPU, against the CPU in float64."""

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DEVICES, Device, device_of
from helpers import CALC, run_well, short_run
from pretended_device import without
from torch import Tensor
from wrapped import by_kind

from pinnfluence import GAUSS_NEWTON, MLP, Influence, Pinn, load_scores
from pinnfluence.curvature.operators import Curvature, GaussNewton, Hessian
from pinnfluence.curvature.recipe import Recipe, recipe_of
from pinnfluence.field.field import Field
from pinnfluence.influence import estimate
from pinnfluence.influence.embeddings import project
from pinnfluence.influence.stationarity import point_gradients
from pinnfluence.loss.differentiators import jacobian, point_loss_rows
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt
from pinnfluence.training.loss_step import loss_step

LAYERS = (2, 3, 3)
RECIPES = {"paper": Recipe(rank=8), "gauss-newton": GAUSS_NEWTON}
NEWTON = recipe_of("gauss-newton", damping=0.1)


@pytest.fixture(params=[name for name in DEVICES if name != "cpu"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Each but that which all are compared with."""
    with device_of(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def points(flow_points):
    """Training and test points."""
    return flow_points(4), flow_points(1, 1)[::2]


@pytest.fixture(scope="module")
def reference(flow_pinn):
    """The network on the CPU, in float64."""
    return flow_pinn(LAYERS)


@pytest.fixture
def pinn(flow_pinn, device: Device) -> Pinn:
    """The same network on the device."""
    return on(device, flow_pinn(LAYERS))


def on(device: Device, pinn: Pinn) -> Pinn:
    network = copy.deepcopy(pinn.network).to(device.dtype).to(device.device)
    assert {p.device.type for p in network.parameters()} == {device.device.type}
    return replace(pinn, network=network)


@pytest.fixture(scope="module")
def expected(reference, points):
    """All kinds of scores by recipe, on the CPU."""
    return {name: all_scores(reference, points, recipe) for name, recipe in RECIPES.items()}


def rotation(f: Field) -> Tensor:
    return f.v_x - f.u_y


def all_scores(pinn: Pinn, points: Any, recipe: Recipe) -> dict[str, np.ndarray]:
    train_x, test_x = points
    influence = Influence(pinn, train_x, recipe, batch_size=len(train_x) - 7)
    scores = influence.influence(test_x)
    found = {name: np.asarray(matrix) for name, matrix in scores.items()}
    several = influence.scores_by_quantity(test_x[:3], ["v", "speed", "noslip_u", "bcs"])
    for name, matrix in several.items():
        found[f"exact {name}"] = np.asarray(matrix)
    for quantity in ("speed", "all"):
        found[f"one {quantity}"] = influence.scores(test_x, quantity).values
    vorticity = influence.scores(test_x, rotation, np.ones(len(test_x)))
    return found | {"an integral": vorticity.values, "self": influence.self_influence()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_influence(pinn, points, expected, device: Device, recipe: str) -> None:
    found = all_scores(pinn, points, RECIPES[recipe])
    assert found.keys() == expected[recipe].keys()
    for name, values in expected[recipe].items():
        device.close(found[name], values)


def test_points_may_be_tensors_of_the_device(pinn, points, expected, device: Device) -> None:
    train_x, test_x = (torch.as_tensor(x).to(device.device) for x in points)
    scores = Influence(pinn, train_x, RECIPES["paper"]).influence(test_x)
    device.close(scores["u"], expected["paper"]["u"])


def test_a_network_on_the_cpu_beside_another_default_device(
    reference, points, expected, device: Device
) -> None:
    """As DeepXDE sets it where there is a GPU."""
    with torch.device(device.device):
        if device.dtype == torch.float64:
            found = all_scores(reference, points, RECIPES["gauss-newton"])
            device.close(found["speed"], expected["gauss-newton"]["speed"])


def test_stages_of_the_device_are_taken_again(pinn, points, device: Device, tmp_path) -> None:
    train_x, test_x = points
    make = functools.partial(Influence, pinn, train_x, NEWTON, stages_path=tmp_path)
    first, again = (make().influence(test_x) for _ in range(2))
    np.testing.assert_array_equal(first["u"], again["u"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_costs(pinn, points, recipe: str) -> None:
    cost = estimate.cost(Influence(pinn, points[0], RECIPES[recipe]), points[1], dense=True)
    assert cost.seconds > 0


@pytest.mark.parametrize(
    "recipe",
    [("--rank", 8), ("--recipe", "gauss-newton", "--damping", 1)],
    ids=["paper", "gauss-newton"],
)
def test_script(device: Device, tmp_path: Path, recipe: tuple[Any, ...]) -> None:
    """calc_influences.py --device."""
    test_x = tmp_path / "test_x.npy"
    np.save(test_x, np.load(short_run() / "train_x.npy")[::8])
    given = ("--checkpoint", short_run(), "--test_x_path", test_x, *recipe)
    for name, flags, prelude in (
        ("cpu", ("--device", "cpu"), ""),
        ("device", device.flags, device.prelude),
    ):
        run_well(CALC, *given, "--save_path", tmp_path / name, *flags, prelude=prelude)
    found, expected = load_scores(tmp_path / "device"), load_scores(tmp_path / "cpu")
    for quantity in expected:
        device.close(found[quantity], expected[quantity])


@by_kind
def test_gradients(pinn, reference, points, device: Device, kind: Callable[[Pinn], Pinn]) -> None:
    def found(pinn: Pinn) -> dict[str, Tensor]:
        collocation = kind(pinn).at(points[0])
        basis = next(iter(pinn.params.values())).new_ones(pinn.n_params, 2)
        basis[::2, 1] = -1
        results: dict[str, Tensor] = {}
        for name, projection in project(collocation, basis, Executor(30)).items():
            results |= {f"{name} value": projection.values, f"{name} basis": projection.gradients}
        for one in collocation.singles():
            for name, (_, rows) in jacobian(one).items():
                results[name] = rows
        loss = Loss(collocation, dict.fromkeys(pinn.terms, 0.7))
        results["rows"] = point_loss_rows(loss)
        norms, results["total"] = point_gradients(loss, Executor(30))
        return results | {"norms": norms}

    results = found(pinn)
    for name, values in without(lambda: found(reference)).items():
        assert results[name].device.type == device.device.type
        device.close(results[name], values)


@by_kind
@pytest.mark.parametrize("curvature", [Hessian, GaussNewton])
def test_curvature(
    pinn, reference, points, device: Device, curvature: type[Curvature], kind: Callable
) -> None:
    def made(pinn: Pinn) -> Curvature:
        return curvature(Loss.uniform(kind(pinn).at(points[0])), Executor(30))

    vectors = np.random.default_rng(0).standard_normal((pinn.n_params, 2))

    def results(matrix: Curvature) -> list[np.ndarray]:
        found = [matrix.matmat(vectors)]
        if isinstance(matrix.loss.pinn.network, MLP):  # others take an evaluation a column
            found.append(matrix.dense())
        if isinstance(matrix, GaussNewton):
            found.append(matrix.rows())
        return found

    expected = without(lambda: results(made(reference)))
    for found, values in zip(results(made(pinn)), expected, strict=True):
        device.close(found, values)


def test_a_step_of_training(pinn, reference, points, device: Device) -> None:
    expected = loss_step(reference.at(points[0]), torch.float64, torch.device("cpu"))
    found = loss_step(pinn.at(points[0]), device.dtype, device.device)
    (losses, gradients), (values, slopes) = found(pinn.params), expected(reference.params)
    device.close(losses, values)
    for name, slope in slopes.items():
        device.close(gradients[name], slope)


def test_a_step_of_levenberg_marquardt(flow_pinn, pinn, points, device: Device) -> None:
    reference = flow_pinn(LAYERS)
    for network in (pinn, reference):
        assert LevenbergMarquardt(Loss.of_training(network.at(points[0]))).step()
    for name, values in reference.params.items():
        device.close(pinn.params[name], values)
