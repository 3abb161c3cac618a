"""Influence against dense closed forms, exact leave-one-out refits, and its invariances."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, flow_masks, flow_residuals, gradients
from captum.influence import DataInfluence
from wrapped import wrapped

from pinnfluence import Equation, Influence, InputError, Pinn, Recipe
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.field.network import MLP
from pinnfluence.influence import fit
from pinnfluence.runtime.progress import Stages

RANK = 15
LAYERS = (2, 6, 5, 3)
OUTPUTS = ("u", "v", "p", "speed")


def close(found, expected, limit: float = 2e-6, size: float | None = None) -> None:
    """Equal up to float32, relative to the largest entry, or to a given size."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= limit * (abs(expected).max() if size is None else size)


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


# ---- what the result does not depend on


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


# ---- linear least squares: leave-one-out is known in closed form


def target(f):
    return torch.sin(3 * f.x) + f.y**2


@pytest.fixture(scope="module")
def least_squares():
    """A network without hidden layer, u = a x + b y + c, at the minimum of sum (u - target)^2."""
    x = np.random.default_rng(6).random((30, 2)).astype(np.float32)
    A = np.column_stack([x.astype(np.float64), np.ones(30)])
    b = np.sin(3 * A[:, 0]) + A[:, 1] ** 2
    theta = np.linalg.lstsq(A, b)[0]
    network = MLP((2, 1), "tanh").double()
    weights = {"weight": torch.as_tensor(theta[None, :2]), "bias": torch.as_tensor(theta[2:])}
    network.load_state_dict({f"linears.0.{name}": value for name, value in weights.items()})
    equation = Equation(lambda f: {"fit": f.u - target(f)})
    return Pinn(network, ("x", "y"), ("u",), (equation,)), x, A, b, theta


def test_leave_one_out(least_squares):
    """Refitting without point i changes u by exactly Inf / (1 - h_i), h_i its leverage.

    Positive means that removing the point raises the quantity.
    """
    pinn, x, A, b, theta = least_squares
    test_x = np.random.default_rng(7).random((9, 2)).astype(np.float32)
    B = np.column_stack([test_x.astype(np.float64), np.ones(9)])
    scores = Influence(pinn, x, Recipe(rank=3, damping=0, threshold=0)).influence(test_x)
    refits = np.stack([np.linalg.lstsq(np.delete(A, i, 0), np.delete(b, i))[0] for i in range(30)])
    change = B @ (refits - theta).T
    leverage = np.einsum("ip,pq,iq->i", A, np.linalg.inv(A.T @ A), A)
    found = np.asarray(scores["u"])
    close(found / (1 - leverage), change)
    assert (np.sign(found) == np.sign(change)).mean() == 1
    assert np.corrcoef(found.ravel(), change.ravel())[0, 1] > 0.99


def test_leave_one_out_of_a_loss(least_squares):
    """A removed point is fitted worse: its own loss rises."""
    pinn, x, A, b, theta = least_squares
    scores = Influence(pinn, x, Recipe(rank=3, damping=0, threshold=0)).influence()
    loss = (A @ theta - b) ** 2
    rise = []
    for i in range(30):
        refit = np.linalg.lstsq(np.delete(A, i, 0), np.delete(b, i))[0]
        rise.append((A[i] @ refit - b[i]) ** 2 - loss[i])
    found = np.diag(np.asarray(scores["all"]))
    assert (found > 0).all()
    assert (np.array(rise) > 0).all()
    leverage = np.einsum("ip,pq,iq->i", A, np.linalg.inv(A.T @ A), A)
    close(found, 2 * leverage * loss)
    assert abs(found / rise - 1).max() < 0.3


def test_stationarity_of_a_minimum(least_squares):
    pinn, x, A, b, theta = least_squares
    facts = Influence(pinn, x, Recipe(rank=3)).influence(x[:1]).metadata["stationarity"]
    residuals = A @ theta - b
    norms = np.linalg.norm(2 * residuals[:, None] * A, axis=1)
    values = np.linalg.eigvalsh(2 * A.T @ A)
    assert facts["losses"] == {"fit": pytest.approx((residuals**2).mean())}
    assert facts["median_point_gradient_norm"] == pytest.approx(np.sort(norms)[14])
    assert facts["gradient_norm"] < 1e-12
    assert facts["ratio"] < 1e-10
    assert facts["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-6)
    assert facts["most_negative_eigenvalue"] == pytest.approx(values[0], rel=1e-6)


def test_problem_without_conditions(least_squares):
    pinn, x, *_ = least_squares
    scores = Influence(pinn, x, Recipe(rank=3)).influence(x[:4])
    assert scores.groups == {"pde": ["fit"], "bcs": [], "all": ["fit"]}
    assert (np.asarray(scores["bcs"]) == 0).all()
    assert scores.acting_rows("bcs").tolist() == []
    close(scores["pde"], scores["all"])


# ---- the flow's stationarity, the interface, what is refused


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


def test_is_a_captum_data_influence(case):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=3))
    assert isinstance(influence, DataInfluence)
    assert influence.model.state_dict().keys() == pinn.network.state_dict().keys()
    assert len(influence.train_dataset) == len(train_x)
    scores = influence.influence(inputs=test_x)
    assert scores["u"].shape == (len(test_x), len(train_x))


def test_curvature_is_computed_once(case, monkeypatch):
    pinn, train_x, test_x = case
    counter = Mock(wraps=fit.invert)
    monkeypatch.setattr(fit, "invert", counter)
    influence = Influence(pinn, train_x, Recipe(rank=3))
    for _ in range(2):
        influence.influence(test_x[:2])
    assert counter.call_count == 1


def test_stages_count_what_they_announce(case):
    class Counting(Stages):
        def __init__(self):
            super().__init__()
            self.announced, self.counted = {}, {}

        def _counter(self, name, total):
            self.announced[name], self.counted[name] = total, []
            return nullcontext(self.counted[name].append)

    pinn, train_x, test_x = case
    stages = Counting()
    Influence(pinn, train_x, Recipe(rank=3), 7, stages).influence(test_x)
    assert list(stages.seconds) == ["eigenpairs", "training points", "test points"]
    for name in ("training points", "test points"):
        assert stages.announced[name] == sum(stages.counted[name]) > 0


@pytest.mark.parametrize("batch_size", [0, -3, 41])
def test_batch_size_out_of_range(case, batch_size):
    pinn, train_x, _ = case
    with pytest.raises(InputError, match=f"from 1 to the 40 training points, found {batch_size}"):
        Influence(pinn, train_x, batch_size=batch_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :1], r"of shape \[n, 2\], found \(\d+, 1\)"),
        (lambda x: x[0], r"of shape \[n, 2\], found \(2,\)"),
        (lambda x: np.c_[x, x], r"of shape \[n, 2\], found \(\d+, 4\)"),
        (lambda x: x + 1j, "of real numbers, found complex"),
        (lambda x: x.astype(object), "of real numbers, found object"),
        (lambda x: x * [np.nan, 1], "points are NaN or infinite, the first is row 0"),
    ],
)
def test_what_are_no_points(case, change, message):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=3))
    bad = change(test_x)
    with pytest.raises(InputError, match=f"test points.*{message}|test {message}"):
        influence.influence(bad)
    with pytest.raises(InputError, match=message):
        influence.scores(bad, "u")
    with pytest.raises(InputError, match=message):
        influence.scores_by_quantity(bad)
    with pytest.raises(InputError, match=message):
        Influence(pinn, change(train_x), Recipe(rank=3))


def test_no_test_points(case):
    pinn, train_x, test_x = case
    with pytest.raises(InputError, match="no test points, expected at least one"):
        Influence(pinn, train_x, Recipe(rank=3)).influence(test_x[:0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": True}, "at least 1 or full, found True"),
        ({"rank": 2.5}, "at least 1 or full, found 2.5"),
        ({"rank": "half"}, "at least 1 or full, found half"),
        ({"damping": -1.0}, "damping must be a number of at least 0 or auto, found -1"),
        ({"damping": float("nan")}, "damping must be a number"),
        ({"damping": "none"}, "at least 0 or auto, found none"),
        ({"threshold": -1.0}, "threshold must be a number of at least 0, found -1"),
        ({"curvature": "best"}, f"expected curvature {' or '.join(OPERATORS)}, found best"),
        (
            {"leverage": True},
            "leverage needs curvature gauss-newton at rank full, found hessian at",
        ),
        ({"curvature": "gauss-newton", "leverage": True}, "found gauss-newton at rank 50"),
        ({"weighting": "none"}, "expected weighting uniform or training, found none"),
    ],
)
def test_bad_recipe(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


def test_no_eigenvalue_above_the_threshold(case):
    pinn, train_x, test_x = case
    with pytest.raises(InputError, match=r"no eigenvalue of the curvature exceeds 1e\+09"):
        Influence(pinn, train_x, Recipe(rank=3, threshold=1e9)).influence(test_x)


def test_training_on_does_not_change_what_was_taken(case):
    pinn, train_x, test_x = case
    pinn = replace(pinn, network=copy.deepcopy(pinn.network))
    influence = Influence(pinn, train_x, Recipe(rank=3))
    before = np.asarray(influence.influence(test_x)["u"])
    with torch.no_grad():
        for p in pinn.network.parameters():
            p.mul_(1.5)
    np.testing.assert_array_equal(np.asarray(influence.influence(test_x)["u"]), before)


def test_unknown_arguments_are_refused(case):
    pinn, train_x, test_x = case
    with pytest.raises(TypeError, match="takes no k, proponents"):
        Influence(pinn, train_x).influence(test_x, k=3, proponents=True)
