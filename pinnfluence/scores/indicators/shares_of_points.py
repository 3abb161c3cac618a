"""Indicators: which share of the influence comes from upstream, from an object, ...

The paper has the first two. A new one is one more function here, with ``@indicator``: it is then in
``indicator_rows``, the CSV and the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pinnfluence.problem.domain import Disk
from pinnfluence.scores.matrix import ScoreMatrix
from pinnfluence.scores.shares import Below, Fixed, Selection, shares, uniform_shares

OBJECT_RADII = 1.5
"""Radius of the region around an object, in radii of the object."""


@dataclass(frozen=True)
class Places:
    """What an indicator may look at.

    train_x, test_x: points ``[n_train, d]`` and ``[n_test, d]`` of one dtype. region: the disc of
    an object, for the paper 1.5 radii of the cylinder; None without an object. Its centre may have
    fewer coordinates than the points, of which the first then count: at all times, say.
    direction: coordinate along which the flow runs.
    """

    train_x: np.ndarray
    test_x: np.ndarray
    region: Disk | None
    direction: int = 0


Select = Callable[[Places], Selection | None]


@dataclass(frozen=True)
class Indicator:
    """The share of |Inf| at a test point that comes from the training points that count for it.

    about: which ones, for the reader of a table. selection: the same as a function of the places;
    None where it does not apply.
    """

    about: str
    selection: Select


S = TypeVar("S", bound=Select)

INDICATORS: dict[str, Indicator] = {}
"""All indicators by name, in the order of this file."""


def indicator(name: str, about: str) -> Callable[[S], S]:
    """Register a function from ``Places`` to the training points that count: see ``shares``."""

    def register(selection: S) -> S:
        INDICATORS[name] = Indicator(about, selection)
        return selection

    return register


@indicator("directional", "training points upstream of the test point")
def upstream(places: Places) -> Selection:
    """Training points with a strictly smaller x-coordinate."""
    x = places.direction
    return Below(places.train_x[:, x], places.test_x[:, x])


@indicator("object", "training points around the object")
def around_object(places: Places) -> Selection | None:
    """Training points in the region, its rim included."""
    if places.region is None:
        return None
    return Fixed(places.region.contains(places.train_x[:, : len(places.region.center)]))


@dataclass(frozen=True)
class IndicatorRow:
    """Averages of one indicator for one model and quantity, each a share between 0 and 1.

    ``mean`` is over test points as in the paper, ``area_weighted`` over the domain; ``uniform``
    and ``uniform_area_weighted`` are what equal influence of all training points would give over
    the same ``n_points`` test points. ``n_zero`` test points have no influence and are left out.
    ``lower`` and ``upper`` are the quartiles over test points. ``recipe``: by which the scores were
    made.
    """

    model: str
    recipe: str
    quantity: str
    indicator: str
    mean: float
    area_weighted: float
    uniform: float
    uniform_area_weighted: float
    lower: float
    upper: float
    n_points: int
    n_zero: int


def point_indicators(
    matrix: ScoreMatrix,
    train_x: np.ndarray,
    test_x: np.ndarray,
    region: Disk | None,
    direction: int = 0,
    n_rows: int | None = None,
) -> dict[str, np.ndarray]:
    """All indicators at every test point by name, ``[n_test]``, in one pass over the scores.

    With ``A_ij = |Inf(f(x_i); z_j)|`` (arXiv 2409.08958, section 3)::

        directional_i = sum_{j: x(z_j) < x(x_i)} A_ij / sum_j A_ij
        object_i      = sum_{j: z_j in region}   A_ij / sum_j A_ij

    and so on, NaN where the influence is zero. Sign and scale of the scores do not matter.
    Products are float32, sums float64.

    Args:
        matrix: scores ``[n_test, n_train]`` of one quantity.
        train_x, test_x, region, direction: see ``Places``.
        n_rows: test points held at a time; the result depends on it by rounding only.

    Raises:
        ValueError: points of another score file.

    Example::

        values = point_indicators(scores["u"], train_x, test_x, Disk((0.2, 0.2), 0.075))
        values["directional"]
    """
    _check_shapes(matrix, train_x, test_x)
    return shares(matrix, _selections(Places(train_x, test_x, region, direction)), n_rows)


def directional_indicator(
    matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray, direction: int = 0
) -> np.ndarray:
    """Share ``[n_test]`` of |Inf| from training points with a strictly smaller x-coordinate."""
    _check_shapes(matrix, train_x, test_x)
    places = Places(train_x, test_x, None, direction)
    return shares(matrix, {"directional": upstream(places)})["directional"]


def object_indicator(
    matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray, region: Disk
) -> np.ndarray:
    """Share ``[n_test]`` of |Inf| from training points in the region."""
    return point_indicators(matrix, train_x, test_x, region)["object"]


def uniform_indicators(
    train_x: np.ndarray, test_x: np.ndarray, region: Disk | None, direction: int = 0
) -> dict[str, np.ndarray]:
    """The indicators that equal influence of all training points gives: shares of their number."""
    selections = _selections(Places(train_x, test_x, region, direction))
    return uniform_shares(selections, len(test_x), len(train_x))


def average(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean of ``values`` ``[n_test]``, with ``weights`` a weighted mean; NaN entries are left out.

    NaN if nothing is left or its weights add up to zero.
    """
    kept = ~np.isnan(values)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    total = weights[kept].sum()
    return float(values[kept] @ weights[kept] / total) if total > 0 else float("nan")


def summarise(
    values: Mapping[str, np.ndarray],
    uniform: Mapping[str, np.ndarray],
    area: np.ndarray,
    model: str,
    recipe: str,
    quantity: str,
) -> list[IndicatorRow]:
    """Averages of each indicator, of ``values`` ``[n_test]`` by name, and ``area`` ``[n_test]``."""
    rows = []
    for name, value in values.items():
        baseline = np.where(np.isnan(value), np.nan, uniform[name])
        known = value[~np.isnan(value)]
        lower, upper = np.quantile(known, (0.25, 0.75)) if known.size else (np.nan, np.nan)
        row = IndicatorRow(
            model=model,
            recipe=recipe,
            quantity=quantity,
            indicator=name,
            mean=average(value),
            area_weighted=average(value, area),
            uniform=average(baseline),
            uniform_area_weighted=average(baseline, area),
            lower=float(lower),
            upper=float(upper),
            n_points=known.size,
            n_zero=len(value) - known.size,
        )
        rows.append(row)
    return rows


def indicator_rows(
    scores: Mapping[str, ScoreMatrix],
    train_x: np.ndarray,
    test_x: np.ndarray,
    area: np.ndarray,
    region: Disk | None,
    model: str,
    quantities: Sequence[str],
    recipe: str,
) -> list[IndicatorRow]:
    """The paper's table for one model: for each quantity a row an indicator.

    Args:
        scores: score matrices ``[n_test, n_train]`` by quantity, as ``load_scores`` gives them.
        train_x, test_x: their points ``[n_train, d]`` and ``[n_test, d]``.
        area: area ``[n_test]`` that each test point stands for.
        region: the disc of the object indicator; None leaves it out.
        model: the model's name, for the table.
        quantities: keys of ``scores``; in the paper outputs, speed, and ``pde``, ``bcs``, ``all``.
        recipe: the name of the recipe that made the scores.
    """
    uniform = uniform_indicators(train_x, test_x, region)
    rows = []
    for quantity in quantities:
        values = point_indicators(scores[quantity], train_x, test_x, region)
        rows += summarise(values, uniform, area, model, recipe, quantity)
    return rows


def _selections(places: Places) -> dict[str, Selection]:
    chosen = {name: one.selection(places) for name, one in INDICATORS.items()}
    return {name: selection for name, selection in chosen.items() if selection is not None}


def _check_shapes(matrix: ScoreMatrix, train_x: np.ndarray, test_x: np.ndarray) -> None:
    if matrix.shape != (len(test_x), len(train_x)):
        raise ValueError(
            f"scores must have shape [n_test, n_train] = [{len(test_x)}, {len(train_x)}], "
            f"found {list(matrix.shape)}; pass the points of the same score file"
        )
