"""What a computation of influence scores will cost, from a few points tried beforehand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pinnfluence.curvature.damping import N_TRIED
from pinnfluence.curvature.gram import BLOCK_BYTES, add_gram
from pinnfluence.curvature.inverse import method_of
from pinnfluence.curvature.inverse.base import UnitCosts
from pinnfluence.curvature.operators import OPERATORS, Curvature
from pinnfluence.curvature.recipe import Recipe
from pinnfluence.influence.compression import HELD_OUT_POINTS, SAMPLE_POINTS
from pinnfluence.influence.embeddings import Projection, project
from pinnfluence.influence.engine import Influence
from pinnfluence.influence.kept import kept_stages
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import SUMS

BASE_BYTES = 450_000_000
"""Memory of the process with its libraries before any computation."""

FILE_BYTES = 10_000
"""Headers and metadata of a score file."""

COMPRESSED_RANK = 1200
"""Rank that full-rank scores are taken to be compressed to, as those of 12,867 parameters are: it
is found only on the way."""

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
class _Sizes:
    """Numbers of gradients: of the training points' losses, of test points' losses and outputs."""

    train: int
    test_losses: int
    test_outputs: int
    n_test: int

    @property
    def total(self) -> int:
        """Embeddings in a score file."""
        return self.train + self.test_losses + self.test_outputs


def cost(influence: Influence, test_x: np.ndarray, dense: bool, restart: bool = False) -> Cost:
    """Estimate the cost of ``influence.influence(test_x)``, from a batch a core.

    Args:
        influence: which may have stages that are kept already. test_x: ``[n_test, n_inputs]``.
        dense: whether the whole matrices are written as well.
        restart: whether all is computed again, whatever is kept.
    """
    pinn, recipe, n_train = influence.pinn, influence.recipe, len(influence.train_x)
    curvature = OPERATORS[recipe.curvature](influence.loss, influence.executor)
    rank = int(recipe.rank) if recipe.is_low_rank else min(COMPRESSED_RANK, curvature.n_params)
    sizes = _sizes(influence, test_x)
    unit, seconds_of_outputs = _try(influence, curvature, rank, sizes)
    method = method_of(recipe.inverse, curvature).cost(curvature, recipe.n_pairs, unit)
    seconds = {
        "stationarity": unit.losses,
        "test points": (unit.losses / n_train + seconds_of_outputs) * sizes.n_test,
        "training points": unit.losses,
    }
    memory, kept_bytes, passing = method.memory_bytes, method.kept_bytes, 4 * sizes.total * rank
    points = 4 * (n_train + sizes.n_test) * len(pinn.inputs)
    scores = 4 * sizes.total * (rank + 1) + points + FILE_BYTES
    if recipe.is_low_rank:
        kept_bytes, passing = kept_bytes + 4 * sizes.train * rank, passing - 4 * sizes.train * rank
    else:
        del seconds["training points"]
        passing += 8 * curvature.n_params * rank
        seconds |= _of_whole_inverse(curvature, unit, recipe, method.n_directions)
        width = method.n_directions or unit.sampled
        sketch = 16 * (curvature.n_residuals + curvature.n_params) * width
        memory += max(sketch, 2 * BLOCK_BYTES)
    itemsize = pinn.like.element_size()
    copies = 3 * itemsize / 4 if recipe.is_low_rank else 2  # the compressed are float32
    embedding = 2 * unit.batch * curvature.n_params * itemsize + copies * scores
    # half of the memory of a whole inverse is its factor, kept to the end
    memory = max(memory, (0 if recipe.is_low_rank else memory / 2) + embedding)
    n_dense = len(pinn.outputs) + len(pinn.quantities) + len(SUMS)
    dense_bytes = 4 * n_train * sizes.n_test * n_dense + points + FILE_BYTES if dense else 0
    kept = {} if restart else kept_stages(influence, test_x)
    seconds |= method.seconds
    left = sum(s * (1 - kept.get(name, 0.0)) for name, s in seconds.items())
    disk = scores + int(kept_bytes) + FILE_BYTES
    return Cost(left, BASE_BYTES + memory, disk + dense_bytes, passing, kept)


def _sizes(influence: Influence, test_x: np.ndarray) -> _Sizes:
    pinn = influence.pinn
    outputs = pinn.at(test_x, [pinn.observables])
    train = influence.loss.collocation.n_residuals
    return _Sizes(train, pinn.at(test_x).n_residuals, outputs.n_residuals, len(test_x))


def _of_whole_inverse(
    curvature: Curvature, unit: UnitCosts, recipe: Recipe, n_directions: int
) -> dict[str, float]:
    """Seconds of what a whole inverse is used for: damping, leverage, compression.

    n_directions: of a method that takes some for the whole space, else 0.
    """
    n, p, sampled = curvature.n_residuals, curvature.n_params, unit.sampled
    order = n_directions or (min(n, p) if curvature.has_rows else p)
    if n_directions:
        operations = (12.0 * n + 2.0 * p + 20.0 * order) * order**2
    else:
        operations = 2.0 * n * p * sampled + 2.0 * p * order * sampled
        operations += float(n) * sampled**2 + 2.0 * sampled**3
    seconds = {"compression": operations * unit.operation + 2 * unit.losses}
    if recipe.is_automatic:
        factors = 0 if n_directions else (FACTORISATIONS - 1) * order**3 / 3 * unit.operation
        seconds["damping"] = factors + N_TRIED * unit.product + unit.losses
    if recipe.leverage:
        solves = 2.0 * n * order * (p if order == p else order + 2 * p)
        seconds["leverage"] = solves * unit.operation + unit.losses
    return seconds


def _try(
    influence: Influence, curvature: Curvature, rank: int, sizes: _Sizes
) -> tuple[UnitCosts, float]:
    """Run each step on a batch a core; also the seconds of a test point's outputs."""
    pinn, executor, n_train = influence.pinn, influence.executor, len(influence.train_x)
    n = min(executor.batch_size * torch.get_num_threads() * executor.n_processes, n_train)
    sample = influence.train_x[np.linspace(0, n_train - 1, n).astype(int)]
    loss = Loss(pinn.at(sample), influence.loss.weights)
    matrix = curvature.at(loss)
    product = _seconds(lambda: matrix.matvec(np.ones(matrix.n_params)))
    basis = pinn.like.new_zeros(matrix.n_params, rank)
    losses = _seconds(lambda: _wait(project(loss.collocation, basis, executor)))
    observables = pinn.at(sample, [pinn.observables])
    outputs = _seconds(lambda: _wait(project(observables, basis, executor)))
    n_points = min(sizes.n_test, SAMPLE_POINTS + HELD_OUT_POINTS)
    rows_of_a_point = (sizes.test_losses + sizes.test_outputs) / sizes.n_test
    scale = n_train / n
    operation = _seconds_of_an_operation(curvature.n_params)
    sampled = round(n_points * rows_of_a_point)
    return UnitCosts(product * scale, losses * scale, operation, n, sampled), outputs / n


def _wait(projections: Mapping[str, Projection]) -> None:
    """Wait for a device that computes while Python goes on: for a number of each result."""
    for projection in projections.values():
        projection.gradients[:1, :1].cpu()


def _seconds_of_an_operation(n_params: int) -> float:
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
