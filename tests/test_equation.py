"""Equations as ordinary functions, with data and images, against autograd and by hand."""

import operator

import numpy as np
import pytest
import torch
from torch import nn

from pinnfluence import MLP, Equation, Influence, Pinn
from pinnfluence.field.field import derivatives_used
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.training.objective import TrainingLoss

RNG = np.random.default_rng(5)
X = np.concatenate(
    [
        RNG.random((12, 2)),
        np.stack([np.zeros(6), np.linspace(0, 1, 6)], 1),
        np.stack([np.linspace(0.1, 0.9, 5), np.zeros(5)], 1),
    ]
).astype(np.float32)
LEFT, START = X[:, 0] == 0, X[:, 1] == 0
RIGHT = np.array([1, 0], np.float32)


def waves(f):
    return {"wave": f.u_tt - f.u_xx}


def periodic(f):
    return {"value": f.u - f.image.u, "slope": f.u_x - f.image.u_x}


def measured(f):
    return {"start": f.u - f.data[:, 0], "speed": f.data[:, 1] * (f.u_t - f.data[:, 2])}


def targets(x):
    return np.stack([np.sin(x[:, 0]), 1 + x[:, 0], np.full(len(x), 1 / 3)], 1).astype(np.float64)


EQUATIONS = (
    Equation(waves),
    Equation(periodic, lambda x: x[:, 0] == 0, image=lambda x: x + RIGHT),
    Equation(measured, lambda x: x[:, 1] == 0, data=targets, group="data"),
)


@pytest.fixture(scope="module")
def pinn() -> Pinn:
    torch.manual_seed(3)
    return Pinn(MLP((2, 7, 6, 1), "tanh").double(), ("x", "t"), ("u",), EQUATIONS)


def by_autograd(network: nn.Module) -> dict[str, torch.Tensor]:
    """The same residuals, term by term, with the derivatives by autograd."""

    def derivatives(points):
        x = torch.as_tensor(points, dtype=torch.float64).requires_grad_()
        u = network(x)[:, 0]
        first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        second = [torch.autograd.grad(d.sum(), x, create_graph=True)[0] for d in first.unbind(1)]
        return u, first[:, 0], first[:, 1], second[0][:, 0], second[1][:, 1]

    _, _, _, u_xx, u_tt = derivatives(X)
    u, u_x, *_ = derivatives(X[LEFT])
    image, image_x, *_ = derivatives(X[LEFT] + RIGHT)
    start, _, start_t, *_ = derivatives(X[START])
    data = torch.as_tensor(targets(X[START]))
    return {
        "wave": u_tt - u_xx,
        "value": u - image,
        "slope": u_x - image_x,
        "start": start - data[:, 0],
        "speed": data[:, 1] * (start_t - data[:, 2]),
    }


def test_terms_and_derivatives_are_found_by_asking(pinn: Pinn) -> None:
    assert pinn.names == (("wave",), ("value", "slope"), ("start", "speed"))
    used = [pinn.derivatives([equation]) for equation in EQUATIONS]
    assert used == [[(), (0,), (1,), (0, 0), (1, 1)], [(), (0,)], [(), (1,)]]


def test_derivatives_of_the_image_alone_are_computed() -> None:
    image = Equation(lambda f: {"r": f.u - f.image.u_tt}, image=lambda x: x)
    network = MLP((2, 4, 1), "tanh").double()
    found = Pinn(network, ("x", "t"), ("u",), (image,)).at(X)
    assert (1, 1) in found.pinn.derivatives([image])
    assert found.residuals(found.pinn.params)["r"].shape == (len(X),)


def test_residuals(pinn: Pinn) -> None:
    found, expected = pinn.at(X).residuals(pinn.params), by_autograd(pinn.network)
    assert list(found) == list(expected)
    for name, r in expected.items():
        torch.testing.assert_close(found[name], r.detach(), rtol=1e-11, atol=1e-13)


def test_gradients_of_single_points(pinn: Pinn) -> None:
    parameters = list(pinn.network.parameters())
    found = {
        name: rows for one in pinn.at(X).singles() for name, (_, rows) in jacobian(one).items()
    }
    for name, residuals in by_autograd(pinn.network).items():
        for row, r in enumerate(residuals):
            slopes = torch.autograd.grad(r, parameters, retain_graph=True, allow_unused=True)
            flat = [
                torch.zeros_like(p) if g is None else g
                for g, p in zip(slopes, parameters, strict=True)
            ]
            expected = torch.cat([g.flatten() for g in flat])
            torch.testing.assert_close(found[name][row], expected, rtol=1e-9, atol=1e-11, msg=name)


def test_the_loss_of_training(pinn: Pinn) -> None:
    total = TrainingLoss(pinn, X).evaluate()
    parameters = list(pinn.network.parameters())
    gradients = [p.grad for p in parameters]
    means = [r.square().mean() for r in by_autograd(pinn.network).values()]
    expected = torch.stack(means).sum()
    torch.testing.assert_close(total, expected.detach())
    for found, slope in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(found, slope)


def test_influence_takes_them(pinn: Pinn) -> None:
    scores = Influence(pinn, X).scores(X[:3], "u")
    assert np.isfinite(np.asarray(scores[:])).all()


def test_data_are_evaluated_once_for_a_set_of_points() -> None:
    calls = []

    def counted(x):
        calls.append(len(x))
        return targets(x)

    equation = Equation(measured, lambda x: x[:, 1] == 0, data=counted)
    network = MLP((2, 4, 1), "tanh").double()
    collocation = Pinn(network, ("x", "t"), ("u",), (equation,)).at(X)
    for _ in range(3):
        collocation.residuals(collocation.pinn.params)
    assert sorted(calls) == [1, START.sum()]  # once to count the columns


@pytest.mark.parametrize("data", [lambda x: x[:, 0], lambda x: np.zeros((2, 1)), lambda x: 3.0])
def test_data_of_another_shape_are_refused(data) -> None:
    pinn = Pinn(MLP((2, 4, 1), "tanh"), ("x", "t"), ("u",), ())
    with pytest.raises(ValueError, match=r"expected data of shape \[n, n_data\]"):
        pinn.names_of([Equation(lambda f: {"r": f.u - f.data[:, 0]}, data=data)])


def test_what_an_equation_does_not_have_is_named() -> None:
    for name in ("data", "image"):
        with pytest.raises(AttributeError, match=f"no {name}: its equation has none"):
            derivatives_used([operator.attrgetter(name)], ("x",), ("u",), torch.zeros(1, 1))


# ---- groups


def test_groups_are_stated_or_follow_from_the_place() -> None:
    assert [equation.group for equation in EQUATIONS] == ["pde", "boundary", "data"]
    assert Equation(waves, lambda x: x[:, 0] > 0.5, group="pde").group == "pde"
    with pytest.raises(ValueError, match="unknown group 'bcs' of an equation, expected one of pde"):
        Equation(waves, group="bcs")  # type: ignore[arg-type]


def test_sums_hold_the_pde_and_everything_else(pinn: Pinn) -> None:
    rest = ["value", "slope", "start", "speed"]
    assert pinn.groups == {"pde": ["wave"], "bcs": rest, "all": ["wave", *rest]}


def test_a_pde_on_a_part_of_the_domain_is_a_pde(pinn: Pinn) -> None:
    part = Equation(waves, lambda x: x[:, 0] > 0.5, group="pde")
    own = Pinn(pinn.network, pinn.inputs, pinn.outputs, (part,))
    assert own.groups == {"pde": ["wave"], "bcs": [], "all": ["wave"]}
    assert own.at(X).only(0).equations[0].group == "pde"
