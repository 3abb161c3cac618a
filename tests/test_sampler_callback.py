"""Samplers as callbacks of stock DeepXDE models."""

import numpy as np
import pytest
import torch

import pinnfluence
from pinnfluence import InputError
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.samplers.strategies import STRATEGIES


def heat_model(optimizer: str = "adam", width: int = 6, **settings: object) -> dde.Model:  # type: ignore[name-defined]
    """A stock script: heat in a rod, cold at both ends, a sine at the start."""

    def pde(x, y):
        return dde.grad.jacobian(y, x, i=0, j=1) - 0.4 * dde.grad.hessian(y, x, i=0, j=0)

    dde.config.set_random_seed(0)
    domain = dde.geometry.GeometryXTime(dde.geometry.Interval(0, 1), dde.geometry.TimeDomain(0, 1))
    cold = dde.icbc.DirichletBC(domain, lambda x: 0, lambda x, on: on)
    start = dde.icbc.IC(domain, lambda x: np.sin(np.pi * x[:, 0:1]), lambda x, on: on)
    numbers = {"num_domain": 20, "num_boundary": 8, "num_initial": 7, **settings}
    data = dde.data.TimePDE(domain, pde, [cold, start], **numbers)
    model = dde.Model(data, dde.nn.FNN([2, width, 1], "tanh", "Glorot uniform"))
    model.compile(optimizer, lr=1e-2 if optimizer == "adam" else None, verbose=0)
    return model


class Seen(dde.callbacks.Callback):  # type: ignore[name-defined]
    """The points of each step, as DeepXDE trained on them."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[np.ndarray] = []

    def on_batch_end(self) -> None:
        self.points.append(self.model.train_state.X_train.copy())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_points_change_just_before_the_next_step(strategy: str) -> None:
    model, seen = heat_model(), Seen()
    sampler = pinnfluence.PointSampler(strategy, every=5, seed=3, n_candidates=200)
    of_conditions = model.data.train_x_bc.copy()
    model.train(iterations=15, callbacks=[sampler, seen], verbose=0)
    assert [done.step for done in sampler.log] == [5, 10]
    assert [np.array_equal(a, b) for a, b in zip(seen.points, seen.points[1:], strict=False)] == [
        n not in (4, 9) for n in range(14)
    ]
    assert np.array_equal(model.data.train_x, seen.points[-1])  # what the last step saw
    n_bcs = sum(model.data.num_bcs)
    for points in seen.points:
        np.testing.assert_array_equal(points[:n_bcs], of_conditions)
    mode = STRATEGIES[strategy].mode
    everywhere = {tuple(p) for p in model.data.train_x_all.tolist()}
    assert len(everywhere) == len(model.data.train_x_all) == (55 if mode == "add" else 35)
    assert {tuple(p) for p in sampler.log[-1].points.tolist()} <= everywhere
    assert {tuple(p) for p in of_conditions.tolist()} <= everywhere
    pinn = from_deepxde(model)  # compares losses and gradients with DeepXDE's own
    assert {tuple(p) for p in pinn.training_points.tolist()} == everywhere


def test_losses_follow_the_points() -> None:
    """DeepXDE's own losses after the change are those of a model that was made with the points."""
    model = heat_model()
    model.train(iterations=11, callbacks=[pinnfluence.PointSampler("rar", every=5, n=4)], verbose=0)
    anchors = model.data.train_x_all[:8]
    fresh = heat_model(anchors=anchors)
    np.testing.assert_array_equal(
        np.sort(fresh.data.train_x_all, axis=0), np.sort(model.data.train_x_all, axis=0)
    )
    fresh.net.load_state_dict(model.net.state_dict())
    ours, theirs = (
        m._outputs_losses(True, m.data.train_x, m.data.train_y, m.data.train_aux_vars)[1]
        for m in (model, fresh)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_log_says_what_was_done_and_why() -> None:
    model = heat_model()
    sampler = pinnfluence.InfluenceSampler(every=6, n=3, n_candidates=60)
    model.train(iterations=8, callbacks=[sampler], verbose=0)
    (done,) = sampler.log
    assert (done.step, done.strategy, done.mode, done.number) == (6, "influence", "add", 3)
    np.testing.assert_array_equal(done.points, model.data.anchors)
    assert done.residuals.shape == (60,)
    assert done.kept.sum() == 35
    assert done.helpful is None
    assert "3 points added by influence, 35 kept" in str(done)


def test_points_for_a_quantity_of_ones_own() -> None:
    points = []
    for at in ([[0.1, 0.1]], [[0.9, 0.9]]):
        model = heat_model()
        sampler = pinnfluence.InfluenceSampler(
            every=5, n=1, n_candidates=100, quantity=lambda f: f.u_x, at=np.array(at)
        )
        model.train(iterations=6, callbacks=[sampler], verbose=0)
        points.append(sampler.log[0].points)
        assert f"({sampler.log[0].helpful} lower the estimated error)" in str(sampler.log[0])
    assert not np.array_equal(points[0], points[1])
    with pytest.raises(InputError, match="a quantity and the points at= of its error"):
        pinnfluence.InfluenceSampler(every=5, quantity="u")


def test_a_second_training_goes_on_and_another_model_begins() -> None:
    model, sampler = heat_model(), pinnfluence.PointSampler("random", every=5, mode="add", n=2)
    for _ in range(2):
        model.train(iterations=6, callbacks=[sampler], verbose=0)
    assert [done.step for done in sampler.log] == [5, 10]
    other = heat_model()
    other.train(iterations=6, callbacks=[sampler], verbose=0)
    assert [done.step for done in sampler.log] == [5, 10, 5]


def test_lbfgs_begins_without_a_memory_and_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"maxiter": 60, "iter_per_step": 10, "fun_per_step": 25}
    for name, value in options.items():
        monkeypatch.setitem(dde.optimizers.config.LBFGS_options, name, value)
    model = heat_model("L-BFGS")
    memories = []

    class Memory(dde.callbacks.Callback):  # type: ignore[name-defined]
        def on_batch_begin(self) -> None:
            state = self.model.opt.state_dict()["state"]
            memories.append(len(state[0]["old_dirs"]) if state else 0)

    sampler = pinnfluence.PointSampler("rad", every=20, n_candidates=100)
    model.train(callbacks=[sampler, Memory()], verbose=0)
    assert [done.step for done in sampler.log] == [20, 40]
    assert model.train_state.iteration == 60
    assert memories[0] == memories[2] == memories[4] == 0
    assert min(memories[1], memories[3], memories[5]) > 0
    losses = [float(np.sum(loss)) for loss in model.losshistory.loss_train]
    assert losses[-1] < losses[0] / 10
    assert all(torch.isfinite(p).all() for p in model.net.parameters())


def test_what_has_no_domain_or_no_equation_is_refused() -> None:
    x = np.linspace(0, 1, 9)[:, None]
    data = dde.data.DataSet(X_train=x, y_train=x, X_test=x, y_test=x)
    model = dde.Model(data, dde.nn.FNN([1, 4, 1], "tanh", "Glorot uniform"))
    model.compile("adam", lr=1e-3, verbose=0)
    sampler = pinnfluence.PointSampler("rad", every=1)
    with pytest.raises(InputError, match="found data without a geometry"):
        model.train(iterations=3, callbacks=[sampler], verbose=0)
    with pytest.raises(InputError, match="no sampler 'rat'"):
        pinnfluence.PointSampler("rat", every=1)
    with pytest.raises(InputError, match="knows no domain yet"):
        sampler._sampler.draw(3, 0)
