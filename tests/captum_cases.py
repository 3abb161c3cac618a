"""Models and losses on which the drop-in for captum is compared with the original."""

import itertools
from typing import Any

import torch
from captum.influence import NaiveInfluenceFunction as Captum
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pinnfluence.captum_api import NaiveInfluenceFunction

N_TRAIN, N_TEST, N_CLASSES = 23, 7, 3


class ColumnLoss:
    """A column of the outputs, or its square, as a loss without reduction."""

    reduction = "none"

    def __init__(self, column: int, power: int) -> None:
        self.column, self.power = column, power

    def __call__(self, outputs: Tensor, _: Tensor) -> Tensor:
        return outputs[:, self.column] ** self.power


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def classes(n_samples: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_samples, 2, generator=generator, dtype=torch.float64)
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 0] > 0.8))


SETTINGS: dict[str, Any] = {
    "checkpoint": "",
    "checkpoints_load_func": lambda *_: 1.0,
    "batch_size": 10,
    "projection_dim": 12,
}
TRAIN, TEST = classes(N_TRAIN), classes(N_TEST, 1)


def both(model: nn.Module, train=TRAIN, **changes):
    """Captum's influence functions and ours of the same model."""
    settings = {**SETTINGS, "loss_fn": nn.CrossEntropyLoss(reduction="none"), **changes}
    return Captum(model, train, **settings), NaiveInfluenceFunction(model, train, **settings)


def assert_close(found: Tensor, expected: Tensor, limit: float = 1e-7) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert not found.requires_grad
    difference = float((found - expected).abs().max() / expected.abs().max())
    assert difference <= limit, difference


def assert_same(captum, ours, test=TEST.tensors) -> None:
    """All results of both are the same."""
    assert_close(ours.influence(test), captum.influence(test))
    assert_close(ours.self_influence(), captum.self_influence())
    assert_close(ours.self_influence(test), captum.self_influence(test))
    assert_close(ours.R, captum.R, 1e-6)
    for side in (False, True):
        found, expected = (
            f.compute_intermediate_quantities(test, test=side) for f in (ours, captum)
        )
        assert_close(found, expected, 1e-6)
