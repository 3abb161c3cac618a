"""Influence against dense closed forms, exact leave-one-out refits, and its invariances."""

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, close, flow_masks, flow_residuals, gradients
from wrapped import wrapped

from pinnfluence import Influence, Recipe

RANK = 15
LAYERS = (2, 6, 5, 3)
OUTPUTS = ("u", "v", "p", "speed")


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn(LAYERS), flow_points(10), flow_points(0, 1)[:20]


@pytest.fixture(scope="module")
def scores(case):
    pinn, train_x, test_x = case
    return Influence(pinn, train_x, Recipe(rank=RANK)).influence(test_x)


@pytest.fixture(scope="module")
def dense(case):
    """Gradients of everything and the inverse curvature, by loops and LAPACK.

    Test and train gradients ``[n, n_params]`` by name, zero where a term does not act, and
    ``V diag(1 / lambda) V^T``.
    """
    pinn, train_x, test_x = case

    def slopes(x):
        x = torch.as_tensor(x).double()
        masks = flow_masks(x)
        at = lambda x: flow_residuals(pinn.network(x), x)  # noqa: E731
        values, found = at(x.clone().requires_grad_()), gradients(pinn.network, at, x)
        return {n: (2 * values[n] * masks[n])[:, None].detach() * found[n] for n in TERMS}

    columns = FlowColumns(pinn.network)
    outputs = gradients(
        pinn.network,
        lambda x: dict(zip(OUTPUTS, columns(x)[0, :4], strict=True)),
        torch.as_tensor(test_x).double(),
    )
    train, test = slopes(train_x), slopes(test_x) | outputs
    points = torch.as_tensor(train_x).double()
    masks = flow_masks(points)
    params = list(pinn.network.parameters())
    x = points.clone().requires_grad_()
    residuals = flow_residuals(pinn.network(x), x)
    loss = torch.stack([residuals[n][masks[n]].square().sum() for n in TERMS]).sum()
    gradient = torch.autograd.grad(loss, params, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])
    rows = [torch.autograd.grad(g, params, retain_graph=True) for g in flat]
    H = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).numpy()
    values, V = np.linalg.eigh(H + 1e-6 * np.eye(len(H)))
    assert values[-RANK] > 1e-5
    V, values = V[:, -RANK:], values[-RANK:]
    inverse = V / values @ V.T
    test, train = ({n: g.numpy() for n, g in side.items()} for side in (test, train))
    return test, train, inverse


def total(side: dict[str, np.ndarray], quantity: str) -> np.ndarray:
    names = {"pde": TERMS[:3], "bcs": TERMS[3:], "all": TERMS}.get(quantity, (quantity,))
    return np.sum([side[name] for name in names], axis=0)


@pytest.mark.parametrize("quantity", [*OUTPUTS, *TERMS, "pde", "bcs", "all"])
def test_closed_form(scores, dense, quantity):
    """grad f^T V diag(1 / lambda) V^T grad l, for all pairs of a quantity and a loss term."""
    test, train, inverse = dense

    def lengths(gradients):
        """Of the embeddings, whose rounding is that of their products, however these cancel."""
        return np.sqrt(((gradients @ inverse) * gradients).sum(1)).max()

    left = total(test, quantity) @ inverse
    for term in (*TERMS, "pde", "bcs", "all"):
        right = total(train, term)
        size = lengths(total(test, quantity)) * lengths(right)
        close(scores.matrix(quantity, term), left @ right.T, 5e-7, size)
    close(scores[quantity], left @ right.T, 5e-7, size)  # the last term is all of them
    close(
        scores.matrix(quantity, ["continuity", "noslip_v"]),
        left @ (train["continuity"] + train["noslip_v"]).T,
    )


def test_rows_where_a_condition_does_not_act_are_zero(case, scores):
    _, train_x, test_x = case
    here = flow_masks(torch.as_tensor(test_x))["inflow_u"].numpy()
    there = flow_masks(torch.as_tensor(train_x))["inflow_u"].numpy()
    assert (scores["inflow_u"][~here] == 0).all()
    assert (abs(scores["inflow_u"][here]).max(axis=1) > 0).all()
    assert (scores.matrix("u", "inflow_u")[:, ~there] == 0).all()
    np.testing.assert_array_equal(scores.acting_rows("inflow_u"), np.flatnonzero(here))
    np.testing.assert_array_equal(scores.acting_rows("pde"), np.arange(len(test_x)))


def test_terms_add_up(scores):
    for quantity in scores:
        parts = [np.asarray(scores.matrix(quantity, term)) for term in TERMS]
        close(sum(parts), scores[quantity])
    for name, terms in scores.groups.items():
        close(sum(np.asarray(scores[term]) for term in terms), scores[name])


@pytest.mark.parametrize("batch_size", [5, 40])
def test_batch_size(case, scores, batch_size):
    pinn, train_x, test_x = case
    other = Influence(pinn, train_x, Recipe(rank=RANK), batch_size).influence(test_x)
    for quantity in scores:
        close(other[quantity], scores[quantity])


def test_order_of_training_points(case, scores):
    pinn, train_x, test_x = case
    order = np.random.default_rng(8).permutation(len(train_x))
    other = Influence(pinn, train_x[order], Recipe(rank=RANK)).influence(test_x)
    for quantity in scores:
        close(other[quantity], scores[quantity][:, order])


def test_splitting_the_test_points(case, scores):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=RANK), batch_size=7)
    parts = [influence.influence(test_x[rows]) for rows in (slice(0, 3), slice(3, None))]
    for quantity in scores:
        close(np.concatenate([np.asarray(p[quantity]) for p in parts]), scores[quantity])


def test_other_module_gives_the_same(case, scores):
    pinn, train_x, test_x = case
    other = Influence(wrapped(pinn), train_x, Recipe(rank=RANK)).influence(test_x[:8])
    for quantity in scores:
        close(other[quantity], scores[quantity][:8])


def test_float32(flow_pinn, case, scores):
    _, train_x, test_x = case
    single = flow_pinn(LAYERS, dtype=torch.float32)
    other = Influence(single, train_x, Recipe(rank=RANK)).influence(test_x)
    assert (other.metadata["dtype"], scores.metadata["dtype"]) == ("float32", "float64")
    for quantity in scores:
        close(other[quantity], scores[quantity], 1e-3)


def test_self_influence_is_the_diagonal(case, dense):
    """The loss of all terms at the training points themselves."""
    pinn, train_x, _ = case
    _, train, inverse = dense
    g = total(train, "all")
    scores = Influence(pinn, train_x, Recipe(rank=RANK)).influence()
    np.testing.assert_array_equal(scores.test_x, train_x)
    close(np.diag(np.asarray(scores["all"])), np.einsum("ip,pq,iq->i", g, inverse, g))
    close(np.asarray(scores["all"]), np.asarray(scores["all"]).T)
    assert (np.diag(np.asarray(scores["all"])) > 0).all()


def test_same_result_twice(case, scores):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=RANK))
    one, other = influence.influence(test_x), influence.influence(torch.as_tensor(test_x))
    for quantity in scores:
        np.testing.assert_array_equal(np.asarray(one[quantity]), np.asarray(other[quantity]))


def test_stationarity_of_the_flow(case, scores, dense):
    pinn, train_x, _ = case
    _, train, _ = dense
    facts, g = scores.metadata["stationarity"], total(train, "all")
    norms = np.linalg.norm(g, axis=1)
    assert facts["gradient_norm"] == pytest.approx(np.linalg.norm(g.sum(0)))
    assert facts["median_point_gradient_norm"] == pytest.approx(np.sort(norms)[(len(g) - 1) // 2])
    assert facts["ratio"] == facts["gradient_norm"] / facts["median_point_gradient_norm"]
    x = torch.as_tensor(train_x).double().requires_grad_()
    residuals, masks = flow_residuals(pinn.network(x), x), flow_masks(x)
    assert facts["losses"] == {
        n: pytest.approx(float(residuals[n][masks[n]].detach().square().mean())) for n in TERMS
    }
    assert facts["most_negative_eigenvalue"] < 0 < facts["largest_eigenvalue"]
    assert facts["largest_eigenvalue"] == pytest.approx(scores.eigenvalues[0] - 1e-6)


def test_names_and_recipe(scores):
    assert tuple(scores) == (*OUTPUTS, *TERMS, "pde", "bcs", "all")
    assert scores.terms == TERMS
    assert scores.recipe == {
        "name": f"paper, rank {RANK}",
        "base": "paper",
        "curvature": "hessian",
        "weighting": "uniform",
        "rank": RANK,
        "damping": 1e-6,
        "threshold": 1e-5,
        "leverage": False,
        "inverse": "eigenpairs",
    }
    assert scores.eigenvalues.shape == (RANK,)
    assert (np.diff(scores.eigenvalues) < 0).all()
