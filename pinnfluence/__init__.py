"""Influence functions for physics-informed neural networks.

>>> import pinnfluence
>>> model = pinnfluence.load_model("model_zoo/good")                              # doctest: +SKIP
>>> influence = pinnfluence.Influence(model.pinn, model.train_x)                  # doctest: +SKIP
>>> scores = influence.influence(test_x)                                          # doctest: +SKIP
>>> scores["speed"][0]   # of all training points, at the first test point  # doctest: +SKIP
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

os.environ["DDE_BACKEND"] = "pytorch"

if TYPE_CHECKING:
    from pinnfluence import optimizers
    from pinnfluence.curvature.recipe import GAUSS_NEWTON, PAPER, Recipe
    from pinnfluence.diagnosis import diagnose
    from pinnfluence.diagnosis.arrays import from_arrays
    from pinnfluence.errors import InputError
    from pinnfluence.field.field import Field
    from pinnfluence.field.network import MLP
    from pinnfluence.influence import Influence
    from pinnfluence.loss.pinn import Pinn
    from pinnfluence.models.deepxde.reader import from_deepxde
    from pinnfluence.models.pina import from_pina
    from pinnfluence.models.plain_torch import torch_model
    from pinnfluence.models.trained_model import TrainedModel, load_model
    from pinnfluence.problem.equation import Equation
    from pinnfluence.problem.problem import Problem
    from pinnfluence.samplers.callback import InfluenceSampler, PointSampler
    from pinnfluence.scores.file import Scores, load_scores

_MODULES = {
    "GAUSS_NEWTON": "curvature.recipe",
    "MLP": "field.network",
    "PAPER": "curvature.recipe",
    "Equation": "problem.equation",
    "Field": "field.field",
    "Influence": "influence",
    "InfluenceSampler": "samplers.callback",
    "InputError": "errors",
    "Pinn": "loss.pinn",
    "PointSampler": "samplers.callback",
    "Problem": "problem.problem",
    "Recipe": "curvature.recipe",
    "Scores": "scores.file",
    "TrainedModel": "models.trained_model",
    "from_arrays": "diagnosis.arrays",
    "from_deepxde": "models.deepxde.reader",
    "from_pina": "models.pina",
    "load_model": "models.trained_model",
    "load_scores": "scores.file",
    "torch_model": "models.plain_torch",
    "diagnose": "diagnosis",
}
"""Where each name of the package is defined."""

__all__ = [
    "GAUSS_NEWTON",
    "MLP",
    "PAPER",
    "Equation",
    "Field",
    "Influence",
    "InfluenceSampler",
    "InputError",
    "Pinn",
    "PointSampler",
    "Problem",
    "Recipe",
    "Scores",
    "TrainedModel",
    "diagnose",
    "from_arrays",
    "from_deepxde",
    "from_pina",
    "load_model",
    "load_scores",
    "optimizers",
    "torch_model",
]


def __getattr__(name: str) -> Any:
    """Import on demand: PyTorch takes seconds, and so does DeepXDE."""
    if name == "optimizers":
        return import_module(f"{__name__}.optimizers")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
