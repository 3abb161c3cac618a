"""Figures: fields and errors, influence, the course of a training, tables."""

from pinnfluence.plots.drawing import common_limits, symmetric_limits
from pinnfluence.plots.fields import (
    comparison_figure,
    error_figure,
    error_limits_of,
    fields_figure,
    loss_figure,
    loss_limits,
)
from pinnfluence.plots.history import histories_figure, history_figure
from pinnfluence.plots.influence import (
    decades_of,
    influence_figure,
    nearest_point,
    training_influence_figure,
)
from pinnfluence.plots.overview import (
    Effect,
    errors_overview,
    fields_overview,
    influence_overview,
    loss_overview,
)
from pinnfluence.plots.style import preview, save

__all__ = [
    "Effect",
    "common_limits",
    "comparison_figure",
    "decades_of",
    "error_figure",
    "error_limits_of",
    "errors_overview",
    "fields_figure",
    "fields_overview",
    "histories_figure",
    "history_figure",
    "influence_figure",
    "influence_overview",
    "loss_figure",
    "loss_limits",
    "loss_overview",
    "nearest_point",
    "preview",
    "save",
    "symmetric_limits",
    "training_influence_figure",
]
