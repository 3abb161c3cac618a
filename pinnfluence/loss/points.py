"""Points and where equations act among them, without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pinnfluence.problem.equation import Equation, at_points

Arrays = tuple[np.ndarray | None, ...]
"""An array for each equation, or None where it needs none."""


@dataclass(frozen=True)
class PointSet:
    """Points ``x`` ``[n, n_inputs]`` and, for each equation, where it acts among them.

    rows: indices ``[n_rows]`` of the points on which it acts, rising. data: its numbers there,
    ``[n_rows, n_data]``. images: the second point of each row, ``[n_rows, n_inputs]``.
    """

    x: np.ndarray
    rows: tuple[np.ndarray, ...]
    data: Arrays
    images: Arrays

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, x: np.ndarray, equations: Sequence[Equation]) -> PointSet:
        """The points ``[n, n_inputs]``, each equation where it acts, with its data and images."""
        masks = [None if eq.on is None else np.asarray(eq.on(x), bool) for eq in equations]
        everywhere = np.arange(len(x))
        rows = tuple(everywhere if mask is None else np.flatnonzero(mask) for mask in masks)
        data = tuple(at_points(eq.data, x[r]) for eq, r in zip(equations, rows, strict=True))
        images = tuple(at_points(eq.image, x[r]) for eq, r in zip(equations, rows, strict=True))
        return cls(x, rows, data, images)

    @property
    def has_images(self) -> bool:
        """Whether a residual depends on a second point."""
        return any(images is not None for images in self.images)

    def chunks(self, size: int) -> Iterator[PointSet]:
        """``size`` points at a time, in order."""
        for start in range(0, len(self.x), size):
            yield self._at(slice(start, start + size), [r - start for r in self.rows])

    def subset(self, points: np.ndarray) -> PointSet:
        """Some of the points, by their indices ``[n]`` in rising order."""
        place = np.full(len(self.x), -1)
        place[points] = np.arange(len(points))
        return self._at(points, [place[r] for r in self.rows])

    def only(self, number: int) -> PointSet:
        """The points on which one of the equations acts, with it alone."""
        x = self.x[self.rows[number]]
        return PointSet(x, (np.arange(len(x)),), (self.data[number],), (self.images[number],))

    def _at(self, points: slice | np.ndarray, places: Sequence[np.ndarray]) -> PointSet:
        """Some points, among which the rows have these places: others are left out."""
        x = self.x[points]
        masks = [(place >= 0) & (place < len(x)) for place in places]
        rows = tuple(place[mask] for place, mask in zip(places, masks, strict=True))
        return PointSet(x, rows, _masked(self.data, masks), _masked(self.images, masks))


def _masked(arrays: Arrays, masks: Sequence[np.ndarray]) -> Arrays:
    return tuple(
        None if array is None else array[mask] for array, mask in zip(arrays, masks, strict=True)
    )


@dataclass(frozen=True)
class PointTensors:
    """A ``PointSet`` on a device: points followed by images, rows and data of each equation."""

    x: Tensor
    rows: tuple[Tensor, ...]
    data: tuple[Tensor | None, ...]
