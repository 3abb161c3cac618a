"""What a computation of influence scores will cost, from a few points tried beforehand."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from pinnfluence.curvature import GRAPH_BUDGET_BYTES, Hessian, graph_bytes
from pinnfluence.gradients import project_gradients
from pinnfluence.influence import Influence, expected_products
from pinnfluence.terms import SUMS

BASE_BYTES = 450_000_000
"""Memory of the process with its libraries before any computation."""

FILE_BYTES = 10_000
"""Headers and metadata of a score file."""


@dataclass(frozen=True)
class Cost:
    """Estimated seconds, and bytes of memory and disk."""

    seconds: float
    memory_bytes: float
    disk_bytes: int

    def __str__(self) -> str:
        return (
            f"estimate: {self.seconds:.0f} s, {self.memory_bytes / 1e9:.1f} GB of memory, "
            f"{self.disk_bytes / 1e9:.2f} GB on disk"
        )


def cost(influence: Influence, test_x: np.ndarray, dense: bool) -> Cost:
    """Estimate the cost of ``influence.influence(test_x)``, from a batch a core."""
    pinn, rank = influence.pinn, influence.recipe.rank
    n_train, n_test = len(influence.train_x), len(test_x)
    n_threads = torch.get_num_threads()
    size = influence.batch_size
    n = min(size * n_threads, n_train)
    sample = influence.train_x[np.linspace(0, n_train - 1, n).astype(int)]
    collocation = pinn.at(sample)
    kept = graph_bytes(pinn.at(influence.train_x)) <= GRAPH_BUDGET_BYTES
    hessian = Hessian(collocation, influence.weights, size, keep_graph=kept)
    product = _seconds(lambda: hessian.matvec(np.ones(hessian.n_params)))
    basis = torch.zeros(hessian.n_params, rank).to(next(iter(pinn.params.values())))
    losses = _seconds(lambda: project_gradients(collocation, basis, size))
    observables = pinn.at(sample, [pinn.observables])
    outputs = _seconds(lambda: project_gradients(observables, basis, size))
    products = expected_products(rank, hessian.n_params) * product * n_train
    seconds = (products + 2 * losses * n_train + (losses + outputs) * n_test) / n
    rows = sum(map(len, pinn.at(influence.train_x).term_rows().values()))
    rows += sum(map(len, pinn.at(test_x).term_rows().values()))
    rows += n_test * len(pinn.at(test_x, [pinn.observables]).term_rows())
    points = 4 * (n_train + n_test) * len(pinn.inputs)
    disk = 4 * rows * (rank + 1) + points + FILE_BYTES
    n_dense = len(pinn.outputs) + len(pinn.quantities) + len(SUMS)
    dense_bytes = 4 * n_train * n_test * n_dense + points + FILE_BYTES if dense else 0
    graph = graph_bytes(pinn.at(influence.train_x if kept else sample))
    itemsize = basis.element_size()
    batch = 2 * n * hessian.n_params * itemsize
    vectors = 4 * (2 * rank + 1) * hessian.n_params * 8
    memory = BASE_BYTES + max(graph + vectors, batch + 3 * disk * itemsize / 4)
    return Cost(seconds, memory, disk + dense_bytes)


def _seconds(function: object) -> float:
    assert callable(function)
    function()
    began = time.perf_counter()
    function()
    return time.perf_counter() - began
