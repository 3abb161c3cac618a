"""Networks of unusual make in plain PyTorch, and models that call a function at few points."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pinnfluence
from pinnfluence import InputError
from pinnfluence.scores.indicators import readings

X = torch.as_tensor(np.random.default_rng(0).random((15, 2)))
START = X[:4] * torch.tensor([1.0, 0.0])
DAMPING = 1e-3


def slope(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def heat(network: Any, x: Tensor) -> Tensor:
    g = slope(network(x), x)
    return g[:, 1:] - 0.3 * slope(g[:, :1], x)[:, :1]


def start(network: Any, x: Tensor) -> Tensor:
    return network(x) - torch.sin(3 * x[:, :1])


TERMS: dict[str, Any] = {"pde": (X, heat), "start": (START, start, 5.0)}


def one_layer_twice() -> nn.Module:
    layer = nn.Linear(6, 6)
    layers = (nn.Linear(2, 6), nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 1))
    return nn.Sequential(*layers)


def weights_by_hook() -> nn.Module:
    with pytest.warns(FutureWarning):
        layer = torch.nn.utils.weight_norm(nn.Linear(2, 6))
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 1))


class Keeping(nn.Module):
    """A network that keeps its last outputs, with their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))
        self.known: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.known = [self.inner(x)]
        return self.known[0]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.first(x[:, :, None]))
        return self.last(nn.functional.scaled_dot_product_attention(z, z, z).flatten(1))


def flat(value: Tensor, theta: list[nn.Parameter]) -> np.ndarray:
    parts = torch.autograd.grad(value, theta, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts]).numpy()


def expected(network: nn.Module, at: Tensor) -> dict[str, np.ndarray]:
    """Scores of the network's output by a dense Gauss-Newton matrix, a backward pass a residual."""
    theta = [p for p in network.parameters() if p.requires_grad]
    rows = {}
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for name, (points, residual, *weight) in TERMS.items():
            r = residual(network, points.clone().requires_grad_())[:, 0]
            w = 2 * (weight or [1.0])[0] / len(points)
            rows[name] = np.stack([flat(value, theta) for value in r]), r.detach().numpy(), w
        outputs = np.stack([flat(value, theta) for value in network(at)[:, 0]])
    matrix = sum(w * J.T @ J for J, _, w in rows.values())
    inverse = np.linalg.inv(matrix + DAMPING * np.eye(len(matrix)))
    return {name: outputs @ inverse @ (w * r[:, None] * J).T for name, (J, r, w) in rows.items()}


@pytest.mark.parametrize("make", [one_layer_twice, weights_by_hook, Keeping, Attending])
def test_scores_are_those_of_brute_force_and_the_network_is_left_as_it_is(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    network = make().double()
    network(X.clone().requires_grad_())
    before = {name: (id(p), p.detach().clone()) for name, p in network.named_parameters()}
    influence = pinnfluence.Influence(
        pinnfluence.torch_model(network, TERMS), recipe="gauss-newton", damping=DAMPING
    )
    scores = influence.scores(X[:3] * 0.9, lambda network, x: network(x)[:, 0])
    after = dict(network.named_parameters())
    assert {name: id(p) for name, p in after.items()} == {n: i for n, (i, _) in before.items()}
    assert all(p.requires_grad and torch.equal(p, before[name][1]) for name, p in after.items())
    for name, values in expected(network, X[:3] * 0.9).items():
        error = np.abs(scores.term(name) - values).max() / np.abs(values).max()
        assert error < 1e-9, name


class InstanceNorm(nn.Module):
    """Its kernel has wrong higher derivatives in PyTorch 2.13."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.first(x)).unflatten(1, (2, 3))
        return self.last(nn.functional.instance_norm(z).flatten(1))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 6, dtype=torch.float64)
        self.last = nn.Parameter(torch.randn(6, dtype=torch.complex128))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.exp(1j * self.first(x)) * self.last).real.sum(1, keepdim=True)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def detached(network: Any, x: Tensor) -> Tensor:
    return network(x).detach() * slope(network(x), x)[:, :1]


@pytest.mark.parametrize(
    ("network", "term", "words"),
    [
        (InstanceNorm().double(), (X, heat), "wrong higher derivatives"),
        (Complex(), (X, heat), "found the complex 0.last"),
        (plain(), (X, detached), "the residuals detach something"),
        (plain(), (X, lambda n, x: torch.complex(n(x), n(x))), "residual is of torch.complex128"),
        (plain(), (X, lambda n, x: n(x).float()), "residual is of torch.float32"),
        (
            plain(),
            (X, heat, torch.rand(15)),
            "one number as its weight, found float32 of shape",
        ),
    ],
    ids=["instance norm", "complex", "detach", "complex residual", "cast", "weights of points"],
)
def test_what_would_give_wrong_scores_is_refused(
    network: nn.Module, term: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        pinnfluence.torch_model(network, {"pde": term})


def test_a_term_of_another_network_is_told() -> None:
    other = copy.deepcopy(plain())
    terms = {"pde": (X, lambda n, x: heat(other, x)), "start": (START, start)}
    with pytest.warns(UserWarning, match="pde does not depend on the trained parameters"):
        pinnfluence.torch_model(plain(), terms)


class OfTwo(nn.Module):
    """A network of two arguments that gives a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        u, v = self.inner(torch.cat([x, t], 1)).split(1, 1)
        return u, v


def test_a_network_is_called_by_the_users_functions_alone() -> None:
    def columns(network: OfTwo, z: Tensor) -> tuple[Tensor, Tensor]:
        return network(z[:, :1], z[:, 1:])

    def pde(network: OfTwo, z: Tensor) -> Tensor:
        u, v = columns(network, z)
        return slope(u, z)[:, 1:] - v

    torch.manual_seed(0)
    network = OfTwo().double()
    output = lambda n, z: columns(n, z)[0]  # noqa: E731
    model = pinnfluence.torch_model(network, {"pde": (X, pde)}, quantities={"u": output})
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING)
    theta = list(network.parameters())
    J = np.stack([flat(r, theta) for r in pde(network, X.clone().requires_grad_())[:, 0]])
    r = pde(network, X.clone().requires_grad_()).detach().numpy()
    w = 2 / len(X)
    G = w * J.T @ J + DAMPING * np.eye(J.shape[1])
    gradients = np.stack([flat(value, theta) for value in output(network, X[:3])[:, 0]])
    expected = gradients @ np.linalg.solve(G, (w * r * J).T)
    np.testing.assert_allclose(influence.scores(X[:3], "u").values, expected, rtol=1e-8)
    named = {reading.quantity for reading in readings(influence.influence(X[:3]))}
    assert named == {"u"}
    fresh = pinnfluence.torch_model(network, {"pde": (torch.rand_like(X), pde)})
    assert list(pinnfluence.diagnose(model, fresh_x=fresh).errors) == ["u"]
    with pytest.raises(InputError, match="a model that names none"):
        pinnfluence.diagnose(fresh, fresh_x=model)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((lambda x: x, TERMS), "found function"),
        ((plain(), [(X, heat)]), "found list"),
        ((plain(), {"pde": heat}), r"pde: expected \(points, residual\)"),
        ((plain(), {"pde": (X + 1j, heat)}), "real numbers, found complex128"),
        ((plain(), {"pde": (torch.tensor(1.0), heat)}), "of one length"),
        ((plain(), TERMS, [1.0]), "tensors, found 1.0"),
        ((plain(), TERMS, (), torch.float16), "found torch.float16"),
    ],
)
def test_unfit_arguments_are_refused_in_one_line(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pinnfluence.torch_model(*arguments)


def test_parameters_may_be_one_tensor_and_may_name_those_of_the_network() -> None:
    network, k = plain(), torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    terms = {"pde": (X, lambda n, x: heat(n, x) - k)}
    n_params = sum(p.numel() for p in network.parameters())
    one = pinnfluence.torch_model(network, terms, parameters=k)
    every = pinnfluence.torch_model(network, terms, parameters=[*network.parameters(), k])
    assert one.n_params == every.n_params == n_params + 1


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.1),
        nn.BatchNorm1d(4),
        nn.Sequential(
            nn.Unflatten(1, (1, 4)),
            nn.TransformerEncoderLayer(4, 1, 4, batch_first=True),
            nn.Flatten(),
        ),
    ],
)
def test_layers_that_train_otherwise_are_refused_until_they_are_evaluated(layer: Any) -> None:
    """The loss of the training is another one than that of the evaluated network."""
    layer.train()
    network = nn.Sequential(nn.Linear(1, 4), layer, nn.Linear(4, 1)).double()
    x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    terms = {"data": (x, lambda network, x: network(x) - x)}
    with pytest.raises(InputError, match="while it trains"):
        pinnfluence.torch_model(network, terms)
    network.eval()
    assert pinnfluence.torch_model(network, terms).n_params


def test_dropout_of_no_chance_is_none() -> None:
    network = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.0), nn.Linear(4, 1))
    x = torch.linspace(0, 1, 5)[:, None]
    assert pinnfluence.torch_model(network, {"data": (x, lambda network, x: network(x) - x)})
