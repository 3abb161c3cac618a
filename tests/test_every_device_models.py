"""Models of other packages, and the training script, on every device."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DEVICES, Device, device_of
from deepxde_problems import MODELS
from helpers import SMALL, TRAIN, history_of, run_well
from pretended_device import without
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pinnfluence import Influence
from pinnfluence.captum_api import NaiveInfluenceFunction
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.models.deepxde.model import dde

NEWTON = recipe_of("gauss-newton", damping=0.1)


@pytest.fixture(params=[name for name in DEVICES if name != "cpu"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Each but that which all are compared with."""
    with device_of(request.param) as found:
        yield found


def model_on(device: torch.device, name: str) -> Any:
    """A model that was made and trained with this default device, with the weights of the CPU's."""
    weights, unknowns = weights_of(name)
    dde.config.set_random_seed(3)
    with torch.device(device):
        model = MODELS[name]()
    for name, p in model.net.named_parameters():
        p.data.copy_(weights[name])
    for variable, value in zip(model.external_trainable_variables, unknowns, strict=True):
        variable.data.copy_(torch.tensor(value))
    return model


@functools.cache
def weights_of(name: str) -> tuple[dict[str, Tensor], list[Any]]:
    dde.config.set_random_seed(3)
    model = MODELS[name]()
    unknowns = [variable.detach().tolist() for variable in model.external_trainable_variables]
    return model.net.state_dict(), unknowns


@pytest.mark.parametrize("name", ["robin", "periodic", "lorenz", "conservative", "own_module"])
def test_model_of_deepxde(device: Device, name: str) -> None:
    """With the default device that DeepXDE sets."""
    from pinnfluence.models.deepxde.reader import from_deepxde

    def scores(where: torch.device, dtype: torch.dtype) -> np.ndarray:
        model = model_on(where, name)
        with torch.device(where):
            pinn = from_deepxde(model, dtype=dtype)
            assert {p.device.type for p in pinn.params.values()} == {where.type}
            return Influence(pinn, recipe=NEWTON).scores(pinn.training_points[:4], "all").values

    expected = without(lambda: scores(torch.device("cpu"), torch.float64))
    device.close(scores(device.device, device.dtype), expected)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.filterwarnings("ignore:gradients of Slope by batched backward")
def test_captum_api(device: Device, nested: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3))
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    data = x, (x[:, 0] > 0).long()

    def found(where: torch.device, dtype: torch.dtype) -> list[Tensor]:
        model = copy.deepcopy(network).to(dtype).to(where)
        features, labels = data[0].to(dtype).to(where), data[1].to(where)
        ours = NaiveInfluenceFunction(
            Slope(model) if nested else model,
            TensorDataset(features, labels),
            "",
            lambda *_: 1.0,
            loss_fn=None if nested else nn.CrossEntropyLoss(reduction="none"),
            batch_size=8,
            projection_dim=6,
        )
        assert ours.how == {}
        results = [ours.influence((features, labels)), ours.self_influence()]
        assert set(ours.how.values()) == {"batched backward" if nested else "vmap"}
        return [*results, ours.influence((features[:4], labels[:4]), k=3).influence_scores]

    expected = without(lambda: found(torch.device("cpu"), torch.float64))
    with torch.device(device.device):  # as DeepXDE sets it where there is a GPU
        results = found(device.device, device.dtype)
    for result, values in zip(results, expected, strict=True):
        device.close(result, values)


class Slope(nn.Module):
    """The square of a network's slope, by nested ``autograd.grad``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.network(x)[:, 0].sum(), x, create_graph=True)
        return slope.square()


def test_training_script(device: Device, tmp_path: Path) -> None:
    """train.py --device: all three phases."""
    steps = ("--n_iterations", 3, "--n_iterations_lbfgs", 2, "--n_iterations_lm", 1)
    for name, flags, prelude in (
        ("cpu", ("--device", "cpu", "--dtype", "float64"), ""),
        ("device", device.flags, device.prelude),
    ):
        where = ("--save_path", tmp_path / name)
        run_well(TRAIN, *SMALL, *steps, *flags, *where, prelude=prelude)
    (names, found), (_, expected) = (history_of(tmp_path / n) for n in ("device", "cpu"))
    losses = [n for n, name in enumerate(names) if not name.startswith(("error_", "seconds"))]
    device.close(found[:, losses], expected[:, losses])
