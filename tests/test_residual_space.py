"""The damped inverse in the space of the residuals, and without a few of them."""

import numpy as np
import pytest

from pinnfluence import InputError
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.curvature.inverse.cholesky import LARGEST_LEVERAGE, without_rows
from pinnfluence.curvature.inverse.dense import DenseInverse
from pinnfluence.curvature.inverse.residual_space import ResidualSpaceInverse


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """A with 30 residuals of 50 parameters, its singular values from 1 to 1e-3."""
    U, _, Vt = np.linalg.svd(np.random.default_rng(0).standard_normal((30, 50)), False)
    return U * np.logspace(0, -3, 30) @ Vt


def exactly(A: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """``(A^T A + damping I)^-1`` and ``A`` times it, by singular values; no cancellation.

    In A's own singular vectors, of which the first are the rows' and the others their complement:
    1 / (s^2 + damping) and s / (s^2 + damping), where nothing is subtracted.
    """
    U, s, Vt = np.linalg.svd(A)
    squares = np.zeros(A.shape[1])
    squares[: len(s)] = s**2
    return Vt.T / (squares + damping) @ Vt, U * (s / (s**2 + damping)) @ Vt[: len(s)]


@pytest.mark.parametrize("damping", [1e-9, 1e-7, 1e-5, 1e-3, 1.0])
def test_push_through_keeps_its_digits(rows, damping):
    """Products with A are good to 1e-8 at dampings where Woodbury's formula has none left."""
    found = ResidualSpaceInverse(rows, rows @ rows.T, damping, True)
    rng = np.random.default_rng(1)
    whole, A_inverse = exactly(rows, damping)
    B, C = rng.standard_normal((50, 4)), rng.standard_normal((30, 4))
    for product, expected in (
        (found.rows_solve(B), A_inverse @ B),
        (found.solve_rows(C), A_inverse.T @ C),
        (found.solve(B), whole @ B),
        (found.solve(rows.T @ C), A_inverse.T @ C),
    ):
        error = np.linalg.norm(product - expected) / np.linalg.norm(expected)
        assert error < 1e-8, error


@pytest.mark.parametrize("damping", [1e-9, 1e-7, 1e-5, 1e-3])
def test_a_solve_is_refined(rows, damping, monkeypatch):
    """The residual of a right-hand side in the span of A: worse without the refinement."""
    right = rows.T @ np.random.default_rng(2).standard_normal((30, 3))
    expected = exactly(rows, damping)[0] @ right

    def error() -> float:
        found = ResidualSpaceInverse(rows, rows @ rows.T, damping).solve(right)
        return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

    refined = error()
    monkeypatch.setattr(f"{ResidualSpaceInverse.__module__}.REFINEMENTS", 0)
    assert refined < 1e-9
    assert error() > 3 * refined


@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
def test_primal_and_dual_are_the_same_inverse(rows, damping):
    B = np.random.default_rng(1).standard_normal((50, 4))
    expected = np.linalg.solve(rows.T @ rows + damping * np.eye(50), B)
    primal: Inverse = DenseInverse(rows.T @ rows, damping, 0.0)
    dual = ResidualSpaceInverse(rows, rows @ rows.T, damping)
    for found in (primal, dual):
        np.testing.assert_allclose(found.solve(B), expected, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("gone", [[3], [0, 7, 8]])
def test_without_rows(rows, gone):
    """The inverse of the matrix without the rows of some points, from the inverse with them."""
    damping, B = 1e-3, np.random.default_rng(1).standard_normal((50, 4))
    left = np.delete(rows, gone, 0)
    expected = np.linalg.solve(left.T @ left + damping * np.eye(50), B)
    whole = DenseInverse(rows.T @ rows, damping, 0.0)
    found = without_rows(whole.solve, rows[gone])(B)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * abs(expected).max())


def test_without_rows_that_alone_determine_a_direction():
    row = np.zeros((1, 5))
    row[0, 2] = 1.0
    damping = 0.1 * (1 - LARGEST_LEVERAGE)
    solve = DenseInverse(np.diag([1.0, 1.0, 1.0, 1.0, 1.0]), damping, 0.0).solve
    with pytest.raises(InputError, match="alone determine a direction: their leverage is 1 - "):
        without_rows(solve, row)


def test_singular_in_residual_space(rows):
    with pytest.raises(InputError, match=r"of 50 parameters and 30 residuals is singular"):
        ResidualSpaceInverse(rows, rows @ rows.T, 0.0)
