"""Indicators: numbers that sum up where influence comes from.

``shares_of_points`` has those of the first paper, drawn in the tables of the flow; ``by_term`` and
``by_place`` those of the second, which are asked for by ``readings``.
"""

from pinnfluence.scores.indicators.by_place import (
    direction,
    proximity,
    region_ratio,
    self_influence,
)
from pinnfluence.scores.indicators.by_term import (
    cancellation,
    loss_fraction,
    loss_fraction_of_points,
)
from pinnfluence.scores.indicators.case import Case, in_bins
from pinnfluence.scores.indicators.reading import READINGS, Reading, readings
from pinnfluence.scores.indicators.shares_of_points import (
    INDICATORS,
    OBJECT_RADII,
    Indicator,
    IndicatorRow,
    Places,
    average,
    directional_indicator,
    indicator,
    indicator_rows,
    object_indicator,
    point_indicators,
    summarise,
    uniform_indicators,
)

__all__ = [
    "INDICATORS",
    "OBJECT_RADII",
    "READINGS",
    "Case",
    "Indicator",
    "IndicatorRow",
    "Places",
    "Reading",
    "average",
    "cancellation",
    "direction",
    "directional_indicator",
    "in_bins",
    "indicator",
    "indicator_rows",
    "loss_fraction",
    "loss_fraction_of_points",
    "object_indicator",
    "point_indicators",
    "proximity",
    "readings",
    "region_ratio",
    "self_influence",
    "summarise",
    "uniform_indicators",
]
