"""Scores where training moved only some of the parameters: against dense algebra over these."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals
from wrapped import by_kind, wrapped

from pinnfluence import Influence
from pinnfluence.curvature.recipe import recipe_of

LAST = "linears.2.weight", "linears.2.bias"
DAMPING = {"gauss-newton": 1e-2, "hessian": 50.0}


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    pinn = flow_pinn((2, 5, 4, 3))
    return pinn, flow_points(8), flow_points(2, 1)[::4]


def rows_of(outputs, params) -> np.ndarray:
    found = [
        torch.autograd.grad(value, params, retain_graph=True, materialize_grads=True)
        for value in outputs
    ]
    return torch.stack([torch.cat([g.flatten() for g in gradients]) for gradients in found]).numpy()


def brute_force(case, curvature: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores of u at the test points and self-influence, by loops over the last layer alone."""
    pinn, train_x, test_x = case
    params = list(pinn.network.linears[-1].parameters())
    x = torch.as_tensor(train_x).double().requires_grad_()
    residuals, masks = flow_residuals(pinn.network(x), x), flow_masks(x)
    acting = {name: torch.where(masks[name], residuals[name], 0.0) for name in TERMS}
    weights = {name: 1 / int(masks[name].sum()) for name in TERMS}
    losses = torch.stack([weights[name] * r.square() for name, r in acting.items()]).sum(0)
    G = rows_of(losses, params)
    if curvature == "hessian":
        gradient = torch.autograd.grad(losses.sum(), params, create_graph=True)
        M = rows_of(torch.cat([g.flatten() for g in gradient]), params)
    else:
        J = {name: rows_of(r, params) for name, r in acting.items()}
        M = sum(2 * weights[name] * J[name].T @ J[name] for name in TERMS)
    u = rows_of(pinn.network(torch.as_tensor(test_x).double())[:, 0], params)
    steps = np.linalg.solve(M + DAMPING[curvature] * np.eye(len(M)), G.T)
    return u @ steps, (G.T * steps).sum(0)


@by_kind
@pytest.mark.parametrize(
    "curvature", ["gauss-newton", pytest.param("hessian", marks=pytest.mark.slow)]
)
def test_scores_are_those_of_the_parameters_that_moved(case, kind, curvature) -> None:
    pinn, train_x, test_x = case
    prefix = "inner." if kind is wrapped else ""
    part = replace(kind(pinn), theta=tuple(prefix + name for name in LAST))
    recipe = recipe_of("gauss-newton", curvature=curvature, damping=DAMPING[curvature])
    influence = Influence(part, train_x, recipe)
    assert influence.pinn.n_params == 15
    expected, own = brute_force(case, curvature)
    scale = abs(expected).max()
    scores = influence.scores(test_x, "u")
    np.testing.assert_allclose(scores.values, expected, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(influence.self_influence(), own, rtol=1e-8, atol=1e-15)
    compressed = np.asarray(influence.influence(test_x)["u"])
    np.testing.assert_allclose(compressed, expected, rtol=0, atol=2e-2 * scale)
    whole = Influence(kind(pinn), train_x, recipe).scores(test_x, "u").values
    assert abs(whole - expected).max() > 0.05 * scale


def test_low_rank(case) -> None:
    """All 15 eigenpairs are the whole."""
    pinn, train_x, test_x = case
    part = replace(pinn, theta=LAST)
    recipe = recipe_of("gauss-newton", rank=15, damping=DAMPING["gauss-newton"], threshold=0.0)
    found = np.asarray(Influence(part, train_x, recipe).influence(test_x)["u"])
    expected, _ = brute_force(case, "gauss-newton")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_another_theta_is_another_key(case) -> None:
    pinn, train_x, test_x = case
    keys = {
        Influence(replace(pinn, theta=theta), train_x).key(test_x)
        for theta in (None, LAST, LAST[:1])
    }
    assert len(keys) == 3
    network = type(pinn.network)((2, 5, 4, 3), "gelu", pinn.network.scale).double()
    network.load_state_dict(pinn.network.state_dict())
    before = Influence(replace(pinn, network=network, theta=LAST), train_x).key(test_x)
    with torch.no_grad():
        network.linears[0].weight[0, 0] += 1e-3  # a constant
    after = Influence(replace(pinn, network=network, theta=LAST), train_x).key(test_x)
    assert before != after
