"""Figures: fields and errors, influence, the course of a training, tables."""

from pinnfluence.plots.drawing import common_limits, preview, save, symmetric_limits
from pinnfluence.plots.fields import (
    comparison_figure,
    error_figure,
    error_limits_of,
    fields_figure,
    loss_figure,
    loss_limits,
)
from pinnfluence.plots.history import history_figure
from pinnfluence.plots.influence import (
    decades_of,
    influence_figure,
    nearest_point,
    training_influence_figure,
)

__all__ = [
    "common_limits",
    "comparison_figure",
    "decades_of",
    "error_figure",
    "error_limits_of",
    "fields_figure",
    "history_figure",
    "influence_figure",
    "loss_figure",
    "loss_limits",
    "nearest_point",
    "preview",
    "save",
    "symmetric_limits",
    "training_influence_figure",
]
