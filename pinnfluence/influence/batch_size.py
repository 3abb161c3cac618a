"""How many points' derivatives are held at a time, from the memory that is free."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from pinnfluence.curvature.operators.hessian import graph_bytes
from pinnfluence.loss.collocation import Collocation
from pinnfluence.runtime import distributed

FASTEST = 500
"""Points of a batch on the CPU beyond which nothing is gained: their numbers fit its caches."""

FASTEST_ELSEWHERE = 4000
"""The same on other devices, which need more to be busy."""

PART_OF_MEMORY = 0.25
"""Of what is free, for batches; the rest is for matrices and results."""

UNKNOWN_BYTES = 4_000_000_000
"""Free memory where the system does not say."""


def default_batch_size(collocation: Collocation) -> int:
    """The fastest number of points, or a half, a quarter, ... of it, so that all batches fit.

    In steps of two, so that the same machine gives the same number whatever else it does, unless
    memory is short. Results do not depend on it beyond rounding.
    """
    device = next(iter(collocation.pinn.params.values())).device
    on_cpu = device.type == "cpu"
    n_at_once = distributed.local_size() * torch.get_num_threads() if on_cpu else 1
    budget = PART_OF_MEMORY * free_bytes(device) / n_at_once
    size, each = FASTEST if on_cpu else FASTEST_ELSEWHERE, bytes_of_a_point(collocation)
    while size > 1 and size * each > budget:
        size //= 2
    return distributed.from_first(min(size, len(collocation.x)))


def bytes_of_a_point(collocation: Collocation) -> float:
    """Its gradient three times (rows, their outer products, a copy in float64), and its graph."""
    pinn = collocation.pinn
    itemsize = next(iter(pinn.params.values())).element_size()
    graph = graph_bytes(collocation) / len(collocation.x)
    return pinn.n_params * (2 * itemsize + 8) + graph


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device: of the machine, or what its control group has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_machine_bytes(), *_group_bytes()])


def _machine_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(found.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_BYTES


def _group_bytes() -> list[int]:
    """What the limits of control groups, versions 2 and 1, leave; none without a limit."""
    root, left = Path("/sys/fs/cgroup"), []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return [max(0, n) for n in left]
