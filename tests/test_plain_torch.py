"""Models in plain PyTorch against brute force: their own loss, differentiated twice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pinnfluence
from pinnfluence import InputError

DAMPING = 1e-3


def mlp(n_inputs: int, n_outputs: int = 1) -> nn.Module:
    torch.manual_seed(n_inputs + n_outputs)
    layers = (
        nn.Linear(n_inputs, 7),
        nn.Tanh(),
        nn.Linear(7, 6),
        nn.Tanh(),
        nn.Linear(6, n_outputs),
    )
    return nn.Sequential(*layers).double()


def grid(n: int, seed: int = 0, d: int = 2) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).uniform(-1, 1, (n, d)))


def d(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]


def burgers(network, x):
    if not x.requires_grad:
        x.requires_grad_()
    u = network(x)
    u_xt = d(u, x)
    u_xx = d(u_xt[:, 0], x)[:, :1]
    return u_xt[:, 1:] + u * u_xt[:, :1] - 0.01 * u_xx


def nested():
    net = mlp(2)
    left = lambda network, x: network(x)[:, 0] - 0.3  # noqa: E731
    return net, {"pde": (grid(20), burgers, 0.7), "left": (grid(6, 1), left, 10.0)}, []


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.B: Tensor
        self.register_buffer("B", torch.as_tensor(np.random.default_rng(0).normal(size=(2, 4))))
        self.inner = mlp(8)

    def forward(self, x: Tensor) -> Tensor:
        z = x @ self.B
        return self.inner(torch.cat([torch.sin(z), torch.cos(z)], 1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = mlp(2, 5), mlp(5, 5), mlp(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        return self.last(z + self.middle(z))


class Hard(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp(2)

    def forward(self, x: Tensor) -> Tensor:
        return (1 - x[:, :1] ** 2) * self.inner(x)


def with_network(net: nn.Module):
    return (
        net,
        {"pde": (grid(15), burgers), "start": (grid(5, 2), lambda n, x: n(x) - x[:, 1:])},
        [],
    )


def two_networks():
    u, v = mlp(2), mlp(2)

    def coupled(networks, x):
        return d(networks[0](x), x)[:, 0] - networks[1](x)[:, 0]

    end = lambda networks, x: networks[1](x)[:, 0] * networks[0](x)[:, 0] - 1  # noqa: E731
    return [u, v], {"pde": (grid(12), coupled), "end": (grid(5, 3), end, 2.0)}, []


def unknown():
    net, k = mlp(1), nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def decay(network, x):
        return d(network(x), x) + k * network(x)

    measured = grid(6, 4, 1)
    data = lambda network, x, y: network(x)[:, 0] - y  # noqa: E731
    terms = {
        "pde": (grid(14, 0, 1), decay),
        "data": ((measured, torch.exp(-measured[:, 0])), data, 5.0),
    }
    return net, terms, [k]


def periodic():
    net = mlp(2)
    pairs = torch.stack([grid(7), grid(7) + torch.tensor([2.0, 0.0])], 1)
    same = lambda network, x: network(x[:, 0]) - network(x[:, 1])  # noqa: E731
    return net, {"pde": (grid(14), burgers), "periodic": (pairs, same)}, []


def by_functions():
    def laplace(network, x):
        def at(point):
            return network(point[None])[0, 0]

        return torch.func.vmap(torch.func.hessian(at))(x).diagonal(dim1=1, dim2=2).sum(1)

    return mlp(2), {"pde": (grid(12), laplace), "left": (grid(4, 1), lambda n, x: n(x))}, []


MODELS = {
    "nested autograd": nested,
    "Fourier features": lambda: with_network(Fourier()),
    "residual network": lambda: with_network(Residual()),
    "hard conditions": lambda: with_network(Hard()),
    "two networks": two_networks,
    "unknown and measurements": unknown,
    "periodic": periodic,
    "torch.func": by_functions,
}


def brute_force(network, terms, parameters, x, function) -> dict[str, np.ndarray]:
    """Scores by term ``[n_test, n_k]``: one backward pass a residual, a dense matrix."""
    modules = [network] if isinstance(network, nn.Module) else network
    theta = [p for m in modules for p in m.parameters()] + list(parameters)

    def flat(value: Tensor) -> np.ndarray:
        found = torch.autograd.grad(value, theta, retain_graph=True, materialize_grads=True)
        return torch.cat([g.flatten() for g in found]).numpy()

    rows, slopes = {}, {}
    for name, (points, residual, *weight) in terms.items():
        points = points if isinstance(points, tuple) else (points,)
        r = residual(network, *(p.clone().requires_grad_() for p in points)).reshape(-1)
        w = (weight[0] if weight else 1.0) / len(r)
        rows[name] = np.sqrt(2 * w) * np.stack([flat(value) for value in r])
        slopes[name] = np.sqrt(2 * w) * r.detach().numpy()
    A = np.concatenate(list(rows.values()))
    tested = np.stack([flat(value) for value in function(network, x.clone().requires_grad_())])
    solved = np.linalg.solve(A.T @ A + DAMPING * np.eye(A.shape[1]), tested.T).T
    return {name: solved @ (rows[name] * slopes[name][:, None]).T for name in rows}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_brute_force(name):
    network, terms, parameters = MODELS[name]()
    several = not isinstance(network, nn.Module)
    x = grid(3, 9, 1 if name.startswith("unknown") else 2)
    value = lambda n, x: (n[0] if several else n)(x)[:, 0] ** 2  # noqa: E731
    model = pinnfluence.torch_model(network, terms, parameters)
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING)
    scores = influence.scores(x, value)
    for term, expected in brute_force(network, terms, parameters, x, value).items():
        found = scores.term(term)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * abs(expected).max())


def test_named_quantities_of_several_networks_are_those_of_brute_force():
    networks, terms, _ = two_networks()
    speed = lambda n, x: torch.hypot(n[0](x), n[1](x))  # noqa: E731
    named = {"u": lambda n, x: n[0](x), "speed": speed}
    model = pinnfluence.torch_model(networks, terms, inputs="xt", quantities=named)
    assert model.inputs == ("x", "t")
    x = grid(3, 9)
    expected = brute_force(networks, terms, [], x, lambda n, x: speed(n, x)[:, 0])
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING)
    found = influence.scores(x, "speed")
    for term in terms:
        np.testing.assert_allclose(found.term(term), expected[term], rtol=1e-8, atol=1e-12)
    assert {"u", "speed"} <= set(influence.influence(x))


def test_inputs_are_a_letter_a_coordinate():
    with pytest.raises(InputError, match="2 inputs of one letter"):
        pinnfluence.torch_model(nested()[0], nested()[1], inputs="xyt")


def test_frozen_parameters_are_constants():
    network, terms, _ = nested()
    network[0].requires_grad_(False)
    model = pinnfluence.torch_model(network, terms)
    assert model.n_params == sum(p.numel() for p in network.parameters() if p.requires_grad)
    scores = pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING).scores(grid(2), 0)
    assert scores.term("left").shape == (2, 6)


def test_a_model_in_float32_is_left_as_it_is():
    network, terms, _ = nested()
    network.float()
    before = [p.clone() for p in network.parameters()]
    model = pinnfluence.torch_model(network, terms)
    pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING).scores(grid(2), "u")
    for old, new in zip(before, network.parameters(), strict=True):
        assert new.dtype == torch.float32
        assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("residual", "words"),
    [
        (lambda n, x: n(x) - n(x).mean(), "depend on other points"),
        (lambda n, x: n(x).sum(), "one value a point"),
        (lambda n, x: n(x) / 0, "overflows"),
        (lambda n, x, y: n(x) - y, "cannot be evaluated"),
    ],
)
def test_what_cannot_be_treated_is_refused(residual, words):
    with pytest.raises(InputError, match=words):
        pinnfluence.torch_model(mlp(2), {"pde": (grid(8), residual)})


def test_the_page_runs():
    page = Path(__file__).parents[1] / "docs" / "plain_pytorch.md"
    script, scores, _ = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert len([line for line in scores.splitlines() if line.strip()]) <= 10
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    assert "network(x)" in script
    assert np.isfinite(names["scores"].values).all()


def test_equations_of_a_system_are_told_from_conditions():
    u, v = mlp(2), mlp(2)
    first = lambda networks, x: networks[0](x)  # noqa: E731
    terms = {"pde_u": (grid(6), first), "pde_v": (grid(6), first), "start": (grid(3), first)}
    groups = pinnfluence.torch_model([u, v], terms).groups
    assert groups["pde"] == ["pde_u", "pde_v"]
    assert groups["bcs"] == ["start"]


def test_a_term_that_acts_on_no_test_point_is_named():
    """Its scores are 0 there, which are not those of its residual."""
    terms = {"pde": (grid(6), lambda network, x: network(x))}
    influence = pinnfluence.Influence(pinnfluence.torch_model(mlp(2), terms), damping=1e-3)
    with pytest.warns(UserWarning, match="pde acts on none of these test points"):
        assert not influence.scores(np.full((2, 2), 0.123), "pde").values.any()
    assert influence.scores(influence.train_x, "pde").values.any()
