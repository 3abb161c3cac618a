"""Full-rank influence against dense algebra with gradients of a loop over points."""

import json

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, flow_masks, flow_residuals, gradients, largest_error
from full_rank_cases import DAMPING, C, recipe, weighted_flow

from pinnfluence import GAUSS_NEWTON, Equation, Influence, InputError, Pinn, load_scores
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.field.network import MLP
from pinnfluence.influence import compression
from pinnfluence.influence.report import report
from pinnfluence.scores.file import Scores

OUTPUTS = ("u", "v", "p", "speed")


SUMS = {"pde": TERMS[:3], "bcs": TERMS[3:], "all": TERMS}


QUANTITIES = (*OUTPUTS, *TERMS, *SUMS)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return weighted_flow(flow_pinn, flow_points)


@pytest.fixture(scope="module")
def dense(case):
    """Test gradients, training gradients by term, and the matrix, by loops over the points."""
    pinn, train_x, test_x = case
    columns = FlowColumns(pinn.network)

    def at(x):
        return flow_residuals(pinn.network(x), x)

    def slopes(x):
        x = torch.as_tensor(x).double()
        masks, found = flow_masks(x), gradients(pinn.network, at, x)
        values = at(x.clone().requires_grad_())
        kept = {n: masks[n][:, None] * found[n] for n in TERMS}
        return {n: (2 * values[n][:, None] * kept[n]).detach() for n in TERMS}, kept

    outputs = gradients(
        pinn.network,
        lambda x: dict(zip(OUTPUTS, columns(x)[0, :4], strict=True)),
        torch.as_tensor(test_x).double(),
    )
    train, J = slopes(train_x)
    test = slopes(test_x)[0] | outputs
    masks = flow_masks(torch.as_tensor(train_x))
    w = {n: C[n] / int(masks[n].sum()) for n in TERMS}
    M = sum(2 * w[n] * J[n].T @ J[n] for n in TERMS)
    train = {n: w[n] * g for n, g in train.items()}
    return *({n: g.numpy() for n, g in side.items()} for side in (test, train)), M.numpy()


def total(side, quantity: str) -> np.ndarray:
    return np.sum([side[name] for name in SUMS.get(quantity, (quantity,))], axis=0)


@pytest.fixture(scope="module")
def scores(case):
    pinn, train_x, test_x = case
    return Influence(pinn, train_x, recipe()).influence(test_x)


@pytest.mark.parametrize("rank", ["full", 5])
@pytest.mark.parametrize("quantity", [*OUTPUTS, *SUMS])
def test_exact_scores_are_those_of_a_dense_solve(case, dense, exact_by_rank, quantity, rank):
    test, train, M = dense
    if rank == "full":
        inverse = np.linalg.inv(M + DAMPING * np.eye(len(M)))
    else:
        values, V = np.linalg.eigh(M)
        inverse = V[:, -rank:] / (values[-rank:] + DAMPING) @ V[:, -rank:].T
    expected = total(test, quantity) @ inverse @ total(train, "all").T
    assert largest_error(exact_by_rank[rank][quantity], expected) < 2e-6


@pytest.fixture(scope="module")
def exact_by_rank(case):
    pinn, train_x, test_x = case
    return {
        rank: Influence(pinn, train_x, recipe(rank=rank), 17).scores_by_quantity(test_x)
        for rank in ("full", 5)
    }


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_compressed_scores_and_their_parts(scores, dense, quantity):
    """Within the limit at 95 % of the training points, for all of them together and by term."""
    test, train, M = dense
    left = np.linalg.solve(M + DAMPING * np.eye(len(M)), total(test, quantity).T).T
    for name in (None, *TERMS, *SUMS):
        exact = left @ total(train, name or "all").T
        found = np.asarray(scores.matrix(quantity, name))
        assert found.shape == exact.shape
        assert np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)


def test_stated_errors_are_true(scores, dense):
    """Few test points are all held out, so that what is stated can be computed again."""
    test, train, M = dense
    stated = scores.metadata["compression"]
    n_test = len(scores.test_x)
    assert stated["n_held_out_points"] == stated["n_sampled_points"] == n_test
    assert stated["rank"] == scores.rank < len(M)
    assert tuple(stated["errors"]) == QUANTITIES
    inverse = np.linalg.inv(M + DAMPING * np.eye(len(M)))
    for name, found in stated["errors"].items():
        exact = total(test, name) @ inverse @ total(train, "all").T
        acting = abs(total(test, name)).max(axis=1) > 0
        wrong = np.asarray(scores[name], np.float64) - exact
        for side, axis, rows in (("training_points", 0, slice(None)), ("test_points", 1, acting)):
            errors = np.linalg.norm(wrong[rows], axis=axis) / np.linalg.norm(exact[rows], axis=axis)
            expected = {"median": np.percentile(errors, 50), "p95": np.percentile(errors, 95)}
            assert found[side] == pytest.approx(expected, rel=1e-2, abs=3e-6)
        assert found["training_points"]["p95"] <= stated["limit"] == compression.ERROR
    for name, found in stated["errors_of_parts"].items():
        assert 0 < found["median"] <= found["p95"] < 0.1, name


def test_a_lower_limit_takes_a_higher_rank(case, scores, dense, monkeypatch):
    pinn, train_x, test_x = case
    monkeypatch.setattr(compression, "ERROR", 1e-4)
    finer = Influence(pinn, train_x, recipe()).influence(test_x)
    assert finer.rank > scores.rank
    worst = max(
        e["training_points"]["p95"] for e in finer.metadata["compression"]["errors"].values()
    )
    assert worst <= 1e-4


def test_held_out_points_are_not_sampled(case, monkeypatch):
    """The sample grows until the error on other points is within the limit."""
    pinn, train_x, _ = case
    test_x = np.concatenate([np.random.default_rng(3).random((80, 2)) * [1.9, 0.41] + [0.3, 0]])
    test_x = np.concatenate([test_x.astype(np.float32), train_x])
    monkeypatch.setattr(compression, "SAMPLE_POINTS", 2)
    monkeypatch.setattr(compression, "HELD_OUT_POINTS", 8)
    influence = Influence(pinn, train_x, recipe())
    found = influence.influence(test_x)
    stated = found.metadata["compression"]
    assert 2 < stated["n_sampled_points"] < len(test_x) - stated["n_held_out_points"]
    assert 8 <= stated["n_held_out_points"] < 20
    exact = influence.scores_by_quantity(test_x)
    for name in (*OUTPUTS, *SUMS):
        wrong = np.asarray(found[name]) - np.asarray(exact[name])
        errors = np.linalg.norm(wrong, axis=0) / np.linalg.norm(np.asarray(exact[name]), axis=0)
        assert np.percentile(errors, 95) < 3 * compression.ERROR, name


def test_batch_size_and_order_of_the_points(case, exact_by_rank):
    pinn, train_x, test_x = case
    order = np.random.default_rng(8).permutation(len(train_x))
    other = Influence(pinn, train_x[order], recipe(), 5).scores_by_quantity(test_x)
    for name, matrix in exact_by_rank["full"].items():
        assert largest_error(other[name], np.asarray(matrix)[:, order]) < 1e-6


def test_few_training_rows_are_decomposed_on_their_side(case):
    """The same scores, whichever Gram matrix is the smaller one."""
    pinn, train_x, test_x = case
    few = train_x[::6]
    influence = Influence(pinn, few, recipe(leverage=True))
    sides = []
    decompose = compression._largest_eigenvectors

    def watched(rows):
        sides.append(rows.shape)
        return decompose(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_largest_eigenvectors", watched)
        found = influence.influence(test_x)
    assert sides[-1][0] > sides[-1][1]  # many test rows, few training rows
    exact = influence.scores_by_quantity(test_x)
    for name in ("u", "speed", "all"):
        assert largest_error(found[name], exact[name]) < 0.01


def test_same_result_twice(case, scores):
    pinn, train_x, test_x = case
    other = Influence(pinn, train_x, recipe()).influence(test_x)
    for name in scores:
        np.testing.assert_array_equal(np.asarray(other[name]), np.asarray(scores[name]))


def test_more_parameters_than_residuals(flow_pinn, flow_points):
    """The form in residual space, with the same scores as the dense matrix."""
    pinn, train_x, test_x = flow_pinn((2, 20, 20, 3)), flow_points(2)[::4], flow_points(0)[:4]
    found = Influence(pinn, train_x, recipe(weighting="uniform")).scores_by_quantity(test_x)
    points = torch.as_tensor(train_x).double()
    masks = flow_masks(points)

    def at(x):
        return flow_residuals(pinn.network(x), x)

    values, slopes = at(points.clone().requires_grad_()), gradients(pinn.network, at, points)
    J = {n: (masks[n][:, None] * slopes[n]).numpy() for n in TERMS}
    M = sum(2 * J[n].T @ J[n] for n in TERMS)
    assert sum(int(m.sum()) for m in masks.values()) < len(M)
    g = sum(2 * values[n].detach().numpy()[:, None] * J[n] for n in TERMS)
    x = torch.as_tensor(test_x).double()
    G = gradients(pinn.network, lambda x: {"p": pinn.network(x)[0, 2]}, x)["p"].numpy()
    expected = G @ np.linalg.solve(M + DAMPING * np.eye(len(M)), g.T)
    assert largest_error(found["p"], expected) < 1e-6


def test_the_recipe_by_name(case, tmp_path):
    pinn, train_x, test_x = case
    scores = Influence(pinn, train_x, GAUSS_NEWTON).influence(test_x)
    scores.save(tmp_path)
    loaded = load_scores(tmp_path)
    assert isinstance(loaded, Scores)
    assert loaded.rank == scores.rank
    assert loaded.eigenvalues.shape == (0,)
    for name in scores:
        np.testing.assert_array_equal(np.asarray(loaded[name]), np.asarray(scores[name]))
    assert loaded.recipe == {
        "name": "gauss-newton",
        "base": "gauss-newton",
        "curvature": "gauss-newton",
        "weighting": "training",
        "rank": "full",
        "damping": "auto",
        "threshold": 1e-5,
        "leverage": False,
        "inverse": "full",
    }
    chosen = loaded.metadata["automatic_damping"]
    assert loaded.metadata["damping"] == chosen["value"] >= chosen["floor"] > 0
    assert json.loads(json.dumps(loaded.metadata["compression"]))
    lines, warnings = report(loaded, {"compression": 1.0})
    text = "\n".join(lines)
    assert "): curvature gauss-newton, weighting training, rank full, " in text
    assert f"damping auto: {chosen['value']:.3g}" in text
    for name in QUANTITIES:
        assert f"  {name:12s} training points " in text
    assert not any("not at a minimum" in warning for warning in warnings)  # the rule sees to it


def test_hessian_at_a_saddle_is_refused(case):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, recipe_of("paper", rank="full", damping=1e-6))
    with pytest.raises(InputError, match=r"most negative eigenvalue without damping is -\d"):
        influence.influence(test_x)


def test_hessian_of_full_rank(case):
    """With a damping that makes it positive definite: against LAPACK on the operator's matrix."""
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, recipe_of("paper", rank="full", damping="auto"))
    scores = influence.scores_by_quantity(test_x[:5])
    found = influence.fit().curvature
    assert found.chosen is not None
    assert found.chosen.floor == pytest.approx(-2 * found.lowest)
    assert found.chosen.at_value.neglected == 0
    other = Influence(
        pinn, train_x, recipe_of("paper", rank=10**6, damping=found.inverse.damping, threshold=-0.0)
    ).scores_by_quantity(test_x[:5])
    for name in scores:
        assert largest_error(other[name], np.asarray(scores[name])) < 1e-5


def test_singular_matrix_is_refused(case):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x[:3], recipe(damping=0.0))
    with pytest.raises(InputError, match="is singular: give a positive --damping"):
        influence.influence(test_x)


def test_no_residuals_no_influence(flow_points):
    """A network of zeros that fits zeros: curvature, but nothing that a point could change."""
    network = MLP((2, 1), "tanh").double()
    for p in network.parameters():
        torch.nn.init.zeros_(p)
    pinn = Pinn(network, ("x", "y"), ("u",), (Equation(lambda f: {"fit": f.u}),))
    scores = Influence(pinn, flow_points(9), recipe()).influence(flow_points(4))
    for name in scores:
        assert (np.asarray(scores[name]) == 0).all()


def test_scores_that_are_no_numbers(case):
    """A quantity that overflows at the test points."""
    pinn, train_x, test_x = case
    quantities = {"huge": lambda f: torch.exp(f.u * 1e6) * f.u}
    other = Pinn(pinn.network, pinn.inputs, pinn.outputs, pinn.equations, quantities)
    with pytest.raises(InputError, match=r"\d+ of \d+ quantities at sampled test points have NaN"):
        Influence(other, train_x, recipe()).influence(test_x)
