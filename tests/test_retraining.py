"""Retraining without points: the solver, experiments, interruption, the key of what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import retrained_pinn
import torch
from retrained_pinn import (
    EQUATIONS,
    GROUPS,
    PROXIMAL,
    WEIGHTS,
    at_edge,
    experiment_of,
    objective_of,
)
from scipy.optimize import minimize

from pinnfluence import Equation, Pinn
from pinnfluence.loss.loss import Loss
from pinnfluence.storage.stage_store import StageStore
from pinnfluence.validation import experiments, retraining
from pinnfluence.validation.experiments import (
    Experiment,
    Settings,
    random_groups,
    spread_points,
)
from pinnfluence.validation.objective import flat_parameters, with_parameters
from pinnfluence.validation.predictions import randomised
from pinnfluence.validation.retraining import Preconditioner, retrain


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return retrained_pinn.points()


@pytest.fixture(scope="module")
def pinn() -> Pinn:
    return retrained_pinn.pinn()


@pytest.fixture(scope="module")
def outcome() -> experiments.Outcome:
    return retrained_pinn.outcome()


def test_weights_are_those_of_training(pinn, points):
    assert Loss.of_training(pinn.at(points)).weights == {"equation": 1 / 40, "edge": 3 / 12}


def test_weight_decay_is_part_of_what_is_minimised(pinn, points):
    plain, decayed = (objective_of(p, points) for p in (pinn, replace(pinn, weight_decay=0.3)))
    theta = plain.start + 0.01
    expected = plain.value(theta) + 0.15 * float(theta.square().sum())
    assert decayed.value(theta) == pytest.approx(expected, rel=1e-12)


def test_gradient_and_products_are_those_of_the_loss(pinn, points):
    objective = objective_of(pinn, points)
    theta = objective.start + 0.01 * torch.arange(len(objective.start)).double().sin()
    loss, gradient, at = objective.gradient(theta)
    assert loss == pytest.approx(objective.value(theta), rel=1e-12)
    v = torch.arange(len(theta)).double().cos()
    h = 1e-5
    ahead, behind = (objective.gradient(theta + sign * h * v) for sign in (1, -1))
    slope = (objective.value(theta + h * v) - objective.value(theta - h * v)) / (2 * h)
    assert float(gradient.detach() @ v) == pytest.approx(slope, rel=1e-6)
    product = objective.product(gradient, at, v)
    expected = (ahead[1] - behind[1]).detach() / (2 * h)
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-8)


def test_retraining_finds_what_scipy_finds(pinn, points):
    left = np.setdiff1d(np.arange(40), [3])
    whole = objective_of(pinn, points)
    objective = replace(whole, loss=whole.loss.subset(left))
    factor = Preconditioner(whole, whole.start).without(np.array([3]))
    found = retrain(objective, whole.start, factor, 1e-10)
    assert found.converged
    assert found.gradient_norm <= 1e-10

    def with_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, _ = objective.gradient(torch.as_tensor(theta))
        return 1e3 * loss, 1e3 * gradient.detach().numpy()

    options = {"maxiter": 5000, "gtol": 1e-12}
    other = minimize(with_gradient, whole.start.numpy(), jac=True, method="BFGS", options=options)
    moved = np.linalg.norm(found.theta.numpy() - whole.start.numpy())
    assert np.linalg.norm(found.theta.numpy() - other.x) < 1e-2 * moved


def test_factor_without_points_is_that_of_the_rest(pinn, points):
    whole = objective_of(pinn, points)
    gone = np.array([20, 2])
    left = np.setdiff1d(np.arange(40), gone)
    rest = replace(whole, loss=whole.loss.subset(left))
    v = torch.arange(len(whole.start)).double().sin()
    torch.testing.assert_close(
        Preconditioner(whole, whole.start).without(gone)(v),
        Preconditioner(rest, whole.start)(v),
        rtol=1e-6,
        atol=1e-8,
    )


def test_retraining_says_when_it_did_not_converge(pinn, points, monkeypatch):
    objective = objective_of(pinn, points)
    away = objective.start + 0.5
    monkeypatch.setattr(retraining, "MAX_ITERATIONS", 3)
    found = retrain(objective, away, Preconditioner(objective, away), 0.0)
    assert not found.converged
    assert found.gradient_norm > 0


def test_renormalised_weights_add_the_gradient_of_the_term(pinn, points):
    x = np.random.default_rng(1).random((30, 2))
    settings = Settings(PROXIMAL, tolerance=1e-7, renormalised=True)
    groups = [np.array([3]), np.array([30])]
    found = Experiment(pinn, points, x, settings).run(groups)
    held = Experiment(pinn, points, x, replace(settings, renormalised=False)).run(groups)
    assert found.converged.all()
    assert not np.allclose(found.changes, held.changes, rtol=0.05)


def test_interrupted_retraining_goes_on(pinn, points, tmp_path, outcome):
    groups = GROUPS
    experiment = experiment_of(pinn, points)
    store = StageStore(tmp_path, experiment.key(groups))

    class StopError(Exception):
        pass

    def stop(n: int) -> None:
        if store.load("retrained") is not None:
            raise StopError

    store.is_due = lambda: True  # type: ignore[method-assign]
    with pytest.raises(StopError):
        experiment.run(groups, store=store, advance=stop)
    told: list[int] = []
    found = experiment.run(groups, store=StageStore(tmp_path, store.key), advance=told.append)
    assert told[0] > 0
    assert sum(told) == len(GROUPS)
    np.testing.assert_array_equal(found.changes, outcome.changes)


@pytest.mark.parametrize(("n_saves", "many"), [(2, 2), (3, 2), (2, 100)])
def test_an_interrupted_control_goes_on(pinn, points, tmp_path, monkeypatch, n_saves, many):
    """To the same bytes, whether the preconditioner was renewed on the way or not."""
    monkeypatch.setattr(retraining, "MANY_PRODUCTS", many)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        start = flat_parameters(pinn) + 0.02 * torch.randn(pinn.n_params).double()
    away = with_parameters(pinn, start)
    whole, stages = experiment_of(away, points).minimum(), []
    experiment = experiment_of(away, points)
    store = StageStore(tmp_path, experiment.key([]))
    store.is_due = lambda: True  # type: ignore[method-assign]
    save = store.save

    def stop(stage, *what):
        save(stage, *what)
        stages.append(stage)
        if len(stages) == n_saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.minimum(store)
    assert set(stages) == {"control_so_far"}
    again = StageStore(tmp_path, store.key)
    saved = again.load("control_so_far")
    assert saved is not None
    assert not np.array_equal(saved.arrays["theta"], start.numpy())
    started: list[torch.Tensor] = []

    def watch(objective, theta, *rest):
        started.append(theta)
        return retrain(objective, theta, *rest)

    monkeypatch.setattr(experiments, "retrain", watch)
    found = experiment_of(away, points).minimum(again)
    np.testing.assert_array_equal(started[0].numpy(), saved.arrays["theta"])
    assert flat_parameters(found).numpy().tobytes() == flat_parameters(whole).numpy().tobytes()
    assert again.load("control_so_far") is None
    assert again.load("control") is not None


def test_the_control_is_retrained_once(pinn, points, monkeypatch):
    """Also where nothing can be kept."""
    experiment, calls = experiment_of(pinn, points), []
    make = experiment._make_control

    def counted(store):
        calls.append(1)
        return make(store)

    monkeypatch.setattr(experiment, "_make_control", counted)
    experiment.control()
    experiment.run([GROUPS[0]])
    experiment.minimum()
    assert calls == [1]


def test_processes_give_the_same(pinn, points, outcome):
    found = experiment_of(pinn, points).run(GROUPS[:6], n_processes=2)
    np.testing.assert_allclose(found.changes, outcome.changes[:6], rtol=1e-6, atol=1e-12)


def test_key_tells_experiments_apart(pinn, points):
    groups = [np.array([1])]
    keys = {
        experiment_of(pinn, points).key(groups),
        experiment_of(pinn, points).key([np.array([2])]),
        experiment_of(pinn, points, 1e-4).key(groups),
        experiment_of(randomised(pinn), points).key(groups),
        experiment_of(pinn, points[:-1]).key(groups),
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"loss_weights": WEIGHTS | {"edge": 4.0}},
        {"equations": (EQUATIONS[0], Equation(lambda f: {"edge": f.u - 2 * f.t}, at_edge))},
        {"equations": (Equation(lambda f: {"equation": f.u_t - 2 * f.u_xx}), EQUATIONS[1])},
        {"quantities": {"flux": lambda f: -f.u_x}},
    ],
    ids=["loss weight", "condition", "equation", "quantity"],
)
def test_retrainings_of_another_problem_are_not_taken(pinn, points, changed):
    """Of the same network at the same points."""
    groups = [np.array([1])]
    key = experiment_of(replace(pinn, **changed), points).key(groups)
    assert key != experiment_of(pinn, points).key(groups)


def test_an_equation_of_the_same_values_and_other_gradients_has_another_key(pinn, points):
    def key(residual):
        equations = (Equation(lambda f: {"equation": residual(f)}), EQUATIONS[1])
        return experiment_of(replace(pinn, equations=equations), points).key([np.array([1])])

    whole, detached = key(lambda f: f.u * f.u_x), key(lambda f: f.u.detach() * f.u_x)
    assert whole == key(lambda f: f.u_x * f.u) != detached


def test_points_are_spread_over_the_terms(pinn, points):
    groups = spread_points(pinn.at(points), 10)
    chosen = np.concatenate(groups)
    assert len(set(chosen)) == 10
    assert (chosen < 12).sum() == 5
    assert len(spread_points(pinn.at(points), 100)) == 40
    assert [len(g) for g in random_groups(40, 20, 3)] == [20, 20, 20]
