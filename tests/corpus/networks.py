"""Networks that are no plain perceptron, each on the same small heat problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .common import UNIT_TIME, boundary, dde, fnn, hessian, initially, jacobian, trained, zero


def heat_problem(net: nn.Module, n_outputs: int = 1, **settings: Any) -> Any:
    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        return [
            jacobian(y, x, i=c, j=1) - 0.3 * hessian(y, x, component=c, i=0, j=0) + y[:, :1] ** 2
            for c in range(n_outputs)
        ]

    conditions = [
        dde.icbc.DirichletBC(UNIT_TIME, zero, boundary),
        dde.icbc.IC(UNIT_TIME, lambda x: np.sin(np.pi * x[:, :1]), initially),
    ]
    data = dde.data.TimePDE(UNIT_TIME, pde, conditions, 12, 6, 6)
    return trained(data, net, **settings)


class Module(nn.Module):
    """What DeepXDE expects of a user's own module."""

    regularizer: Any = None
    auxiliary_vars: Any = None


class ResidualMLP(Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 6), nn.Linear(6, 1)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        for block in self.blocks:
            h = h + torch.tanh(block(h))
        return self.last(h)


class Gated(Module):
    """The modified perceptron: two encoders between which each layer mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v, self.first = nn.Linear(2, 5), nn.Linear(2, 5), nn.Linear(2, 5)
        self.hidden, self.last = nn.Linear(5, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, v = torch.tanh(self.u(x)), torch.tanh(self.v(x))
        h = torch.tanh(self.first(x))
        for _ in range(2):  # one layer, used twice
            z = torch.tanh(self.hidden(h))
            h = (1 - z) * u + z * v
        return self.last(h)


class Attention(Module):
    """The inputs are a sequence of two tokens that attend to each other."""

    n_heads = 1

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Linear(1, 4), nn.Linear(4, 12)
        self.last = nn.Linear(8, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.sin(self.embed(x[:, :, None]))
        shape = (len(x), 2, 3, self.n_heads, 4 // self.n_heads)
        q, k, v = self.qkv(tokens).reshape(shape).permute(2, 0, 3, 1, 4)
        mixed = self.attend(q, k, v).transpose(1, 2).flatten(2)
        return self.last(torch.tanh(tokens + mixed).flatten(1))


class AttentionByMathematics(Attention):
    """Two heads; the kernel that has second derivatives is chosen by the user."""

    n_heads = 2

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
            return super().attend(q, k, v)


class AttentionOfTokens(Attention):
    """Three dimensions, for which PyTorch takes the kernel that has second derivatives."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(q[:, 0], k[:, 0], v[:, 0])[:, None]


class AttentionByHand(Attention):
    """Scores, softmax and sum, written out."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.mT / 2, dim=-1) @ v


class Normed(Module):
    """A layer norm over the features of each point."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 6), nn.LayerNorm(6)
        self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.first(x)))
        return self.last(torch.tanh(self.second(h)))


class Siren(Module):
    """Sine layers with a frequency that is a buffer and a scale that is trained."""

    frequency: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.tensor(3.0))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.first, self.second, self.last = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sin(self.frequency * self.first(x))
        return self.last(torch.sin(self.scale * self.second(h)))


class Separable(Module):
    """A product of a network of place and one of time, summed over a rank."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 4))
        self.time = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.place(x[:, :1]) * self.time(x[:, 1:])).sum(1, keepdim=True)


class Bumps(Module):
    """Radial basis functions with centres that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.rand(8, 2))
        self.widths, self.heights = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        square = (x[:, None] - self.centers).square().sum(-1)
        return torch.exp(-square * self.widths**2) @ self.heights


class Batched(Module):
    """A batch norm: each output depends on all points."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(x))))


class NormOverPoints(Module):
    """A norm over the points, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last((h - h.mean(0)) / (h.std(0) + 1))


class Dropped(Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(2, 6), nn.Dropout(0.3), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.tanh(self.first(x))))


def residual_network() -> Any:
    return heat_problem(ResidualMLP())


def gated_network() -> Any:
    return heat_problem(Gated())


def attention() -> Any:
    """Measurements alone: the default kernel has first derivatives and no second ones."""
    points = np.random.default_rng(0).random((9, 2))
    condition = dde.icbc.PointSetBC(points, np.sin(points[:, :1]))
    return trained(dde.data.TimePDE(UNIT_TIME, None, condition, 9), Attention())


def attention_without_heads() -> Any:
    return heat_problem(AttentionOfTokens())


def attention_by_mathematics() -> Any:
    return heat_problem(AttentionByMathematics())


def attention_by_hand() -> Any:
    return heat_problem(AttentionByHand())


def layer_norm() -> Any:
    return heat_problem(Normed())


def siren() -> Any:
    return heat_problem(Siren())


def separable_network() -> Any:
    return heat_problem(Separable())


def radial_basis() -> Any:
    return heat_problem(Bumps())


def weight_norm() -> Any:
    """Weights are a direction times a length, both trained."""
    net = ResidualMLP()
    nn.utils.parametrizations.weight_norm(net.first)
    return heat_problem(net)


def parallel_networks() -> Any:
    return heat_problem(dde.nn.PFNN([2, [5, 5], [4, 4], 2], "tanh", "Glorot uniform"), 2)


def fourier_features() -> Any:
    """Random frequencies, fixed, in a tensor of the default dtype that a closure holds."""
    drawn = np.random.default_rng(0).normal(size=(2, 3))
    frequencies = torch.as_tensor(drawn, dtype=torch.get_default_dtype())
    net = fnn(6, 6, 6, 1)
    net.apply_feature_transform(
        lambda x: torch.cat([torch.sin(x @ frequencies), torch.cos(x @ frequencies)], 1)
    )
    return heat_problem(net)


def periodic_features() -> Any:
    """A feature transform of different widths with a shift and a scale."""
    net = fnn(3, 6, 6, 1)
    net.apply_feature_transform(
        lambda x: torch.cat(
            [torch.cos(2 * np.pi * x[:, :1]), torch.sin(2 * np.pi * x[:, :1]), 2 * x[:, 1:] - 1], 1
        )
    )
    return heat_problem(net)


def several_activations() -> Any:
    return heat_problem(fnn(2, 6, 6, 1, activation=["sin", "tanh", "tanh"]))


def adaptive_activation() -> Any:
    """DeepXDE's layer-wise adaptive activation, of which the slopes are trained as unknowns."""
    slope = nn.Parameter(torch.tensor(1.1))
    net = fnn(2, 6, 6, 1, activation=lambda x: torch.tanh(slope * x))
    net.slope = slope
    return heat_problem(net)


def rectified() -> Any:
    """Softplus and the third power of a rectified unit, smooth enough for a second derivative."""
    return heat_problem(fnn(2, 8, 8, 1, activation=lambda x: torch.relu(x) ** 3 + 0.1 * x))


def batch_norm() -> Any:
    return heat_problem(Batched())


def norm_over_points() -> Any:
    return heat_problem(NormOverPoints())


def dropout() -> Any:
    return heat_problem(Dropped())


MODELS = (
    *(
        residual_network,
        gated_network,
        attention,
        attention_by_mathematics,
        attention_by_hand,
        layer_norm,
        siren,
        separable_network,
    ),
    *(radial_basis, weight_norm, parallel_networks, fourier_features, periodic_features),
    *(several_activations, adaptive_activation, rectified),
    *(batch_norm, norm_over_points, dropout),
)
