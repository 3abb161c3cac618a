"""What the indicators of the second paper look at: scores by loss term, and kinds of points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pinnfluence.scores.file import Scores
from pinnfluence.scores.matrix import BLOCK_ELEMENTS, FactoredMatrix, ScoreMatrix

N_BINS = 50


@dataclass(frozen=True)
class Case:
    """Scores of one quantity, by loss term, and what is known of their points.

    whole: ``Inf``, ``[n_test, n_train]``. parts: by loss term L, ``Inf^L``, which add up to it.
    acting: by loss term, the training points ``[n_train]`` on which it acts, a mask.
    train_x, test_x: ``[n, n_inputs]``. inside: the test points ``[n_test]`` on which no condition
    acts, a mask. coordinates: by name, of the training and the test points, ``[n_train]`` and
    ``[n_test]``. regions: by name ``"A -> B"``, masks of A ``[n_train]`` and of B ``[n_test]``.
    conditions: the loss terms that are conditions.
    """

    whole: ScoreMatrix
    parts: Mapping[str, ScoreMatrix]
    acting: Mapping[str, np.ndarray]
    train_x: np.ndarray
    test_x: np.ndarray
    inside: np.ndarray
    coordinates: Mapping[str, tuple[np.ndarray, np.ndarray]]
    regions: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        scores: Scores,
        quantity: str,
        center: tuple[float, ...] | None = None,
        sign: str = "removal",
        scale: str = "removal",
    ) -> Case:
        """One quantity of a score file.

        Coordinates are the inputs by name and, with a ``center``, ``radius``, the distance from it.
        Regions are the points on which conditions act and the others.

        Raises:
            KeyError: no such quantity. InputError: see ``factor_of``.
        """
        n_train, n_test = len(scores.train_x), len(scores.test_x)
        conditions = tuple(scores.groups.get("bcs", []))
        columns = {
            name: (scores.train_x[:, i], scores.test_x[:, i])
            for i, name in enumerate(scores.metadata["inputs"])
        }
        if center is not None:
            radii = (np.linalg.norm(x - np.array(center), axis=1) for x in _both(scores))
            columns["radius"] = (next(radii), next(radii))
        acting = {name: _mask(e.rows, n_train) for name, e in scores.train.items()}
        on_condition = _any([acting[name] for name in conditions], n_train)
        rows = [_mask(scores.test[name].rows, n_test) for name in conditions if name in scores.test]
        inside = ~_any(rows, n_test)
        return cls(
            scores.matrix(quantity, None, scale, sign),
            {name: scores.matrix(quantity, [name], scale, sign) for name in scores.terms},
            acting,
            scores.train_x,
            scores.test_x,
            inside,
            columns,
            {
                "conditions -> interior": (on_condition, inside),
                "interior -> interior": (~on_condition, inside),
            },
            conditions,
        )

    def uniform(self) -> Case:
        """The baseline: the same points, with ``|Inf| = 1`` wherever a term acts."""
        n_test, n_train = self.whole.shape
        ones = np.ones((n_test, 1), np.float32)
        parts = {
            name: FactoredMatrix(ones, mask[:, None].astype(np.float32))
            for name, mask in self.acting.items()
        }
        whole = FactoredMatrix(ones, np.ones((n_train, 1), np.float32))
        return replace(self, whole=whole, parts=parts)

    def blocks(self, matrix: ScoreMatrix | None = None) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Blocks ``[n, n_train]`` of all parts, or of a matrix, for some test points at a time."""
        matrices = list(self.parts.values()) if matrix is None else [matrix]
        n_test, n_train = self.whole.shape
        size = max(1, BLOCK_ELEMENTS // max(1, n_train * len(matrices)))
        for start in range(0, n_test, size):
            rows = slice(start, min(start + size, n_test))
            yield rows, [m[rows].astype(np.float64) for m in matrices]


def in_bins(
    values: np.ndarray, coordinate: np.ndarray, n_bins: int = N_BINS
) -> tuple[np.ndarray, np.ndarray]:
    """Means of values ``[n]`` in bins of equal width along a coordinate ``[n]``.

    Returns:
        The edges ``[n_bins + 1]``, and the means ``[n_bins]``, NaN where a bin is empty.
    """
    edges = np.linspace(coordinate.min(), coordinate.max(), n_bins + 1)
    number = np.clip(np.searchsorted(edges, coordinate, side="right") - 1, 0, n_bins - 1)
    known = np.isfinite(values)
    counts = np.bincount(number[known], minlength=n_bins)
    sums = np.bincount(number[known], values[known], minlength=n_bins)
    return edges, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _both(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return scores.train_x, scores.test_x


def _mask(rows: np.ndarray, n: int) -> np.ndarray:
    mask = np.zeros(n, bool)
    mask[rows] = True
    return mask


def _any(masks: list[np.ndarray], n: int) -> np.ndarray:
    found: np.ndarray = np.any([np.zeros(n, bool), *masks], axis=0)
    return found
