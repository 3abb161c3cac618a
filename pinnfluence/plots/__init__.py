"""Figures: fields and errors, influence, the course of a training, tables."""

from pinnfluence.plots.drawing import preview, save
from pinnfluence.plots.fields import comparison_figure, error_figure, fields_figure, loss_figure
from pinnfluence.plots.history import history_figure
from pinnfluence.plots.influence import influence_figure, nearest_point, training_influence_figure

__all__ = [
    "comparison_figure",
    "error_figure",
    "fields_figure",
    "history_figure",
    "influence_figure",
    "loss_figure",
    "nearest_point",
    "preview",
    "save",
    "training_influence_figure",
]
