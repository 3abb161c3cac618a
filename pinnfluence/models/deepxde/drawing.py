"""Points drawn at random from a geometry of DeepXDE, by a seed of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

Draw = Callable[[int, int], np.ndarray]
"""From a number of points and a seed to about that many points ``[n, n_inputs]``, float32."""

INSIDE = (0, 0, 1)
"""Proportions of initial, boundary and domain points: inside the domain alone."""


def drawing(geometry: Any, numbers: Sequence[int], kind: str) -> Draw:
    """A function that draws points from a geometry.

    Args:
        numbers: proportions of initial, boundary and domain points; all 0: domain points alone.
        kind: the distribution, one of DeepXDE's.
    """
    numbers = numbers if any(numbers) else INSIDE
    names = ("random_initial_points", "random_boundary_points", "random_points")

    def draw(n: int, seed: int) -> np.ndarray:
        factor = n / sum(numbers)
        with _numpy_seed(seed):
            parts = [
                getattr(geometry, name)(round(factor * number), kind)
                for name, number in zip(names, numbers, strict=True)
                if number
            ]
        points = np.concatenate(parts).astype(np.float32)
        return points if kind == "pseudo" else np.unique(points, axis=0)

    return draw


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """DeepXDE draws from NumPy's global generator: seed it, and leave it as it was."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
