"""Exact scores of sampled test points with all training points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from pinnfluence.curvature.gram import BLOCK_BYTES
from pinnfluence.curvature.inverse import Inverse
from pinnfluence.errors import InputError
from pinnfluence.influence.training_gradients import (
    TrainingGradients,
    test_gradients,
    training_scores,
)
from pinnfluence.loss.pinn import Pinn

LEAST_POINTS = 16
"""Sampled points whose gradients are made at a time, at least; of small networks more."""


@dataclass(frozen=True)
class ExactScores:
    """Exact scores of single test rows: a quantity at one of the sampled points.

    scores: ``[n_rows, k]``, training rows (see ``TrainingGradients``) by test rows.
    rows: for each quantity its points (numbers in the sample) and its columns of ``scores``.
    """

    scores: np.ndarray
    rows: dict[str, tuple[np.ndarray, np.ndarray]]
    n_points: int

    def incidence(self, terms: list[str]) -> csr_array:
        """Sums of terms at a point as a matrix ``[k, n]``; n points at which one of them acts."""
        points = np.concatenate([self.rows[term][0] for term in terms])
        columns = np.concatenate([self.rows[term][1] for term in terms])
        _, number = np.unique(points, return_inverse=True)
        shape = (self.scores.shape[1], number.max(initial=-1) + 1)
        return csr_array((np.ones(len(points)), (columns, number)), shape=shape)

    def sizes(self) -> np.ndarray:
        """Root mean square of the scores of each row's quantity, ``[k]``; 1 where it is 0."""
        sizes = np.ones(self.scores.shape[1])
        for _, columns in self.rows.values():
            if len(columns):
                squares = np.square(self.scores[:, columns], dtype=np.float64)
                sizes[columns] = np.sqrt(squares.mean()) or 1.0
        return sizes

    def balanced(self) -> np.ndarray:
        """The scores over the sizes, float32 ``[n_rows, k]``."""
        return (self.scores / self.sizes()).astype(np.float32)


def exact_scores(
    samples: list[np.ndarray], inverse: Inverse, pinn: Pinn, train: TrainingGradients
) -> list[ExactScores]:
    """Exact scores ``G_f (M + damping I)^-1 G_train^T`` of samples of points, in one pass.

    Raises:
        InputError: NaN or infinite scores.
    """
    rows: list[dict[str, list[tuple[np.ndarray, np.ndarray]]]] = [{} for _ in samples]
    ends = [0]

    def columns() -> Iterator[np.ndarray]:
        n_points = max(LEAST_POINTS, BLOCK_BYTES // (8 * pinn.n_params))
        for x, of_sample in zip(samples, rows, strict=True):
            end = 0
            for start in range(0, len(x), n_points):
                block = x[start : start + n_points]
                for name, (points, G) in test_gradients(pinn, block, train.executor).items():
                    here = np.arange(end, end + len(G))
                    of_sample.setdefault(name, []).append((start + points, here))
                    end += len(G)
                    yield G.T
            ends.append(ends[-1] + end)

    product = training_scores(train, inverse, columns())
    if not np.isfinite(product).all():
        n_wrong = int((~np.isfinite(product).all(0)).sum())
        raise InputError(
            f"{n_wrong} of {product.shape[1]} quantities at sampled test points have NaN or "
            "infinite scores: check the points, or give a larger --damping"
        )
    results = []
    for number, of_sample in enumerate(rows):
        joined = {
            name: (np.concatenate([p for p, _ in parts]), np.concatenate([c for _, c in parts]))
            for name, parts in of_sample.items()
        }
        scores = product[:, ends[number] : ends[number + 1]]
        results.append(ExactScores(scores, joined, len(samples[number])))
    return results
