"""What is built for DeepXDE, and its own ``dde.grad`` path against the loss of the package."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from brute_force import HEIGHT, LENGTH, NU, RHO, TERMS, flow_masks, flow_residuals

from pinnfluence import Equation, InputError, from_deepxde
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.models.deepxde.model import PinnModel, build, dde, geometry
from pinnfluence.problem.domain import Difference, Disk, Interval, Rectangle, SpaceTime
from pinnfluence.problem.parts import Schedule
from pinnfluence.problem.problem import Problem
from pinnfluence.problems import heat
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.training.loss_step import loss_step
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizers.adam import Adam

LAYERS = (2, 8, 8, 3)
SETS = [(v, c) for v in PROBLEM.variants for c in PROBLEM.conditions]


def small(variant: str = "good", conditions: str = "corrected", seed: int = 3) -> PinnModel:
    changed = PROBLEM.variant(variant).changed(layers=LAYERS, num_domain=80, num_boundary=120)
    return build(changed, conditions, seed)


def through_deepxde(model: PinnModel, dtype: torch.dtype):
    """Losses and gradients of the sum, by DeepXDE's evaluation with ``dde.grad``."""
    model.net.to(dtype)
    weights = [model.pinn.loss_weights.get(name, 1.0) for name in model.pinn.terms]
    model.compile("adam", lr=1e-3, loss_weights=weights, verbose=0)
    x = torch.as_tensor(model.data.train_x).to(dtype)
    _, losses = model.outputs_losses_train(x, None, None)
    params = dict(model.net.named_parameters())
    gradients = torch.autograd.grad(losses.sum(), list(params.values()))
    return losses.detach(), dict(zip(params, gradients, strict=True))


def through_the_package(model: PinnModel, dtype: torch.dtype):
    step = loss_step(model.pinn.at(model.train_x), dtype, torch.device("cpu"))
    return step({name: p.detach() for name, p in model.net.to(dtype).named_parameters()})


@pytest.mark.parametrize(("variant", "conditions"), SETS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_same_losses_and_gradients_as_plain_deepxde(variant, conditions, dtype, limit):
    model = small(variant, conditions)
    expected, expected_gradients = through_deepxde(model, dtype)
    losses, gradients = through_the_package(model, dtype)
    assert losses.dtype == expected.dtype == dtype
    assert losses.shape == (len(TERMS),)
    torch.testing.assert_close(losses, expected, rtol=limit, atol=0)
    assert list(gradients) == list(expected_gradients)
    for name, gradient in gradients.items():
        difference = (gradient - expected_gradients[name]).abs().max()
        assert difference <= 10 * limit * expected_gradients[name].abs().max(), name


def plain_pde(x, y):
    jacobian, hessian = dde.grad.jacobian, dde.grad.hessian
    u, v = y[:, 0:1], y[:, 1:2]
    (u_x, u_y, v_x, v_y, p_x, p_y) = (jacobian(y, x, i=i, j=j) for i in range(3) for j in range(2))
    laplace_u, laplace_v = (
        hessian(y, x, component=c, i=0, j=0) + hessian(y, x, component=c, i=1, j=1)
        for c in range(2)
    )
    return [
        u_x + v_y,
        u * u_x + v * u_y + p_x / RHO - NU * laplace_u,
        u * v_x + v * v_y + p_y / RHO - NU * laplace_v,
    ]


def plain_conditions(domain):
    place = {
        name: lambda x, on, name=name: bool(flow_masks(torch.as_tensor(x[None]))[name][0])
        for name in TERMS
    }

    def dirichlet(name, component, value=lambda x: 0):
        return dde.icbc.DirichletBC(domain, value, place[name], component=component)

    def profile(x):
        return 4 * 0.3 * x[:, 1:2] * (HEIGHT - x[:, 1:2]) / HEIGHT**2

    def stress(x, y, _):
        return NU * dde.grad.jacobian(y, x, i=0, j=0) - y[:, 2:3]

    def shear(x, y, _):
        return NU * dde.grad.jacobian(y, x, i=1, j=0)

    return [
        dirichlet("inflow_u", 0, profile),
        dirichlet("inflow_v", 1),
        dde.icbc.OperatorBC(domain, stress, place["outflow_u"]),
        dde.icbc.OperatorBC(domain, shear, place["outflow_v"]),
        dirichlet("noslip_u", 0),
        dirichlet("noslip_v", 1),
    ]


def test_same_losses_as_a_model_written_without_the_package():
    """The flow as a user of DeepXDE writes it, with ``OperatorBC`` and ``DirichletBC``."""
    channel = dde.geometry.Rectangle([0.0, 0.0], [LENGTH, HEIGHT])
    domain = dde.geometry.CSGDifference(channel, dde.geometry.Disk([0.2, 0.2], 0.05))
    dde.config.set_random_seed(3)
    data = dde.data.PDE(
        domain, plain_pde, plain_conditions(domain), num_domain=80, num_boundary=120
    )
    net = dde.nn.FNN(list(LAYERS), "gelu", "Glorot uniform")
    net.apply_feature_transform(lambda x: x / torch.tensor([LENGTH, HEIGHT]))
    plain = dde.Model(data, net)
    plain.compile("adam", lr=1e-3, verbose=0)
    _, expected = plain.outputs_losses_train(data.train_x, None, None)

    model = small(seed=3)
    np.testing.assert_array_equal(model.train_x, data.train_x_all)
    np.testing.assert_array_equal(model.data.train_x, data.train_x)
    for name, p in net.state_dict().items():  # the same start, too
        torch.testing.assert_close(model.net.state_dict()[name], p, rtol=0, atol=0)
    for losses in (
        through_deepxde(model, torch.float32)[0],
        through_the_package(model, torch.float32)[0],
    ):
        torch.testing.assert_close(losses, expected.detach(), rtol=1e-5, atol=0)


def test_losses_by_hand():
    """The mean of squared residuals over the points on which a term acts."""
    model = small()
    losses, _ = through_the_package(model, torch.float64)
    x = torch.as_tensor(model.train_x).double().requires_grad_()
    scaled = x / torch.tensor([LENGTH, HEIGHT], dtype=torch.float64)
    for linear in model.net.linears[:-1]:
        scaled = torch.nn.functional.gelu(linear(scaled))
    residuals, masks = flow_residuals(model.net.linears[-1](scaled), x), flow_masks(x)
    expected = torch.stack([residuals[n][masks[n]].square().mean() for n in TERMS]).detach()
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)


def test_training_is_deepxdes_training():
    """Some Adam steps of ``Model.train`` and of the package, from the same weights."""
    model = small()
    model.compile("adam", lr=1e-3, verbose=0)
    history, _ = model.train(iterations=20, display_every=5, verbose=0)
    own = small()
    objective = TrainingLoss(own.pinn, own.train_x)
    adam = Adam(objective, Schedule(lr=1e-3))
    losses = [objective.current_terms()]
    for _ in range(4):
        for _ in range(5):
            assert adam.step(1) == 1
        losses.append(objective.current_terms())
    assert losses[-1].sum() < losses[0].sum()
    np.testing.assert_allclose(torch.stack(losses), np.array(history.loss_train), rtol=1e-3)
    for name, weight in model.net.state_dict().items():
        found = own.net.state_dict()[name]
        torch.testing.assert_close(found, weight, rtol=1e-3, atol=1e-4)


def test_the_first_weights_are_deepxdes():
    """Glorot uniform from the seed, behind the points, as DeepXDE draws it."""
    model = small(seed=5)
    dde.config.set_random_seed(5)
    dde.data.PDE(geometry(PROBLEM.domain), lambda x, y: y, [], num_domain=80, num_boundary=120)
    net = dde.nn.FNN(list(LAYERS), "gelu", "Glorot uniform")
    assert list(model.net.state_dict()) == list(net.state_dict())
    for name, p in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], p)
    assert model.net is model.pinn.network


def test_same_seed_same_model():
    one, same, other = small(seed=3), small(seed=3), small(seed=4)
    np.testing.assert_array_equal(one.train_x, same.train_x)
    for name, p in one.net.state_dict().items():
        torch.testing.assert_close(p, same.net.state_dict()[name], rtol=0, atol=0)
    weights = (model.net.state_dict()["linears.0.weight"] for model in (one, other))
    assert not torch.equal(*weights)


def waves(f):
    return {"wave": f.u_t - f.u_xx}


def periodic(f):
    return {"value": f.u - f.image.u, "slope": f.u_x - f.derivative((0,))[:, 0] - f.image.u_x}


def measured(f):
    return {"start": f.data[:, 1] * (f.u - f.data[:, 0])}


def periodic_waves() -> Problem:
    """A field that is periodic in x, with measured numbers inside and at the beginning."""
    left, right = (lambda x: x[:, 0] == 0), np.array([1, 0], np.float32)
    conditions = (
        Equation(periodic, left, image=lambda x: x + right, group="boundary"),
        Equation(measured, heat.DOMAIN.at_start, data=lambda x: np.cos(x) + 2, group="initial"),
    )
    changes = {"num_domain": 12, "num_boundary": 12, "num_initial": 6, "layers": (2, 5, 1)}
    changed = heat.PROBLEM.changed(**changes)
    return replace(changed, pde=waves, conditions={"periodic": conditions})


def test_the_own_loss_of_equations_with_data_and_images(monkeypatch):
    """DeepXDE evaluates it with the network at the images, so that the reader can compare."""
    model = build(periodic_waves(), "periodic", seed=2)
    model.compile("adam", lr=1e-3, verbose=0)
    pinn = from_deepxde(model)
    x = torch.as_tensor(model.train_x, dtype=torch.float64)
    start = x[model.train_x[:, 1] == 0]
    u = pinn.network(start)[:, 0].detach()
    expected = ((torch.cos(start[:, 1]) + 2) * (u - torch.cos(start[:, 0]) - 2)).square().mean()
    loss = Loss.of_training(pinn.at(pinn.training_points))
    assert loss.term_sums(9)["start"] == pytest.approx(float(expected))
    flipped = Collocation._fields
    monkeypatch.setattr(
        Collocation,
        "_fields",
        lambda self, whole, n, rows: flipped(self, whole, n, [r.flip(0) for r in rows]),
    )
    with pytest.raises(InputError, match="loss term value is"):
        from_deepxde(model)


def test_geometry():
    shape = Rectangle((0.0, 0.0), (2.0, 1.0)) - Disk((0.5, 0.5), 0.2)
    assert isinstance(shape, Difference)
    found = geometry(shape)
    points = np.random.default_rng(0).random((200, 2)) * [2.4, 1.4] - 0.2
    np.testing.assert_array_equal(found.inside(points), shape.excess(points) <= 0)
    with pytest.raises(TypeError, match="no DeepXDE geometry for int"):
        geometry(3)


def test_geometry_in_space_and_time():
    shape = SpaceTime(Rectangle((0.0, 0.0), (2.0, 1.0)), Interval(1.0, 3.0))
    points = np.random.default_rng(0).random((200, 3)) * [2.4, 1.4, 3.4] - [0.2, 0.2, -0.3]
    found = geometry(shape)
    inside = found.geometry.inside(points[:, :2]) & found.timedomain.inside(points[:, 2:])
    np.testing.assert_array_equal(inside, shape.excess(points) <= 0)
    assert 20 < inside.sum() < 180
    corners = np.array([[0.5, 0.5, 1.0], [0.5, 0.5, 1.0 + 9e-7], [0.0, 0.5, 1.1], [0.5, 0.5, 3.0]])
    assert shape.at_start(corners).tolist() == [True, True, False, False]
    assert shape.excess(np.array([[2.5, 0.5, 1.5], [0.5, 0.5, 0.75]])).tolist() == [0.5, 0.25]


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepxde.backend", SimpleNamespace(backend_name="jax"))
    with pytest.raises(ImportError, match="with the backend jax, expected pytorch"):
        deepxde_model._import_deepxde()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (2, 8, 2)}, "begin with 2 inputs and end with 3 outputs, found 2 8 2"),
        ({"layers": (3, 8, 3)}, "begin with 2 inputs and end with 3 outputs, found 3 8 3"),
        ({"layers": (2, 0, 3)}, "widths from 1"),
        ({"num_domain": -1}, "num_domain must be from 0"),
        ({"num_domain": 0, "num_boundary": 0}, "at least one point"),
        ({"num_boundary": 0}, "loss term inflow_u acts on none of 80 domain and 0 boundary points"),
        ({"num_initial": 5}, "cylinder_flow has no time, found 5 initial points"),
        ({"seed": -1}, "seed must be from 0"),
        ({"conditions": "other"}, "no conditions 'other'"),
    ],
)
def test_bad_input(changes, message):
    changes = {"num_domain": 80, "num_boundary": 120, "layers": LAYERS} | changes
    seed, conditions = changes.pop("seed", 3), changes.pop("conditions", "corrected")
    with pytest.raises(ValueError, match=message):
        build(PROBLEM.changed(**changes), conditions, seed)


def test_a_condition_acts_on_the_boundary_only():
    on = deepxde_model._pointwise(lambda x: np.ones(len(x), bool))
    assert on(np.zeros(2), True)
    assert not on(np.zeros(2), False)


def test_an_initial_condition_acts_at_the_initial_time_only():
    starts = SpaceTime(Interval(0.0, 1.0), Interval(0.0, 1.0)).at_start
    on = deepxde_model._pointwise(starts, starts)
    assert on(np.array([0.5, 0.0]), False)
    assert not on(np.array([0.5, 0.1]), False)
    assert not on(np.array([0.0, 0.1]), True)
