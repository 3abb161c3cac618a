"""Difference quotients of losses: what derivatives by automatic differentiation are checked with.

PyTorch has operations with wrong higher derivatives, among them the kernels of layer, instance and
batch normalisation (2.13), so that all that follows from them agrees and is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

STEPS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Steps of difference quotients, relative to the parameters."""


def direction_of(parameters: Iterable[Tensor]) -> Tensor:
    """A random direction ``[n_params]`` in which each entry moves by the size of its tensor's."""
    generator = torch.Generator("cpu").manual_seed(0)
    parts = []
    for p in parameters:
        drawn = torch.randn(p.numel(), generator=generator, dtype=p.dtype, device="cpu")
        parts.append(drawn.to(p.device) * (p.detach().square().mean().sqrt() + 1e-3))
    return torch.cat(parts)


def quotients(values_at: Callable[[float], np.ndarray]) -> np.ndarray:
    """Central quotients ``[n_steps, ...]`` of a function of a step along a direction."""
    return np.stack([(values_at(step) - values_at(-step)) / (2 * step) for step in STEPS])


def agrees(slope: float, quotients: np.ndarray, scale: float, limit: float) -> bool:
    """Whether a slope is that of difference quotients, as far as these are certain themselves.

    Args:
        quotients: ``[n_steps]``. scale: norm of the largest gradient of a loss term.
        limit: relative difference of gradients that rounding alone makes.
    """
    spreads = np.abs(np.diff(quotients))
    best = int(np.argmin(spreads))
    certain = (2e-3 + limit) * abs(slope) + 3 * float(spreads[best]) + 1e-9 * scale
    return abs(float(quotients[best + 1]) - slope) <= certain
