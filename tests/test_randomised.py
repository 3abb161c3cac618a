"""The inverse on few directions against the dense matrix: errors, resume, order, choice."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import TERMS

from pinnfluence import Influence
from pinnfluence.curvature.inverse import METHODS, method_of, randomised
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.curvature.sketch import orthonormal
from pinnfluence.influence.report import report
from pinnfluence.loss.differentiators import point_loss_rows, weighted_sums
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.stage_store import CLOSED, StageStore

WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))
PART = 1e-4
"""Damping over the largest eigenvalue."""


@pytest.fixture(autouse=True)
def few_directions(monkeypatch):
    monkeypatch.setattr(randomised, "FIRST_RANK", 24)
    monkeypatch.setattr(randomised, "SMALL_BYTES", 0)  # float32, as large matrices


@pytest.fixture(scope="module")
def pinn(flow_pinn):
    return flow_pinn((2, 16, 16, 3))


@pytest.fixture(scope="module")
def points(flow_points):
    return flow_points(150)


def prepared(pinn, x, batch_size: int = 70, store: StageStore = CLOSED):
    curvature = GaussNewton(Loss(pinn.at(x), WEIGHTS), Executor(batch_size))
    method = randomised.Randomised(curvature, store)
    method.fit()
    damping = PART * method.largest
    method.prepare(damping)
    return method, damping


def scores(method, damping, G):
    """Of gradients ``[n_params, k]`` with all rows of A."""
    return method.at(damping).rows_solve(G)


@pytest.fixture(scope="module")
def known(pinn, points):
    """Rows of A, and scores of gradients at other points, by the dense matrix."""
    A = GaussNewton(Loss(pinn.at(points), WEIGHTS), Executor(70)).rows()
    other = np.random.default_rng(5).random((20, 2)).astype(np.float32) * [1.9, 0.41] + [0.3, 0]
    G = GaussNewton(Loss(pinn.at(other.astype(np.float32)), WEIGHTS), Executor(70)).rows().T
    return A, G


def test_scores_of_other_points_are_right_on_few_directions(pinn, points, known):
    A, G = known
    method, damping = prepared(pinn, points)
    stated = method.metadata()["randomised"]
    assert 24 < stated["rank"] < min(A.shape)  # the first ones were not enough
    assert 0 < stated["error"] <= stated["limit"] == randomised.ERROR
    M = A.T @ A + damping * np.eye(pinn.n_params)
    exact = A @ np.linalg.solve(M, G)
    wrong = np.linalg.norm(scores(method, damping, G) - exact, axis=1)
    assert np.percentile(wrong / np.linalg.norm(exact, axis=1), 95) < 0.005
    b = np.random.default_rng(2).standard_normal((pinn.n_params, 3))
    expected = np.linalg.solve(M, b)  # what is outside of the directions counts, too
    assert np.linalg.norm(method.at(damping).solve(b) - expected) < 1e-2 * np.linalg.norm(expected)
    assert method.largest == pytest.approx(np.linalg.norm(A, 2) ** 2, rel=1e-4)


def test_the_stated_error_is_that_of_the_probes(pinn, points, known):
    """Before the directions are enough: of rows of A whose scores are compared with exact ones."""
    A, _ = known
    curvature = GaussNewton(Loss(pinn.at(points), WEIGHTS), Executor(70))
    method = randomised.Randomised(curvature)
    method.fit()
    damping = PART * method.largest
    probes = method._probes.T
    exact = A @ np.linalg.solve(A.T @ A + damping * np.eye(len(probes)), probes)
    wrong = scores(method, damping, probes) - exact
    wrong, exact = (side / np.linalg.norm(exact, axis=0) for side in (wrong, exact))
    errors = np.linalg.norm(wrong, axis=1) / np.linalg.norm(exact, axis=1)
    assert method._error(damping) == pytest.approx(np.percentile(errors, 95), rel=0.1)
    assert method._error(damping, 0.5) > 2 * method._error(damping)


def test_batches_and_order_of_the_points_do_not_matter(pinn, points, known):
    _, G = known
    one, damping = prepared(pinn, points)
    order = np.random.default_rng(8).permutation(len(points))
    other, _ = prepared(pinn, points[order], 33)
    b = G[:, :9]
    found = [method.at(damping).solve(b) for method in (one, other)]
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-3 * abs(found[0]).max())
    assert len(one._Q) == pytest.approx(len(other._Q), abs=2)
    again, _ = prepared(pinn, points)
    np.testing.assert_array_equal(again.at(damping).solve(b), found[0])


@pytest.mark.parametrize("n_blocks", [2, 9])
def test_an_interrupted_pass_goes_on(pinn, points, known, tmp_path, monkeypatch, n_blocks):
    expected, damping = prepared(pinn, points)
    monkeypatch.setattr("pinnfluence.curvature.gram.BLOCK_BYTES", 1)
    monkeypatch.setattr(StageStore, "is_due", lambda self: self.is_open)
    rows, left = GaussNewton._batches_of_rows, [n_blocks]

    def interrupted(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return rows(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GaussNewton, "_batches_of_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(pinn, points, store=StageStore(tmp_path, "0" * 64))
    left[0] = 10**9
    with monkeypatch.context() as patch:
        patch.setattr(GaussNewton, "_batches_of_rows", interrupted)
        found, _ = prepared(pinn, points, store=StageStore(tmp_path, "0" * 64))
    whole, _ = prepared(pinn, points)  # of blocks as small
    n_all = 10**9 - left[0]
    left[0] = 10**9
    with monkeypatch.context() as patch:
        patch.setattr(GaussNewton, "_batches_of_rows", interrupted)
        prepared(pinn, points)
    assert n_all == 10**9 - left[0] - n_blocks  # none was made twice
    b = known[1]
    np.testing.assert_array_equal(found.at(damping).solve(b), whole.at(damping).solve(b))
    np.testing.assert_allclose(
        found.at(damping).solve(b), expected.at(damping).solve(b), rtol=0, atol=1e-2
    )


def test_compressed_scores(pinn, points, known):
    """The recipe as a whole, with the rule for the damping, against the dense method."""
    test_x = np.random.default_rng(4).random((60, 2)).astype(np.float32)
    test_x = (test_x * [1.9, 0.41] + [0.3, 0]).astype(np.float32)
    changes = [recipe_of("gauss-newton", inverse=name) for name in ("dense", "randomised")]
    dense, found = (Influence(pinn, points, recipe).influence(test_x) for recipe in changes)
    assert found.metadata["damping"] == pytest.approx(dense.metadata["damping"], rel=1e-4)
    for name in ("u", "speed", "p", "pde", "all"):
        exact, other = np.asarray(dense[name]), np.asarray(found[name])
        wrong = np.linalg.norm(other - exact, axis=0) / np.linalg.norm(exact, axis=0)
        assert np.percentile(wrong, 95) < 0.03, name
    assert f"on {found.metadata['randomised']['rank']} directions" in "\n".join(
        report(found, {})[0]
    )


def test_which_method_is_the_cheapest():
    def chosen(n_params, n_residuals, exact=False, has_rows=True):
        matrix: Any = SimpleNamespace(n_params=n_params, n_residuals=n_residuals, has_rows=has_rows)
        return method_of("full", matrix, exact)

    assert chosen(12_867, 35_002) is METHODS["randomised"]
    assert chosen(12_867, 35_002, exact=True) is METHODS["dense"]
    assert chosen(790_000, 35_002, exact=True) is METHODS["residual-space"]
    assert chosen(2_500, 10**6) is METHODS["dense"]
    assert chosen(10**6, 2_500) is METHODS["residual-space"]
    assert chosen(10**6, 10**6, has_rows=False) is METHODS["dense"]


def test_orthonormal_directions_outside_of_others():
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.standard_normal((50, 8)))[0].T
    rows = rng.standard_normal((6, 50)) * np.logspace(0, -5, 6)[:, None]
    rows[5] = rows[0] + basis[2]  # nothing new
    outside = rows - (rows @ basis.T) @ basis
    found, sums = orthonormal(rows.copy(), basis)
    assert found.shape == (5, 50)
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(found @ basis.T, 0, atol=1e-12)
    np.testing.assert_allclose(sums @ found, outside, atol=1e-10)


def test_products_with_several_vectors_share_a_graph(pinn, points):
    loss = Loss(pinn.at(points), WEIGHTS)
    V = np.random.default_rng(1).standard_normal((pinn.n_params, 3))
    kept, passing = (Hessian(loss, Executor(70), keep) for keep in (True, False))
    np.testing.assert_allclose(passing.matmat(V), kept.matmat(V), rtol=1e-9, atol=1e-9)
    assert passing.n_products == kept.n_products == 3


def test_weighted_sums_of_gradients(pinn, points):
    loss = Loss(pinn.at(points), WEIGHTS)
    weights = torch.randn(len(points), 4, dtype=torch.float64)
    expected = point_loss_rows(loss).T @ weights
    torch.testing.assert_close(weighted_sums(loss, weights), expected)
