"""Models of DeepXDE against its own losses, differentiated point by point by double backward."""

from typing import Any

import numpy as np
import pytest
import torch
from deepxde_problems import MODELS, brute_force, model_of
from pinnfluence.loss.gradients import jacobian, point_loss_gradients, project_gradients
from torch import Tensor

from pinnfluence.models.deepxde.reader import from_deepxde

SINGLE = 2e-6
"""DeepXDE's unknowns are float32, and so are its gradients with respect to them."""


def close(found: Tensor, expected: Tensor, what: str = "", tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{what}: {text}"
    )


by_problem = pytest.mark.parametrize("name", MODELS)


def sorted_by_point(points: np.ndarray, values: Tensor, rows: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Rows in an order of their own: by place and, at one place, by value."""
    keys = np.column_stack([points.astype(np.float64), np.round(values.numpy(), 6)])
    order = np.lexsort(keys.T[::-1])
    return points[order], values[order], rows[order]


@by_problem
def test_residuals_and_gradients_of_every_point(name):
    model = model_of(name)
    pinn = from_deepxde(model)
    places = pinn.at(pinn.training_points)
    n_params = sum(p.numel() for p in pinn.params.values())
    found = project_gradients(places, torch.eye(n_params, dtype=torch.float64), batch_size=5)
    expected = brute_force(model)
    tolerance = SINGLE if model.external_trainable_variables else 1e-10
    assert len(found) == len(expected) == len(pinn.terms)
    for (term, ours), (points, values, rows) in zip(found.items(), expected, strict=True):
        theirs = sorted_by_point(points, values, rows)
        mine = sorted_by_point(pinn.training_points[ours.rows], ours.values, ours.gradients)
        np.testing.assert_array_equal(mine[0], theirs[0], err_msg=term)
        close(mine[1], theirs[1], term, tolerance)
        close(mine[2], theirs[2], term, tolerance)


@by_problem
def test_rows_do_not_depend_on_the_batch(name):
    pinn = from_deepxde(model_of(name))
    places = pinn.at(pinn.training_points)
    basis = torch.randn(sum(p.numel() for p in pinn.params.values()), 3, dtype=torch.float64)
    whole, single = project_gradients(places, basis, 1000), project_gradients(places, basis, 1)
    for number, names in enumerate(places.names):
        rows = jacobian(places.only(number))
        for term in names:
            close(single[term].gradients, whole[term].gradients)
            close(rows[term][1] @ basis, whole[term].gradients)


@by_problem
def test_norms_of_the_gradients_of_points(name):
    """Sums over the terms of a point, some with images, some with rows of their own."""
    pinn = from_deepxde(model_of(name))
    places = pinn.at(pinn.training_points)
    weights = {term: 0.5 + n for n, term in enumerate(pinn.terms)}
    n_params = sum(p.numel() for p in pinn.params.values())
    found = project_gradients(places, torch.eye(n_params, dtype=torch.float64), 1000)
    expected = torch.zeros(len(places.x), n_params, dtype=torch.float64)
    for term, p in found.items():
        expected[torch.as_tensor(p.rows)] += 2 * weights[term] * p.values[:, None] * p.gradients
    norms, total = point_loss_gradients(places, weights, 4)
    close(norms, expected.norm(dim=1))
    close(total, expected.sum(0))
