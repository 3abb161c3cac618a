"""Residuals of a small flow and their gradients by loops, for tests of those of the package."""

from collections.abc import Callable

import numpy as np
import torch
from brute_force import TERMS, flow_residuals, gradients
from torch import Tensor

from pinnfluence.loss.pinn import Pinn

LAYERS = (2, 4, 4, 3)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


def residuals_of(pinn: Pinn, conditions: str = "corrected") -> Callable[[Tensor], dict]:
    return lambda x: flow_residuals(pinn.network(x), x, conditions=conditions)


def basis_of(n_params: int) -> Tensor:
    return torch.randn(n_params, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=lambda m: f"{name} {m}")


def small_flow(flow_pinn, flow_points):
    """A network, points, and residuals and gradients at all of them by loops."""
    pinn, x = flow_pinn(LAYERS), flow_points(10, 5)[::2]
    assert all(len(rows) > 1 for rows in pinn.at(x).term_rows().values())
    points = torch.as_tensor(x).double()
    values = residuals_of(pinn)(points.clone().requires_grad_())
    rows = gradients(pinn.network, residuals_of(pinn), points)
    return pinn, x, {name: r.detach() for name, r in values.items()}, rows


def point_rows(pinn: Pinn, x: np.ndarray, values: dict, rows: dict) -> Tensor:
    """grad l_i, the sum over the terms that act on i of 2 w_k r_k grad r_k, ``[n, n_params]``."""
    expected = torch.zeros(len(x), pinn.n_params, dtype=torch.float64)
    for name, acting in pinn.at(x).term_rows().items():
        for i in acting:
            expected[i] += 2 * WEIGHTS[name] * values[name][i] * rows[name][i]
    return expected
