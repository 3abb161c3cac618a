"""Full-rank influence against dense algebra with gradients of a loop over points."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, flow_masks, flow_residuals, gradients

from pinnfluence import GAUSS_NEWTON, Equation, Influence, InputError, Pinn, load_scores
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.field.network import MLP
from pinnfluence.influence import compression, fit, leverage, training_gradients
from pinnfluence.influence.report import report
from pinnfluence.loss.differentiators import point_loss_rows
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.scores.file import Scores

LAYERS = (2, 6, 5, 3)
OUTPUTS = ("u", "v", "p", "speed")
SUMS = {"pde": TERMS[:3], "bcs": TERMS[3:], "all": TERMS}
QUANTITIES = (*OUTPUTS, *TERMS, *SUMS)
DAMPING = 1e-3
C = dict(zip(TERMS, np.linspace(0.5, 3.0, len(TERMS)), strict=True))


def recipe(**changes):
    return recipe_of("gauss-newton", **({"damping": DAMPING} | changes))


def largest_error(found, expected) -> float:
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape
    return float(abs(found - expected).max() / abs(expected).max())


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    """40 points of many residuals for 80 parameters; loss weights as DeepXDE has them."""
    pinn = flow_pinn(LAYERS)
    weighted = Pinn(
        pinn.network, pinn.inputs, pinn.outputs, pinn.equations, pinn.quantities, loss_weights=C
    )
    return weighted, flow_points(30), flow_points(40, 1)


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


# ---- linear least squares: leave-one-out is known in closed form


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
@pytest.mark.parametrize("weighting", ["uniform", "training"])
def test_leave_one_out(curvature, weighting):
    """Of ridge regression: dropping point i changes u by exactly Inf / (1 - h_i).

    With leverage by exactly Inf.
    """
    rng = np.random.default_rng(6)
    x, test_x = (rng.random((n, 2)).astype(np.float32) for n in (25, 9))
    A, B = (np.column_stack([p.astype(np.float64), np.ones(len(p))]) for p in (x, test_x))
    b = np.sin(3 * A[:, 0]) + A[:, 1] ** 2
    c = 1.7
    w = 1.0 if weighting == "uniform" else c / len(x)
    theta = np.linalg.lstsq(A, b)[0]
    network = MLP((2, 1), "tanh").double()
    weights = {"weight": torch.as_tensor(theta[None, :2]), "bias": torch.as_tensor(theta[2:])}
    network.load_state_dict({f"linears.0.{name}": value for name, value in weights.items()})
    equation = Equation(lambda f: {"fit": f.u - torch.sin(3 * f.x) - f.y**2})
    pinn = Pinn(network, ("x", "y"), ("u",), (equation,), loss_weights={"fit": c})
    damping = 0.1 * w
    chosen = recipe(curvature=curvature, weighting=weighting, damping=damping)
    influence = Influence(pinn, x, chosen)
    M = 2 * w * A.T @ A + damping * np.eye(3)
    change, leverage = [], []
    for i in range(len(x)):
        without = np.delete(A, i, 0)
        matrix = 2 * w * without.T @ without + damping * np.eye(3)
        # the minimum of the remaining loss and of damping / 2 |theta - theta-hat|^2
        gradient = 2 * w * without.T @ (without @ theta - np.delete(b, i))
        change.append(-B @ np.linalg.solve(matrix, gradient))
        leverage.append(2 * w * A[i] @ np.linalg.solve(M, A[i]))
    expected = np.stack(change, 1) * (1 - np.array(leverage))
    assert largest_error(influence.scores_by_quantity(test_x)["u"], expected) < 1e-6
    assert largest_error(influence.influence(test_x)["u"], expected) < 1e-5
    if curvature == "gauss-newton":
        exactly = Influence(pinn, x, replace(chosen, leverage=True))
        assert largest_error(exactly.scores_by_quantity(test_x)["u"], np.stack(change, 1)) < 1e-6
        assert largest_error(exactly.influence(test_x)["u"], np.stack(change, 1)) < 1e-5
        known = exactly.influence(test_x).metadata["leverage"]
        assert known["largest"] == pytest.approx(max(leverage))
        assert known["median"] == pytest.approx(np.median(leverage))


# ---- leverage: the curvature of the points that are left, one point at a time


def by_the_rest(pinn, train_x, test_x, batch_size):
    """Scores of u at test points, and self-influence, from a fit without each point."""
    settings = recipe(weighting="uniform")
    _, G = training_gradients.test_gradients(pinn, test_x, Executor(batch_size))["u"]
    changes, own = [], []
    for i in range(len(train_x)):
        rest = Influence(pinn, np.delete(train_x, i, 0), settings).fit().curvature.inverse
        g = point_loss_rows(Loss.uniform(pinn.at(train_x[i : i + 1]))).numpy().T
        changes.append(G @ rest.solve(g)[:, 0])
        own.append((g.T @ rest.solve(g)).item())
    return np.stack(changes, 1), np.array(own)


@pytest.mark.parametrize(
    ("layers", "batch_size"), [(LAYERS, 17), ((2, 20, 20, 3), 3), ((2, 20, 20, 3), None)]
)
def test_leverage_is_the_curvature_of_the_rest(
    flow_pinn, flow_points, layers, batch_size, monkeypatch
):
    monkeypatch.setattr(leverage, "BLOCK", 7)
    pinn, test_x = flow_pinn(layers), flow_points(5, 1)
    train_x = flow_points(12) if layers == LAYERS else flow_points(2)[::4]
    expected, own = by_the_rest(pinn, train_x, test_x, 10)
    chosen = recipe(weighting="uniform", leverage=True)
    influence = Influence(pinn, train_x, chosen, batch_size and min(batch_size, len(train_x)))
    assert largest_error(influence.scores_by_quantity(test_x)["u"], expected) < 1e-5
    scores = influence.scores(test_x, "u")
    assert largest_error(scores, expected) < 1e-5
    assert largest_error(sum(scores.by_term().values()), expected) < 1e-5
    np.testing.assert_allclose(influence.self_influence(), own, rtol=1e-5)
    without = Influence(pinn, train_x, replace(chosen, leverage=False)).scores_by_quantity(test_x)[
        "u"
    ]
    assert largest_error(without, expected) > 0.1


def test_leverage_is_compressed_kept_and_reported(case, tmp_path, monkeypatch):
    pinn, train_x, test_x = case
    chosen = recipe(leverage=True)
    exact = Influence(pinn, train_x, chosen).scores_by_quantity(test_x)
    scores = Influence(pinn, train_x, chosen, stages_path=tmp_path).influence(test_x)
    for name in ("u", "speed", "all"):
        assert largest_error(scores[name], exact[name]) < 0.01
    found = scores.metadata["leverage"]
    assert 0 < found["median"] < found["p95"] <= found["largest"] < 1
    line = "\n".join(report(scores, {})[0])
    assert f"largest {found['largest']:.4g}" in line
    assert scores.recipe["name"] == "gauss-newton, damping 0.001, leverage"

    def computed(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(fit, "leverage", computed)
    again = Influence(pinn, train_x, chosen, stages_path=tmp_path)
    np.testing.assert_array_equal(again.scores(test_x[:2], "u"), exact_of(case, chosen, test_x[:2]))
    other = again.influence(test_x[:9])
    assert largest_error(other["u"], np.asarray(exact["u"])[:9]) < 0.01


def exact_of(case, chosen, test_x):
    pinn, train_x, _ = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "leverage", leverage.leverage)
        return np.asarray(Influence(pinn, train_x, chosen).scores(test_x, "u"))


def test_leverage_of_terms_without_weight(case):
    """A loss term of weight 0 has no leverage, and its residuals stay as they are."""
    pinn, train_x, _ = case
    solve = Influence(pinn, train_x, recipe()).fit().curvature.inverse.solve
    weights = dict.fromkeys(TERMS, 0.0) | {"continuity": 0.1}
    found = leverage.leverage(Loss(pinn.at(train_x), weights), solve, 1 - 1e-9, Executor(10))
    values = pinn.at(train_x).residuals(pinn.params)
    for name in TERMS:
        same = np.allclose(found.residuals[name], values[name].detach().numpy(), rtol=1e-12)
        assert same == (name != "continuity")


def test_leverage_where_no_term_acts(monkeypatch):
    """Points without a residual have none; some are a whole block."""
    monkeypatch.setattr(leverage, "BLOCK", 2)
    x = np.array([[0.1, 0], [0.2, 0], [0.9, 0.5], [0.8, 0.7], [0.3, 0]], np.float32)
    network = MLP((2, 4, 1), "tanh").double()
    equation = Equation(lambda f: {"edge": f.u - 1}, lambda x: x[:, 1] == 0)
    pinn = Pinn(network, ("x", "y"), ("u",), (equation,))
    influence = Influence(pinn, x, recipe(leverage=True, weighting="uniform"), 2)
    scores = influence.scores_by_quantity(x)["u"]
    assert (scores[:, 2:4] == 0).all()
    assert largest_error(scores, by_the_rest(pinn, x, x, 4)[0]) < 1e-5


def test_a_point_that_alone_determines_something():
    """Its leverage is 1 up to rounding: it is taken as the limit, and the report warns."""
    x = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    network = MLP((2, 1), "tanh").double()
    pinn = Pinn(network, ("x", "y"), ("u",), (Equation(lambda f: {"fit": f.u - 1}),))
    influence = Influence(pinn, x, recipe(leverage=True, weighting="uniform", damping=1e-14))
    scores = influence.influence(x)
    assert np.isfinite(scores["u"]).all()
    known = scores.metadata["leverage"]
    assert known["n_at_limit"] == 2
    limit = 1 - 2**-52 * scores.metadata["stationarity"]["largest_eigenvalue"] / 1e-14
    assert known["largest"] == pytest.approx(limit, abs=1e-12) != 1
    assert any("leverage of 2 training points" in warning for warning in report(scores, {})[1])
    held = Influence(pinn, x, recipe(leverage=True, weighting="uniform")).influence(x)
    assert held.metadata["leverage"]["n_at_limit"] == 0
    assert not any("leverage" in warning for warning in report(held, {})[1])


def test_leverage_and_the_same_without_it_share_their_damping(case, tmp_path):
    pinn, train_x, _ = case
    for chosen in (GAUSS_NEWTON, replace(GAUSS_NEWTON, leverage=True), GAUSS_NEWTON):
        Influence(pinn, train_x, chosen, stages_path=tmp_path).fit()
    names = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert names.count("damping") == names.count("stationarity") == 1
    (kept,) = tmp_path.glob("damping-*")
    before = kept.stat().st_mtime_ns
    Influence(pinn, train_x, replace(GAUSS_NEWTON, leverage=True), stages_path=tmp_path).fit()
    assert kept.stat().st_mtime_ns == before


# ---- the damping that is chosen, files, what is said


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
