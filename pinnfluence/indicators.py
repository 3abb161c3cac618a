"""Indicators of the paper: which share of the influence comes from upstream, and from an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pinnfluence.domain import Disk
from pinnfluence.scores.matrix import BLOCK_ELEMENTS, ScoreMatrix

OBJECT_RADII = 1.5
"""Radius of the region around an object, in radii of the object."""


@dataclass(frozen=True)
class PointIndicators:
    """Both indicators at every test point, shape ``[n_test]``, NaN where the influence is zero."""

    directional: np.ndarray
    object: np.ndarray


@dataclass(frozen=True)
class IndicatorRow:
    """Averages of one indicator for one model and quantity, each a share between 0 and 1.

    ``mean`` is over test points as in the paper, ``area_weighted`` over the domain; ``uniform``
    and ``uniform_area_weighted`` are what equal influence of all training points would give over
    the same ``n_points`` test points. ``n_zero`` test points have no influence and are left out.
    """

    model: str
    quantity: str
    indicator: str
    mean: float
    area_weighted: float
    uniform: float
    uniform_area_weighted: float
    n_points: int
    n_zero: int


def point_indicators(
    matrix: ScoreMatrix,
    train_x: np.ndarray,
    test_x: np.ndarray,
    region: Disk,
    direction: int = 0,
    n_rows: int | None = None,
) -> PointIndicators:
    """Both indicators at every test point, in one pass over the scores.

    With ``A_ij = |Inf(f(x_i); z_j)|`` (arXiv 2409.08958, section 3)::

        directional_i = sum_{j: x(z_j) < x(x_i)} A_ij / sum_j A_ij
        object_i      = sum_{j: z_j in region}   A_ij / sum_j A_ij

    Sign and scale of the scores do not matter. Products are float32, sums float64.

    Args:
        matrix: scores ``[n_test, n_train]`` of one quantity.
        train_x, test_x: points ``[n_train, 2]`` and ``[n_test, 2]`` of one dtype.
        region: the disc of the object indicator, for the paper 1.5 radii of the cylinder.
        direction: coordinate along which the flow runs.
        n_rows: test points held at a time; the result depends on it by rounding only.

    Example::

        values = point_indicators(scores["u"], train_x, test_x, Disk((0.2, 0.2), 0.075))
    """
    _check_shapes(matrix, train_x, test_x)
    by_x = np.argsort(train_x[:, direction], kind="stable")
    n_upstream = np.searchsorted(train_x[by_x, direction], test_x[:, direction], side="left")
    in_region = np.flatnonzero(region.contains(train_x[by_x]))
    order = np.argsort(n_upstream, kind="stable")
    sums = np.zeros((3, len(test_x)))
    for rows in _chunks(order, n_rows or max(1, BLOCK_ELEMENTS // max(1, len(train_x)))):
        block = np.abs(matrix[rows, by_x])
        sums[:, rows] = _block_sums(block, n_upstream[rows], in_region)
    upstream, inside, total = sums
    total = np.where(total > 0, total, np.nan)
    return PointIndicators(upstream / total, inside / total)


def directional_indicator(
    matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray, direction: int = 0
) -> np.ndarray:
    """Share ``[n_test]`` of |Inf| from training points with a strictly smaller x-coordinate."""
    nowhere = Disk((0.0, 0.0), -np.inf)
    return point_indicators(matrix, train_x, test_x, nowhere, direction).directional


def object_indicator(
    matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray, region: Disk
) -> np.ndarray:
    """Share ``[n_test]`` of |Inf| from training points in the region."""
    return point_indicators(matrix, train_x, test_x, region).object


def uniform_indicators(
    train_x: np.ndarray, test_x: np.ndarray, region: Disk, direction: int = 0
) -> PointIndicators:
    """The indicators that equal influence of all training points gives: shares of their number."""
    along = np.sort(train_x[:, direction])
    upstream = np.searchsorted(along, test_x[:, direction], side="left") / len(train_x)
    return PointIndicators(upstream, np.full(len(test_x), region.contains(train_x).mean()))


def average(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of ``values`` ``[n_test]``, with ``weights`` a weighted mean; NaN entries are left out.

    NaN if nothing is left or its weights add up to zero.
    """
    kept = ~np.isnan(values)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    total = weights[kept].sum()
    return float(values[kept] @ weights[kept] / total) if total > 0 else float("nan")


def summarise(
    values: PointIndicators, uniform: PointIndicators, area: np.ndarray, model: str, quantity: str
) -> list[IndicatorRow]:
    """Averages of the directional and of the object indicator, ``area`` ``[n_test]``."""
    rows = []
    for name in ("directional", "object"):
        value = getattr(values, name)
        baseline = np.where(np.isnan(value), np.nan, getattr(uniform, name))
        n_zero = int(np.isnan(value).sum())
        row = IndicatorRow(
            model=model,
            quantity=quantity,
            indicator=name,
            mean=average(value),
            area_weighted=average(value, area),
            uniform=average(baseline),
            uniform_area_weighted=average(baseline, area),
            n_points=len(value) - n_zero,
            n_zero=n_zero,
        )
        rows.append(row)
    return rows


def indicator_rows(
    scores: Mapping[str, ScoreMatrix],
    train_x: np.ndarray,
    test_x: np.ndarray,
    area: np.ndarray,
    region: Disk,
    model: str,
    quantities: Sequence[str],
) -> list[IndicatorRow]:
    """The paper's table for one model: two rows, directional and object, for each quantity.

    Args:
        scores: score matrices ``[n_test, n_train]`` by quantity, as ``load_scores`` gives them.
        train_x, test_x: their points ``[n_train, 2]`` and ``[n_test, 2]``.
        area: area ``[n_test]`` that each test point stands for.
        region: the disc of the object indicator.
        model: the model's name, for the table.
        quantities: keys of ``scores``; in the paper outputs, speed, and ``pde``, ``bcs``, ``all``.
    """
    uniform = uniform_indicators(train_x, test_x, region)
    rows = []
    for quantity in quantities:
        values = point_indicators(scores[quantity], train_x, test_x, region)
        rows += summarise(values, uniform, area, model, quantity)
    return rows


def _check_shapes(matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray) -> None:
    if matrix.shape != (len(test_x), len(train_x)):
        raise ValueError(
            f"scores must have shape [n_test, n_train] = [{len(test_x)}, {len(train_x)}], "
            f"found {list(matrix.shape)}; pass the points of the same score file"
        )


def _chunks(order: np.ndarray, n_rows: int) -> list[np.ndarray]:
    return [order[start : start + n_rows] for start in range(0, len(order), n_rows)]


def _block_sums(block: np.ndarray, n_upstream: np.ndarray, in_region: np.ndarray) -> np.ndarray:
    """Sums over the first ``n_upstream`` columns, the columns in the region, and all columns.

    Rows come in the order of ``n_upstream``, so only the few columns between the first row's and
    the last row's count need a mask.
    """
    first, last = n_upstream[0], n_upstream[-1]
    before = block[:, :first].sum(1, dtype=np.float64)
    between = block[:, first:last]
    is_upstream = np.arange(first, last) < n_upstream[:, None]
    after = block[:, last:].sum(1, dtype=np.float64)
    upstream = before + between.sum(1, dtype=np.float64, where=is_upstream)
    total = before + between.sum(1, dtype=np.float64) + after
    return np.stack([upstream, block[:, in_region].sum(1, dtype=np.float64), total])
