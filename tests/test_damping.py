"""The damping of the rule ``auto`` against its definition with dense matrices; its invariances."""

import numpy as np
import pytest
import torch
from brute_force import TERMS

from pinnfluence import Influence, Pinn
from pinnfluence.curvature.damping import (
    LIMIT,
    N_SIGNS,
    N_TRIED,
    Criteria,
    automatic_damping,
    neglected_part,
    open_part,
    rounding,
    signed_gradients,
)
from pinnfluence.curvature.inverse import METHODS
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor

WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))
EPSILON = float(np.finfo(np.float32).eps)


def rule(open_at, neglected_at=lambda damping: 0.0, largest=100.0, lowest=0.0):
    return automatic_damping(largest, lowest, 1e-7, open_at, neglected_at)


@pytest.fixture(scope="module")
def loss(flow_pinn, flow_points):
    return Loss(flow_pinn((2, 6, 5, 3)).at(flow_points(30)), WEIGHTS)


def dense_at(curvature, damping):
    method = METHODS["dense"](curvature)
    method.fit()
    return method.at(damping)


@pytest.fixture(scope="module")
def point_gradients(loss) -> np.ndarray:
    """Gradients ``[n_train, n_params]`` of the points' losses, one backward pass a point."""
    pinn, x, found = loss.pinn, loss.collocation.x, []
    params = {name: p.clone().requires_grad_() for name, p in pinn.params.items()}
    for i in range(len(x)):
        residuals = pinn.at(x[i : i + 1]).residuals(params)
        value = sum((WEIGHTS[n] * r.square().sum() for n, r in residuals.items()), torch.zeros(()))
        gradient = torch.autograd.grad(value, list(params.values()))
        found.append(torch.cat([g.flatten() for g in gradient]).numpy())
    return np.stack(found)


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_signed_gradients(loss, point_gradients, batch_size):
    found = signed_gradients(loss, Executor(batch_size))
    assert found.shape == (point_gradients.shape[1], 1 + N_SIGNS)
    np.testing.assert_allclose(found[:, 0], point_gradients.sum(0), rtol=1e-9, atol=1e-9)
    signs = np.linalg.lstsq(point_gradients.T, found[:, 1:])[0]
    np.testing.assert_allclose(abs(signs), 1, atol=1e-2)
    expected = point_gradients.T @ np.sign(signs)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-9, atol=1e-9)
    assert abs(signs.mean()) < 0.1


def test_signs_belong_to_the_points(loss):
    order = np.random.default_rng(1).permutation(len(loss))
    one = signed_gradients(loss, Executor(1000))
    other = signed_gradients(Loss(loss.pinn.at(loss.collocation.x[order]), WEIGHTS), Executor(1000))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * abs(one).max())


@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_criteria(loss, point_gradients, damping):
    """Both parts by dense matrices; the mean over signs is about the sum over the points."""
    curvature, hessian = (kind(loss, Executor(1000)) for kind in (GaussNewton, Hessian))
    M, H = curvature.dense(), hessian.dense()
    gradients = signed_gradients(loss, Executor(1000))
    damped = dense_at(curvature, damping)
    found = Criteria(open_part(damped, gradients), neglected_part(damped, gradients, hessian))
    inverse = np.linalg.inv(M + damping * np.eye(len(M)))
    S = inverse @ gradients
    assert found.open == pytest.approx((S[:, 0] ** 2).sum() / (S[:, 1:] ** 2).sum(0).mean())
    exact = ((inverse @ point_gradients.sum(0)) ** 2).sum() / (
        (inverse @ point_gradients.T) ** 2
    ).sum()
    assert found.open == pytest.approx(exact, rel=0.5)
    T = S[:, 1 : 1 + N_TRIED]
    left_out = abs(np.einsum("pa,pq,qa->a", T, H - M, T)).sum()
    kept = np.einsum("pa,pq,qa->a", T, M + damping * np.eye(len(M)), T).sum()
    assert found.neglected == pytest.approx(left_out / kept, rel=1e-6)
    assert neglected_part(damped, gradients, None) == 0


def test_the_least_damping_within_the_limit():
    found = rule(lambda d: 1 / (1 + d))  # 1/2 at 1
    assert 1 <= found.value < 1.4
    assert found.at_value == Criteria(1 / (1 + found.value), 0.0)
    found = rule(lambda d: 0.0, lambda d: 1 / (1 + 10 * d))  # 1/2 at 0.1
    assert 0.1 <= found.value < 0.14
    assert found.floor == pytest.approx(1e-5)


def test_the_floor_where_both_hold_there():
    found = rule(lambda d: 0.4)
    assert found.value == found.floor == pytest.approx(1e-5)
    assert rule(lambda d: 0.4, lowest=-3.0).value == pytest.approx(6.0)


def test_the_largest_eigenvalue_where_neither_ever_holds():
    found = rule(lambda d: 7.0)
    assert found.value == 100
    assert found.at_value.open == 7 > LIMIT


def test_scaling_the_loss_scales_the_damping(flow_pinn, flow_points):
    """And the order of the points, and of the batches, does not matter."""
    pinn, x = flow_pinn((2, 6, 5, 3)), flow_points(30)
    found = []
    for c, points, size in ((1.0, x, 60), (64.0, x, 31), (1.0, x[::-1], 60)):
        weights = dict.fromkeys(TERMS, c)
        given = Pinn(pinn.network, pinn.inputs, pinn.outputs, pinn.equations, loss_weights=weights)
        influence = Influence(given, points, recipe_of("gauss-newton"), size)
        found.append(influence.fit().curvature.chosen)
    one, scaled, turned = found
    assert one is not None
    assert scaled is not None
    assert turned is not None
    assert scaled.value == pytest.approx(64 * one.value)
    assert scaled.at_value.open == pytest.approx(one.at_value.open)
    assert turned.value == pytest.approx(one.value)


@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_of_low_rank(flow_pinn, flow_points, curvature):
    """The same rule on the eigenpairs that are kept."""
    pinn, x = flow_pinn((2, 6, 5, 3)), flow_points(30)
    influence = Influence(pinn, x, recipe_of("paper", curvature=curvature, damping="auto", rank=9))
    found = influence.fit().curvature
    assert found.chosen is not None
    assert found.inverse.damping == found.chosen.value >= found.chosen.floor > 0
    kind = Hessian if curvature == "hessian" else GaussNewton
    values = np.linalg.eigvalsh(kind(Loss.uniform(pinn.at(x)), Executor(70)).dense())
    np.testing.assert_allclose(
        found.inverse.eigenvalues, values[::-1][:9] + found.chosen.value, rtol=1e-8
    )
    assert found.largest == pytest.approx(values[-1])


def test_rounding(flow_pinn):
    pinn = flow_pinn((2, 6, 5, 3))  # weights that were drawn in float32
    assert rounding(pinn) == EPSILON
    assert rounding(flow_pinn((2, 6, 5, 3), dtype=torch.float32)) == EPSILON
    with torch.no_grad():
        pinn.network.linears[0].weight += 1e-12
    n_params = sum(p.numel() for p in pinn.params.values())
    assert rounding(pinn) == n_params * np.finfo(np.float64).eps
