"""How many points' derivatives are held at a time, from the memory that is free."""

from __future__ import annotations

from numbers import Integral

import torch

from pinnfluence.curvature.operators.hessian import graph_bytes
from pinnfluence.errors import InputError
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime import distributed
from pinnfluence.runtime.memory import free_bytes

FASTEST = 500
"""Points of a batch on the CPU beyond which nothing is gained: their numbers fit its caches."""

FASTEST_ELSEWHERE = 4000
"""The same on other devices, which need more to be busy."""

PART_OF_MEMORY = 0.25
"""Of what is free, for batches; the rest is for matrices and results."""


def default_batch_size(collocation: Collocation) -> int:
    """The fastest number of points, halved until all batches fit.

    In steps of two, so that the same machine gives the same number whatever else it does, unless
    memory is short. Results do not depend on it beyond rounding.
    """
    device = collocation.pinn.like.device
    on_cpu = device.type == "cpu"
    n_at_once = distributed.local_size() * torch.get_num_threads() if on_cpu else 1
    budget = PART_OF_MEMORY * free_bytes(device) / n_at_once
    size, each = FASTEST if on_cpu else FASTEST_ELSEWHERE, bytes_of_a_point(collocation)
    while size > 1 and size * each > budget:
        size //= 2
    return distributed.from_first(min(size, len(collocation)))


def bytes_of_a_point(collocation: Collocation) -> float:
    """Its gradients three times (rows, outer products, a copy in float64), and its graph.

    As many gradients as an equation has terms.
    """
    pinn = collocation.pinn
    itemsize = pinn.like.element_size()
    graph = graph_bytes(collocation) / len(collocation)
    n_terms = max(map(len, collocation.names), default=1)
    return n_terms * pinn.n_params * (2 * itemsize + 8) + graph


def check_batch_size(size: int | None, n: int) -> None:
    """Refuse a batch size that is no whole number from 1 to the n training points; None is none.

    Raises:
        InputError: see above.
    """
    if size is not None and not (isinstance(size, Integral) and 1 <= size <= n):
        raise InputError(f"expected a batch size from 1 to the {n} training points, found {size!r}")
