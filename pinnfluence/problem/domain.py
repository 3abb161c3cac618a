"""Regions on which equations hold: intervals, rectangles, disks, their difference, space-time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np

TOLERANCE = 1e-6
"""Distance up to which a point counts as inside a region or on its boundary."""


class Shape(Protocol):
    """A closed region of space, or of space and time."""

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance ``[n]`` by which points lie outside the region; 0 or less inside."""
        ...


@dataclass(frozen=True)
class Interval:
    """The numbers from ``low`` to ``high``."""

    low: float
    high: float

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance of points ``[n, 1]`` to the nearer end, positive outside, ``[n]``."""
        return np.maximum(self.low - x[:, 0], x[:, 0] - self.high)


@dataclass(frozen=True)
class Rectangle:
    """Axis-parallel rectangle from its lower left to its upper right corner."""

    low: tuple[float, float]
    high: tuple[float, float]

    def __sub__(self, hole: Disk) -> Difference:
        return Difference(self, hole)

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Largest distance to one of the four sides, positive outside, ``[n]``."""
        return np.maximum(np.subtract(self.low, x), np.subtract(x, self.high)).max(axis=1)


@dataclass(frozen=True)
class Disk:
    """Disk with a centre and a radius; of three coordinates a ball, of one an interval."""

    center: tuple[float, ...]
    radius: float

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance to the circle, positive outside, ``[n]``."""
        return reduce(np.hypot, np.abs(np.subtract(x, self.center)).T) - self.radius

    def contains(self, x: np.ndarray) -> np.ndarray:
        """Mask ``[n]`` of the points ``[n, 2]`` in the disk, its rim included up to rounding."""
        return self.excess(x) <= TOLERANCE


@dataclass(frozen=True)
class Difference:
    """The points of ``whole`` that are not inside ``hole``."""

    whole: Rectangle
    hole: Disk

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance by which points lie outside ``whole`` or inside ``hole``, ``[n]``."""
        return np.maximum(self.whole.excess(x), -self.hole.excess(x))


@dataclass(frozen=True)
class SpaceTime:
    """A region of space during an interval of time; time is the last coordinate."""

    space: Interval | Rectangle | Disk | Difference
    time: Interval

    def excess(self, x: np.ndarray) -> np.ndarray:
        """Distance by which points lie outside in space or in time, ``[n]``."""
        return np.maximum(self.space.excess(x[:, :-1]), self.time.excess(x[:, -1:]))

    def at_boundary(self, x: np.ndarray) -> np.ndarray:
        """Mask ``[n]`` of the points on the boundary of space, at any time."""
        mask: np.ndarray = np.abs(self.space.excess(x[:, :-1])) <= TOLERANCE
        return mask

    def at_start(self, x: np.ndarray) -> np.ndarray:
        """Mask ``[n]`` of the points at the initial time."""
        return np.abs(x[:, -1] - self.time.low) <= TOLERANCE
