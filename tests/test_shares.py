"""Shares of influence by each kind of selection against a loop over pairs of points."""

import numpy as np
import pytest

from pinnfluence.scores.matrix import FactoredMatrix
from pinnfluence.scores.shares import Below, Fixed, Pairs, Selection, shares, uniform_shares

N_TEST, N_TRAIN = 23, 17
RNG = np.random.default_rng(0)
NUMBERS = [(RNG.integers(0, 9, N_TRAIN), RNG.integers(0, 9, N_TEST)) for _ in range(2)]
MATRIX = FactoredMatrix(*(RNG.standard_normal((n, 3)).astype("f4") for n in (N_TEST, N_TRAIN)))

SELECTIONS: dict[str, Selection] = {
    "fixed": Fixed(np.arange(N_TRAIN) % 3 == 0),
    "below": Below(*NUMBERS[0]),
    "pairs": Pairs(lambda rows: np.abs(rows[:, None] - np.arange(N_TRAIN)) <= 4),
    "below again": Below(*NUMBERS[1]),
    "nothing": Fixed(np.zeros(N_TRAIN, bool)),
}
COUNTS = {
    "fixed": lambda i, j: j % 3 == 0,
    "below": lambda i, j: NUMBERS[0][0][j] < NUMBERS[0][1][i],
    "pairs": lambda i, j: abs(i - j) <= 4,
    "below again": lambda i, j: NUMBERS[1][0][j] < NUMBERS[1][1][i],
    "nothing": lambda i, j: False,
}


def by_loop(name: str, A: np.ndarray) -> list[float]:
    count = COUNTS[name]
    parts = [sum(A[i, j] for j in range(N_TRAIN) if count(i, j)) for i in range(N_TEST)]
    return [part / A[i].sum() for i, part in enumerate(parts)]


@pytest.mark.parametrize("n_rows", [None, 1, 5])
@pytest.mark.parametrize(
    "names", [tuple(SELECTIONS), ("below again", "below"), ("pairs", "fixed"), ("fixed",)]
)
def test_together_and_alone(names, n_rows):
    """Sorted by the first one with numbers, by a later one, or by none."""
    found = shares(MATRIX, {name: SELECTIONS[name] for name in names}, n_rows)
    assert tuple(found) == names
    for name in names:
        expected = by_loop(name, np.abs(np.asarray(MATRIX, dtype=float)))
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def test_uniform():
    found = uniform_shares(SELECTIONS, N_TEST, N_TRAIN)
    for name in SELECTIONS:
        np.testing.assert_allclose(found[name], by_loop(name, np.ones(MATRIX.shape)), rtol=1e-12)
