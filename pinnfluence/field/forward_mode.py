"""Forward-mode differentiation, one thread at a time.

PyTorch keeps the levels of forward mode for the whole process, not for a thread: two threads that
call ``torch.func.jvp`` at once get wrong numbers or crash. Everything here goes through one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LOCK = threading.RLock()


def jvp(
    function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    """``torch.func.jvp``: the function's value and its derivative along the tangents."""
    with _LOCK:
        both = torch.func.jvp(function, primals, tangents)
    return both[0], both[1]


def derivative(function: Callable[[Tensor], Tensor], x: Tensor, index: tuple[int, ...]) -> Tensor:
    """Derivative of a function of points by the inputs in ``index``, by nested forward mode."""
    if not index:
        return function(x)
    direction = torch.zeros_like(x)
    direction[:, index[-1]] = 1

    def lower(points: Tensor) -> Tensor:
        return derivative(function, points, index[:-1])

    return jvp(lower, (x,), (direction,))[1]
