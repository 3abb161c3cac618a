"""What a computation of influence scores will cost, from a few points tried beforehand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pinnfluence.curvature.factorisations import prefers_residual_space
from pinnfluence.curvature.gram import BLOCK_BYTES, add_gram
from pinnfluence.curvature.inverse_curvature import expected_products
from pinnfluence.curvature.matrix_store import COLUMNS
from pinnfluence.curvature.operators import OPERATORS, Curvature
from pinnfluence.curvature.operators.hessian import GRAPH_BUDGET_BYTES, graph_bytes, keeps_graph
from pinnfluence.curvature.recipe import AUTO, Recipe
from pinnfluence.influence import Influence
from pinnfluence.influence.compression import HELD_OUT_POINTS, SAMPLE_POINTS
from pinnfluence.influence.kept import kept_stages
from pinnfluence.loss.collocation import SUMS
from pinnfluence.loss.gradients import Projection, project_gradients
from pinnfluence.runtime import distributed

BASE_BYTES = 450_000_000
"""Memory of the process with its libraries before any computation."""

FILE_BYTES = 10_000
"""Headers and metadata of a score file."""

COMPRESSED_RANK = 600
"""Rank that full-rank scores are taken to be compressed to: it is found only on the way."""

FACTORISATIONS = 4
"""Dampings that the rule ``auto`` is taken to try."""


@dataclass(frozen=True)
class Cost:
    """Estimated seconds, and bytes of memory and disk.

    disk_bytes: of the files that stay. passing_bytes: of stages that are kept only until then.
    kept: the part of each stage that is there already, whose time is left out of the seconds.
    """

    seconds: float
    memory_bytes: float
    disk_bytes: int
    passing_bytes: int
    kept: Mapping[str, float]

    def __str__(self) -> str:
        there = [
            name if part == 1 else f"{part:.0%} of {name}"
            for name, part in self.kept.items()
            if part
        ]
        line = f"kept, and left out of the time: {', '.join(there)}\n" if there else ""
        return line + (
            f"estimate: {self.seconds:.0f} s, {self.memory_bytes / 1e9:.1f} GB of memory, "
            f"{self.disk_bytes / 1e9:.2f} GB on disk"
        )


@dataclass(frozen=True)
class _Tried:
    """Seconds of the steps, each a training or test point, and of a product with the curvature."""

    product: float
    losses: float
    outputs: float
    n: int


def cost(influence: Influence, test_x: np.ndarray, dense: bool, restart: bool = False) -> Cost:
    """Estimate the cost of ``influence.influence(test_x)``, from a batch a core.

    Args:
        influence: which may have stages that are kept already. test_x: ``[n_test, n_inputs]``.
        dense: whether the whole matrices are written, too.
        restart: whether all is computed again, whatever is kept.
    """
    pinn, n_train, n_test = influence.pinn, len(influence.train_x), len(test_x)
    train, test = pinn.at(influence.train_x), pinn.at(test_x)
    curvature = OPERATORS[influence.recipe.curvature](
        train, influence.weights, influence.batch_size
    )
    full = influence.recipe.is_full
    rank = min(COMPRESSED_RANK, curvature.n_params) if full else int(influence.recipe.rank)
    tried = _try(influence, curvature, rank)
    n_train_rows, n_test_rows = (sum(map(len, c.term_rows().values())) for c in (train, test))
    n_observables = len(pinn.at(test_x, [pinn.observables]).term_rows())
    rows = n_train_rows + n_test_rows + n_test * n_observables
    points = 4 * (n_train + n_test) * len(pinn.inputs)
    scores = 4 * rows * (rank + 1) + points + FILE_BYTES
    stages, passing = _stage_bytes(curvature, rank, n_train_rows, full)
    passing += 4 * (rows - n_train_rows) * rank
    disk = scores + stages
    n_dense = len(pinn.outputs) + len(pinn.quantities) + len(SUMS)
    dense_bytes = 4 * n_train * n_test * n_dense + points + FILE_BYTES if dense else 0
    seconds = {
        "stationarity": tried.losses * n_train,
        "test points": (tried.losses + tried.outputs) * n_test,
    }
    itemsize = next(iter(pinn.params.values())).element_size()
    embedding = 2 * tried.n * curvature.n_params * itemsize + 3 * scores * itemsize / 4
    if full:
        n_points = min(n_test, SAMPLE_POINTS + HELD_OUT_POINTS)
        n_sampled = round(n_points * (n_observables + n_test_rows / n_test))
        more, memory = _full_rank(curvature, tried, n_sampled, influence.recipe)
        memory = max(memory, memory / 2 + embedding)  # half of it is the inverse, kept to the end
    else:
        more, memory = _low_rank(curvature, tried, rank)
        memory = max(memory, embedding)
    kept = {} if restart else kept_stages(influence, test_x)
    left = sum(s * (1 - kept.get(name, 0.0)) for name, s in (seconds | more).items())
    return Cost(left, BASE_BYTES + memory, disk + dense_bytes, passing, kept)


def _stage_bytes(curvature: Curvature, rank: int, n_rows: int, full: bool) -> tuple[int, int]:
    """Of the stages that stay for other test points, and of those that do not."""
    p, training_side = curvature.n_params, 4 * n_rows * rank
    if not full:
        return 8 * p * rank + training_side + FILE_BYTES, 0
    matrix = 0 if prefers_residual_space(curvature) else 8 * p * min(p, (p + COLUMNS) // 2)
    return matrix + FILE_BYTES, 8 * p * rank + training_side


def _try(influence: Influence, curvature: Curvature, rank: int) -> _Tried:
    """Run each step on a batch a core."""
    pinn, size, n_train = influence.pinn, influence.batch_size, len(influence.train_x)
    n = min(size * torch.get_num_threads() * distributed.world_size(), n_train)
    sample = influence.train_x[np.linspace(0, n_train - 1, n).astype(int)]
    collocation = pinn.at(sample)
    matrix = curvature.at(collocation)
    product = _seconds(lambda: matrix.matvec(np.ones(matrix.n_params)))
    basis = next(iter(pinn.params.values())).new_zeros(matrix.n_params, rank)
    losses = _seconds(lambda: _fetched(project_gradients(collocation, basis, size)))
    observables = pinn.at(sample, [pinn.observables])
    outputs = _seconds(lambda: _fetched(project_gradients(observables, basis, size)))
    return _Tried(product / n, losses / n, outputs / n, n)


def _fetched(projections: Mapping[str, Projection]) -> None:
    """Wait for a device that computes while Python goes on: for a number of each result."""
    for projection in projections.values():
        projection.gradients[:1, :1].cpu()


def _low_rank(curvature: Curvature, tried: _Tried, rank: int) -> tuple[dict[str, float], float]:
    """Seconds by stage, and bytes: eigenpairs and the training side."""
    train = curvature.collocation
    n_train, n_products = len(train.x), expected_products(rank, curvature.n_params)
    seconds = {
        "eigenpairs": n_products * tried.product * n_train,
        "training points": tried.losses * n_train,
    }
    graph = graph_bytes(train) / distributed.world_size()
    if not keeps_graph(train):
        graph *= tried.n / n_train
    return seconds, graph + 4 * (2 * rank + 1) * curvature.n_params * 8


def _full_rank(
    curvature: Curvature, tried: _Tried, n_sampled: int, recipe: Recipe
) -> tuple[dict[str, float], float]:
    """Seconds by stage, and bytes: whole matrix, factorisations, sampled exact scores."""
    automatic = recipe.damping == AUTO
    p = curvature.n_params
    n_rows = curvature.n_residuals
    n_train = len(curvature.collocation.x)
    order = min(n_rows, p) if prefers_residual_space(curvature) else p
    each = _seconds_per_operation(p)
    has_rows = curvature.has_rows
    matrix = float(n_rows) * p * order * each if has_rows else p * tried.product * n_train
    factor = order**3 / 3 * each
    operations = 2.0 * n_rows * p * n_sampled + 2.0 * p * order * n_sampled
    operations += float(n_rows) * n_sampled**2 + 2.0 * n_sampled**3
    seconds = {"curvature": matrix, "factorisation": factor}
    seconds["compression"] = operations * each + 2 * tried.losses * n_train
    if automatic:
        seconds["damping"] = (FACTORISATIONS - 1) * factor + 100 * tried.product * n_train
    if recipe.leverage:
        solves = 2.0 * n_rows * order * (p if order == p else order + 2 * p)
        seconds["leverage"] = solves * each + tried.losses * n_train
    matrices = 2 * order**2 + (n_rows * p if order < p else 0)
    sketch = 2 * n_rows * n_sampled + 2 * p * n_sampled
    memory = 8 * matrices + max(8 * sketch, 2 * BLOCK_BYTES + GRAPH_BUDGET_BYTES * automatic)
    return seconds, memory


def _seconds_per_operation(n_params: int) -> float:
    """Of dense products in float64, of a symmetric update of a part of the matrix."""
    n, k = min(n_params, 1500), 500
    total = np.zeros((n, n), order="F")
    rows = torch.ones(k, n, dtype=torch.float64, device="cpu")
    return _seconds(lambda: add_gram(total, rows)) / (n * n * k)


def _seconds(function: object) -> float:
    assert callable(function)
    function()
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
