"""How much of score files a page has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pinnfluence.explorer.sources import Source

FILE_BYTES = 25_000_000
"""A page of several models stays below this."""

HALF_BYTES, NARROW_BYTES = 2.45, 1.2
"""Of a number of an embedding in the page, all else included: as float16, and in 8 bits.

2.44 and 1.15 were measured.
"""

LEAST_POINTS = 1500
"""No fewer test points than these, unless the file has fewer, so that the page stays small."""

LEAST_RANK = 16
"""And no fewer factors than these, whatever the size."""


@dataclass(frozen=True)
class Size:
    """How much of each model is in a page: at most so many test points and factors.

    narrow: whether embeddings have 8 bits a number instead of 16.
    """

    n_test: int
    rank: int
    narrow: bool


def affordable(sources: Sequence[Source], n_test: int, rank: int | None) -> Size:
    """What of ``n_test`` test points and of all factors, or ``rank``, a page of 25 MB has room for.

    Factors that are left out cost more than anything else. So first there are fewer test points,
    down to ``LEAST_POINTS``; then 8 bits a number; then fewer factors.
    """
    whole = max(source.scores.rank for source in sources)
    whole = whole if rank is None else min(whole, rank)
    n_least = min(n_test, LEAST_POINTS)
    for width in (HALF_BYTES, NARROW_BYTES):
        room = FILE_BYTES / width
        if numbers(sources, n_least, whole) <= room:
            fixed = numbers(sources, 0, whole)
            growing = (numbers(sources, n_least, whole) - fixed) / n_least
            n = int((room - fixed) / growing) if growing else n_test
            return Size(min(n_test, max(n, n_least)), whole, width == NARROW_BYTES)
    factors = int(whole * room / numbers(sources, n_least, whole))
    return Size(n_least, min(whole, max(factors, LEAST_RANK)), True)


def numbers(sources: Sequence[Source], n_test: int, rank: int) -> int:
    """In the embeddings of all models."""
    total = 0
    for source in sources:
        scores = source.scores
        derived = set(source.fields) - set(source.outputs)
        rows = [len(e.rows) for e in scores.train.values()]
        rows += [min(len(e.rows), n_test) for k, e in scores.test.items() if k not in derived]
        total += min(rank, scores.rank) * sum(rows)
    return total
