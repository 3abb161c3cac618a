"""The flow problem: its points, its conditions, its residuals."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_residuals
from torch import Tensor, nn

from pinnfluence.field.field import Field
from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.model import PinnModel, build, dde
from pinnfluence.problems.cylinder_flow import PROBLEM, navier_stokes_without_u_u_x, speed

LENGTH, HEIGHT, NU, U_MAX = 2.2, 0.41, 1e-3, 0.3
SETS = [(v, c) for v in PROBLEM.variants for c in PROBLEM.conditions]


@functools.cache
def model(variant: str, conditions: str = "corrected") -> PinnModel:
    return build(PROBLEM.variant(variant).changed(layers=(2, 4, 3)), conditions, seed=42)


def places(x: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of the boundary, told apart by the place alone."""
    x = x.astype(np.float64)
    return {
        "inflow": np.isclose(x[:, 0], 0, atol=1e-6),
        "outflow": np.isclose(x[:, 0], LENGTH, rtol=0, atol=1e-6),
        "walls": np.isclose(x[:, 1], 0, atol=1e-6) | np.isclose(x[:, 1], HEIGHT, rtol=0, atol=1e-6),
        "cylinder": np.isclose(np.hypot(x[:, 0] - 0.2, x[:, 1] - 0.2), 0.05, rtol=0, atol=1e-6),
    }


def acting(variant: str, conditions: str) -> dict[str, np.ndarray]:
    """Masks of the points on which each term acts."""
    x = model(variant).train_x
    rows = model(variant, conditions).pinn.at(x).term_rows()
    return {name: np.isin(np.arange(len(x)), found) for name, found in rows.items()}


@pytest.mark.parametrize(("variant", "sizes"), [("good", (7500, 2500)), ("bad", (1500, 500))])
def test_points_are_those_of_plain_deepxde(variant, sizes):
    dde.config.set_random_seed(42)
    channel = dde.geometry.Rectangle([0.0, 0.0], [LENGTH, HEIGHT])
    domain = dde.geometry.CSGDifference(channel, dde.geometry.Disk([0.2, 0.2], 0.05))
    data = dde.data.PDE(domain, lambda x, y: y, [], num_domain=sizes[0], num_boundary=sizes[1])
    x = model(variant).train_x
    assert x.dtype == data.train_x_all.dtype == np.float32
    assert x.shape == (sum(sizes), 2)
    np.testing.assert_array_equal(x, data.train_x_all)
    boundary = np.any(list(places(x).values()), axis=0)
    assert boundary[: sizes[1]].all()
    assert not boundary[sizes[1] :].any()


def test_numbers_of_points():
    found = {name: int(mask.sum()) for name, mask in places(model("good").train_x).items()}
    assert found == {"inflow": 99, "outflow": 99, "walls": 1090, "cylinder": 1213}
    assert model("good", "published").data.train_x.shape == (13_512, 2)
    assert model("good", "corrected").data.train_x.shape == (13_512 + 2 * 745, 2)
    np.testing.assert_array_equal(model("broken").train_x, model("good").train_x)


@pytest.mark.parametrize("variant", ["good", "bad"])
def test_every_boundary_point_is_in_the_conditions_of_its_place(variant):
    at, masks = places(model(variant).train_x), acting(variant, "corrected")
    no_slip = at["walls"] | at["cylinder"]
    expected = {"inflow": at["inflow"], "outflow": at["outflow"], "noslip": no_slip}
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, expected.get(name.split("_")[0], True), err_msg=name)


@pytest.mark.parametrize(("conditions", "on_cylinder"), [("corrected", 1213), ("published", 468)])
def test_no_slip_on_the_cylinder(conditions, on_cylinder):
    at, masks = places(model("good").train_x), acting("good", conditions)
    for name in ("noslip_u", "noslip_v"):
        assert (masks[name] & at["cylinder"]).sum() == on_cylinder
        assert (masks[name] & at["walls"]).sum() == 1090
        assert masks[name].sum() == on_cylinder + 1090
    for name in ("inflow_u", "inflow_v", "outflow_u", "outflow_v"):
        assert masks[name].sum() == 99
    for name in ("continuity", "momentum_x", "momentum_y"):
        assert masks[name].sum() == 10_000


def test_corner_is_in_both_conditions():
    at, masks = places(model("good").train_x), acting("good", "corrected")
    corner = at["outflow"] & at["walls"]
    assert corner.sum() == 1
    assert not (at["inflow"] & at["walls"]).any()
    for name in ("outflow_u", "outflow_v", "noslip_u", "noslip_v"):
        assert masks[name][corner].all()


@pytest.mark.parametrize("conditions", ["corrected", "published"])
def test_deepxde_has_the_same_points_in_its_conditions(conditions):
    built = model("good", conditions)
    rows = built.pinn.at(built.train_x).term_rows()
    ends = np.cumsum([0, *built.data.num_bcs])
    names = [name for name in TERMS if name not in ("continuity", "momentum_x", "momentum_y")]
    for name, (start, stop) in zip(names, pairwise(ends), strict=True):
        np.testing.assert_array_equal(built.data.train_x[start:stop], built.train_x[rows[name]])


class Polynomial(nn.Module):
    """u = 1 + x^2 y, v = -x y^2 + y, p = x y^3, with one parameter that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        x, y = points[:, 0], points[:, 1]
        return torch.stack([1 + x**2 * y, -x * y**2 + y, x * y**3], 1)


class Poiseuille(Polynomial):
    """The flow in the channel without a cylinder: a parabola, and a pressure that falls."""

    def forward(self, points: Tensor) -> Tensor:
        x, y = points[:, 0], points[:, 1]
        u = 4 * U_MAX * y * (HEIGHT - y) / HEIGHT**2
        return torch.stack([u, 0 * u, 8 * NU * U_MAX / HEIGHT**2 * (LENGTH - x)], 1)


class Kovasznay(Polynomial):
    """An exact solution of the Navier-Stokes equations with a convection term in x."""

    def forward(self, points: Tensor) -> Tensor:
        x, y = points[:, 0], 2 * np.pi * points[:, 1]
        rate = 0.5 / NU - (0.25 / NU**2 + 4 * np.pi**2) ** 0.5
        e = torch.exp(rate * x)
        u, v = 1 - e * torch.cos(y), rate / (2 * np.pi) * e * torch.sin(y)
        return torch.stack([u, v, 0.5 * (1 - e * e)], 1)


def residuals_of(network: nn.Module, variant: str, conditions: str, x: np.ndarray):
    equations = PROBLEM.variant(variant).equations(conditions)
    pinn = Pinn(network, PROBLEM.inputs, PROBLEM.outputs, equations, PROBLEM.quantities)
    at = pinn.at(x)
    return at.residuals(pinn.params), at.term_rows()


@pytest.mark.parametrize(("variant", "conditions"), SETS)
@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_residuals(flow_pinn, flow_points, variant, conditions, activation):
    x = flow_points(40, 0)
    network = flow_pinn(activation=activation).network
    found, rows = residuals_of(network, variant, conditions, x)
    assert tuple(found) == TERMS
    points = torch.as_tensor(x).double().requires_grad_()
    expected = flow_residuals(network(points), points, variant, conditions)
    for name in TERMS:
        torch.testing.assert_close(
            found[name], expected[name][rows[name]], rtol=1e-10, atol=1e-14, msg=name
        )


@pytest.mark.parametrize("variant", PROBLEM.variants)
def test_residuals_by_hand(flow_points, variant):
    """Of a field whose derivatives are written down, not computed."""
    points = flow_points(40, 0)
    found, rows = residuals_of(Polynomial(), variant, "corrected", points)
    x, y = points.T.astype(np.float64)
    u, v, p = 1 + x**2 * y, -x * y**2 + y, x * y**3
    convection = v * x**2 + (0 if variant == "broken" else u * 2 * x * y)
    expected = {
        "continuity": 2 * x * y - 2 * x * y + 1,
        "momentum_x": convection + y**3 - 0.001 * 2 * y,
        "momentum_y": u * -(y**2) + v * (1 - 2 * x * y) + 3 * x * y**2 - 0.001 * -2 * x,
        "inflow_u": u - 1.2 * y * (0.41 - y) / 0.1681,
        "inflow_v": v,
        "outflow_u": 0.001 * 2 * x * y - p,
        "outflow_v": 0.001 * -(y**2),
        "noslip_u": u,
        "noslip_v": v,
    }
    for name in TERMS:
        np.testing.assert_allclose(
            found[name].numpy(), expected[name][rows[name]], rtol=1e-12, atol=1e-15, err_msg=name
        )


def test_published_outflow_takes_u_y_by_hand(flow_points):
    found, rows = residuals_of(Polynomial(), "good", "published", flow_points(9, 0))
    x, _ = flow_points(9, 0).T.astype(np.float64)
    expected = 0.001 * x[rows["outflow_v"]] ** 2
    np.testing.assert_allclose(found["outflow_v"].numpy(), expected, rtol=1e-12)


def test_poiseuille_flow_solves_all_but_the_cylinder(flow_points):
    x = flow_points(40, 0)
    found, rows = residuals_of(Poiseuille(), "good", "corrected", x)
    for name in set(TERMS) - {"noslip_u"}:
        assert found[name].abs().max() < 1e-9, name
    walls = places(x)["walls"][rows["noslip_u"]]
    assert found["noslip_u"][walls].abs().max() < 1e-6  # the upper wall is a float32
    assert found["noslip_u"][~walls].min() > 0.1


def test_kovasznay_flow_solves_navier_stokes(flow_points):
    x = flow_points(40, 0)
    found, _ = residuals_of(Kovasznay(), "good", "corrected", x)
    broken, _ = residuals_of(Kovasznay(), "broken", "corrected", x)
    for name in ("continuity", "momentum_x", "momentum_y"):
        assert found[name].abs().max() < 1e-12, name
    assert broken["momentum_x"].abs().max() > 1e-3


def field_of(u: Tensor, v: Tensor) -> Field:
    outputs = torch.stack([u, v, u], 1)
    return Field(("x", "y"), ("u", "v", "p"), torch.zeros(len(u), 2), {(): outputs})


def test_speed_is_the_length_of_the_velocity():
    u, v = torch.randn(2, 20, dtype=torch.float64, requires_grad=True).unbind(0)
    found, expected = speed(field_of(u, v)), torch.hypot(u, v)
    torch.testing.assert_close(found, expected)
    for x in (u, v):
        torch.testing.assert_close(
            *(torch.autograd.grad(s.sum(), x, retain_graph=True) for s in (found, expected))
        )


def test_speed_at_rest_has_gradient_zero():
    u = torch.zeros(2, requires_grad=True)
    v = torch.tensor([0.0, 2.0], requires_grad=True)
    found = speed(field_of(u, v))
    gradients = torch.autograd.grad(found.sum(), [u, v])
    assert found.tolist() == [0.0, 2.0]
    assert [g.tolist() for g in gradients] == [[0.0, 0.0], [0.0, 1.0]]


def test_variants_list_only_what_differs():
    good, broken, bad = (PROBLEM.variant(name) for name in ("good", "broken", "bad"))
    assert good == PROBLEM
    assert broken.pde is navier_stokes_without_u_u_x
    sampling = bad.sampling
    assert (bad.pde, sampling.num_domain, sampling.num_boundary) == (PROBLEM.pde, 1500, 500)
    with pytest.raises(ValueError, match="no variant 'ugly', expected one of good, broken, bad"):
        PROBLEM.variant("ugly")
    with pytest.raises(ValueError, match="no conditions 'x', expected one of corrected, published"):
        PROBLEM.equations("x")


def test_the_nondimensional_variant_by_hand():
    """Its weighted losses are those of the equations at Re 20 in diameters and mean velocities."""
    built = build(PROBLEM.variant("nondimensional"), "corrected", seed=1)
    built.net.double()
    pinn = built.pinn
    x = built.train_x[::17]
    at = pinn.at(x)
    found = {
        name: pinn.loss_weights[name] * float((r.detach() ** 2).mean())
        for name, r in at.residuals(pinn.params).items()
    }
    plain = MLP((2, 64, 64, 64, 3), "tanh", (22.0, 4.1)).double()
    plain.load_state_dict(built.net.state_dict())
    points = torch.from_numpy(x).double().mul(10).requires_grad_()
    u, v, p = plain(points).T
    gradients = [torch.autograd.grad(f.sum(), points, create_graph=True)[0].T for f in (u, v, p)]
    (u_x, u_y), (v_x, v_y), (p_x, p_y) = gradients

    def laplacian(f_x: Tensor, f_y: Tensor) -> Tensor:
        f_xx, f_yy = (
            torch.autograd.grad(g.sum(), points, retain_graph=True)[0][:, i]
            for i, g in enumerate((f_x, f_y))
        )
        return f_xx + f_yy

    y, Re = points[:, 1], 20
    expected = {
        "continuity": u_x + v_y,
        "momentum_x": u * u_x + v * u_y + p_x - laplacian(u_x, u_y) / Re,
        "momentum_y": u * v_x + v * v_y + p_y - laplacian(v_x, v_y) / Re,
        "inflow_u": u - 4 * 1.5 * y * (4.1 - y) / 4.1**2,
        "inflow_v": v,
        "outflow_u": u_x / Re - p,
        "outflow_v": v_x / Re,
        "noslip_u": u,
        "noslip_v": v,
    }
    rows = at.term_rows()
    for name, residual in expected.items():
        mean = float((residual.detach()[torch.from_numpy(rows[name])] ** 2).mean())
        assert found[name] == pytest.approx(mean, rel=1e-9), name


def test_domain():
    x = [[0, 0], [2.2, 0.41], [0.2, 0.2], [0.2, 0.25], [1, 0.5], [-0.1, 0.2], [0.2, 0.22]]
    expected = [0, 0, 0.05, 0, 0.09, 0.1, 0.03]
    np.testing.assert_allclose(PROBLEM.domain.excess(np.array(x)), expected, atol=1e-12)
