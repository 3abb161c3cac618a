"""Influence and errors from arrays: closed forms, the door of plain PyTorch, brute force."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator

import pinnfluence

DOCS = Path(__file__).parents[1] / "docs"


def problem(n_params: int, seed: int = 0) -> dict[str, Any]:
    """Linear least squares of 30 and 10 rows."""
    rng = np.random.default_rng(seed)
    return {
        "jacobian": rng.standard_normal((40, n_params)),
        "residuals": rng.standard_normal(40),
        "weights": {"pde": 2.0, "wall": 0.5},
        "jacobian_test": rng.standard_normal((5, n_params)),
        "terms": {"pde": slice(0, 30), "wall": np.arange(30, 40)},
    }


def weights() -> np.ndarray:
    return np.repeat([2.0 / 30, 0.5 / 10], [30, 10])


@pytest.mark.parametrize("n_params", [6, 60])
def test_scores_and_leverage_are_the_closed_form(n_params: int) -> None:
    given, damping, w = problem(n_params), 0.01, weights()
    found = pinnfluence.from_arrays(**given, damping=damping)
    J, r = given["jacobian"], given["residuals"]
    inverse = np.linalg.inv(2 * J.T @ (w[:, None] * J) + damping * np.eye(n_params))
    expected = given["jacobian_test"] @ inverse @ (2 * w * r * J.T)
    np.testing.assert_allclose(found.scores.values, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.scores.term("wall"), expected[:, 30:], rtol=1e-9, atol=1e-12)
    leverage = np.einsum("ij,jk,ik->i", J, inverse, J) * 2 * w
    np.testing.assert_allclose(found.leverage, leverage, rtol=1e-9)
    by_row = pinnfluence.from_arrays(**{**given, "weights": w}, damping=damping)
    np.testing.assert_allclose(by_row.scores.values, expected, rtol=1e-9, atol=1e-12)


def test_scores_over_what_leverage_leaves_are_what_removal_does() -> None:
    """Of a ridge regression at its minimum, without and with each row: brute force."""
    rng, n_params, damping = np.random.default_rng(1), 4, 0.1
    J, target, w = rng.standard_normal((20, n_params)), rng.standard_normal(20), np.full(20, 0.3)
    tested = rng.standard_normal((3, n_params))

    def minimum(kept: np.ndarray) -> np.ndarray:
        A, b = J[kept], target[kept]
        matrix = 2 * A.T @ (w[kept, None] * A) + damping * np.eye(n_params)
        return np.linalg.solve(matrix, 2 * A.T @ (w[kept] * b))

    theta = minimum(np.arange(20))
    found = pinnfluence.from_arrays(J, J @ theta - target, w, tested, damping=damping)
    removed = [tested @ (minimum(np.delete(np.arange(20), i)) - theta) for i in range(20)]
    predicted = found.scores.values / (1 - found.leverage)
    np.testing.assert_allclose(predicted, np.array(removed).T, rtol=1e-9)


def test_the_door_of_plain_pytorch_finds_the_same() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    ).double()

    def residual(network, x):
        u = network(x)
        return torch.autograd.grad(u.sum(), x, create_graph=True)[0] + u

    def start(network, x):
        return network(x) - 1

    x = torch.rand(25, 1, dtype=torch.float64, requires_grad=True)
    x0 = torch.linspace(0, 0.1, 5, dtype=torch.float64)[:, None].requires_grad_()
    test_x = torch.tensor([[0.2], [0.7]], dtype=torch.float64)
    model = pinnfluence.torch_model(network, {"pde": (x, residual), "start": (x0, start, 3.0)})
    expected = pinnfluence.Influence(model, recipe="gauss-newton", damping=1e-4).scores(test_x, "u")
    r = torch.cat([residual(network, x), start(network, x0)])[:, 0]

    def rows(values: torch.Tensor) -> np.ndarray:
        params = list(network.parameters())
        gradients = (
            torch.autograd.grad(v, params, retain_graph=True, materialize_grads=True)
            for v in values
        )
        return np.stack([torch.cat([g.flatten() for g in of]).numpy() for of in gradients])

    arrays = (rows(r), r.detach(), {"start": 3.0}, rows(network(test_x)[:, 0]))
    terms = {"pde": slice(0, 25), "start": slice(25, 30)}
    found = pinnfluence.from_arrays(*arrays, terms, damping=1e-4)
    scale = np.abs(expected.values).max()
    assert np.abs(found.scores.values - expected.values).max() < 1e-8 * scale
    for name in terms:
        assert np.abs(found.scores.term(name) - expected.term(name)).max() < 1e-8 * scale


def test_the_damping_follows_the_scale_of_the_loss_and_not_the_order_of_the_rows() -> None:
    given = problem(6)
    J, root, tested = given["jacobian"], np.sqrt(weights()), given["jacobian_test"]
    fitted = J @ np.linalg.lstsq(root[:, None] * J, root * given["residuals"])[0]
    r = given["residuals"] - 0.1 * fitted  # far from the minimum
    found = pinnfluence.from_arrays(J, r, weights(), tested)
    assert found.chosen is not None
    assert found.damping == found.chosen.largest_eigenvalue  # the end of the rule
    r = given["residuals"] - 0.3 * fitted
    found = pinnfluence.from_arrays(J, r, weights(), tested)
    assert found.chosen is not None
    assert found.chosen.at_value.open <= 0.5 < found.chosen.at_floor.open
    larger = pinnfluence.from_arrays(J, r, 100 * weights(), tested)
    assert larger.damping == pytest.approx(100 * found.damping, rel=1e-6)
    order = np.random.default_rng(3).permutation(40)
    other = pinnfluence.from_arrays(J[order], r[order], weights()[order], tested)
    np.testing.assert_allclose(other.scores.values, found.scores.values[:, order], rtol=1e-6)
    at_minimum = pinnfluence.from_arrays(J, given["residuals"] - fitted, weights(), tested)
    assert at_minimum.chosen is not None
    assert at_minimum.damping == at_minimum.chosen.floor  # nothing is open there


def test_the_error_of_a_linear_model_is_found_exactly() -> None:
    given, rng = problem(6), np.random.default_rng(4)
    wrong_by = rng.standard_normal(6)
    fresh = rng.standard_normal((60, 6))
    error = pinnfluence.from_arrays(**given).error(fresh, fresh @ wrong_by)
    np.testing.assert_allclose(error.error, -given["jacobian_test"] @ wrong_by, rtol=1e-6)
    assert error.unexplained < 1e-6
    noise = rng.standard_normal(60)  # which no step of the parameters explains
    doubtful = pinnfluence.from_arrays(**given).error(fresh, 10 * noise)
    assert doubtful.unexplained > 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"residuals": np.zeros(7)}, "a row of the jacobian for each residual"),
        ({"residuals": np.full(40, np.nan)}, "residuals has NaN"),
        ({"jacobian": np.zeros(40)}, "jacobian of numbers with 2 axes"),
        ({"jacobian_test": np.zeros((5, 7))}, "expected 6 parameters in jacobian_test"),
        ({"jacobian_test": None}, "jacobian_test of numbers"),
        ({"weights": {"wal": 1.0}}, "no loss term wal"),
        ({"weights": {"wall": -1.0}}, "weights of at least 0"),
        ({"weights": np.ones(3)}, "expected 40 weights"),
        ({"terms": {"pde": slice(0, 30)}}, "each of the 40 rows in one of the terms"),
        ({"damping": -1.0}, "a damping of at least 0"),
        ({"damping": "much"}, "a damping of at least 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(pinnfluence.InputError, match=words):
        pinnfluence.from_arrays(**{**problem(6), **changes})


@pytest.mark.parametrize("n_params", [6, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_linear_operator_is_the_array_of_its_rows(n_params: int, dtype: str) -> None:
    given = problem(n_params)
    for name in ("jacobian", "jacobian_test"):
        given[name] = given[name].astype(dtype)
    n_columns = []

    class Counted(LinearOperator):
        def __init__(self, matrix: np.ndarray) -> None:
            self.matrix = matrix
            super().__init__(matrix.dtype, matrix.shape)

        def _matmat(self, X: np.ndarray) -> np.ndarray:
            n_columns.append(X.shape[1])
            return self.matrix @ X

        def _rmatmat(self, X: np.ndarray) -> np.ndarray:
            n_columns.append(X.shape[1])
            return self.matrix.T @ X

    operators = {name: Counted(given[name]) for name in ("jacobian", "jacobian_test")}
    found = pinnfluence.from_arrays(**given | operators)
    expected = pinnfluence.from_arrays(**given)
    np.testing.assert_allclose(found.scores.values, expected.scores.values, rtol=1e-12)
    assert found.damping == expected.damping
    few = (n_params > 40) + (n_params > 5)  # asked first whether there is a transpose
    assert sum(n_columns) == min(40, n_params) + min(5, n_params) + 2 + few


def test_an_operator_whose_adjoint_is_wrong_is_refused() -> None:
    J = problem(60)["jacobian"]
    wrong = LinearOperator(J.shape, lambda x: J @ x, lambda y: -J.T @ y, dtype=J.dtype)
    with pytest.raises(pinnfluence.InputError, match="rmatvec of jacobian is not the transpose"):
        pinnfluence.from_arrays(**problem(60) | {"jacobian": wrong})
    without = LinearOperator(J.shape, lambda x: J @ x, dtype=J.dtype)
    with pytest.raises(pinnfluence.InputError, match="expected jacobian with rmatvec"):
        pinnfluence.from_arrays(**problem(60) | {"jacobian": without})


def test_fresh_rows_that_do_not_fit_are_refused() -> None:
    found = pinnfluence.from_arrays(**problem(6))
    with pytest.raises(pinnfluence.InputError, match="at least 3 fresh rows of 6"):
        found.error(np.ones((10, 5)), np.ones(10))


def test_the_page_runs() -> None:
    pytest.importorskip("jax")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "arrays.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    assert len(blocks[1].strip().splitlines()) <= 14
    exec("\n".join(blocks), {})
