"""Models of DeepXDE against its own losses, differentiated point by point by double backward."""

from typing import Any

import numpy as np
import pytest
import torch
from deepxde_problems import MODELS, model_of
from deepxde_reference import brute_force
from torch import Tensor

from pinnfluence.influence.embeddings import project
from pinnfluence.influence.stationarity import point_gradients
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.executor import Executor

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
    collocation = pinn.at(pinn.training_points)
    found = project(collocation, torch.eye(pinn.n_params, dtype=torch.float64), Executor(5))
    expected = brute_force(model)
    tolerance = SINGLE if model.external_trainable_variables else 1e-10
    assert len(found) == len(expected) == len(pinn.terms)
    acting = collocation.term_rows()
    for (term, ours), theirs in zip(
        found.items(), (sorted_by_point(*e) for e in expected), strict=True
    ):
        mine = sorted_by_point(pinn.training_points[acting[term]], ours.values, ours.gradients)
        np.testing.assert_array_equal(mine[0], theirs[0], err_msg=term)
        close(mine[1], theirs[1], term, tolerance)
        close(mine[2], theirs[2], term, tolerance)


@by_problem
def test_rows_do_not_depend_on_the_batch(name):
    pinn = from_deepxde(model_of(name))
    collocation = pinn.at(pinn.training_points)
    basis = torch.randn(pinn.n_params, 3, dtype=torch.float64)
    whole, single = (project(collocation, basis, Executor(size)) for size in (1000, 1))
    for number, names in enumerate(collocation.names):
        rows = jacobian(collocation.only(number))
        for term in names:
            close(single[term].gradients, whole[term].gradients)
            close(rows[term][1] @ basis, whole[term].gradients)


@by_problem
def test_norms_of_the_gradients_of_points(name):
    """Sums over the terms of a point, some with images, some with rows of their own."""
    pinn = from_deepxde(model_of(name))
    collocation = pinn.at(pinn.training_points)
    weights = {term: 0.5 + n for n, term in enumerate(pinn.terms)}
    n_params = pinn.n_params
    found = project(collocation, torch.eye(n_params, dtype=torch.float64), Executor(1000))
    expected = torch.zeros(len(collocation.x), n_params, dtype=torch.float64)
    for term, p in found.items():
        expected[torch.as_tensor(collocation.term_rows()[term])] += (
            2 * weights[term] * p.values[:, None] * p.gradients
        )
    norms, total = point_gradients(Loss(collocation, weights), Executor(4))
    close(norms, expected.norm(dim=1))
    close(total, expected.sum(0))
