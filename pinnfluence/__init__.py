"""Influence functions for physics-informed neural networks.

>>> import pinnfluence
>>> model = pinnfluence.load_model("model_zoo/good")                              # doctest: +SKIP
>>> influence = pinnfluence.Influence(model.pinn, model.train_x)                  # doctest: +SKIP
>>> scores = influence.influence(test_x)                                          # doctest: +SKIP
>>> scores["speed"][0]   # of all training points, at the first test point  # doctest: +SKIP
"""

import os
from typing import Any

os.environ["DDE_BACKEND"] = "pytorch"

from pinnfluence.curvature.recipe import GAUSS_NEWTON, PAPER, Recipe
from pinnfluence.errors import InputError
from pinnfluence.field.field import Field
from pinnfluence.field.network import MLP
from pinnfluence.influence import Influence
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.trained_model import TrainedModel, load_model
from pinnfluence.problem.problem import Equation, Problem
from pinnfluence.scores.file import Scores, load_scores

__all__ = [
    "GAUSS_NEWTON",
    "MLP",
    "PAPER",
    "Equation",
    "Field",
    "Influence",
    "InputError",
    "Pinn",
    "Problem",
    "Recipe",
    "Scores",
    "TrainedModel",
    "from_deepxde",
    "load_model",
    "load_scores",
]


def __getattr__(name: str) -> Any:
    """``from_deepxde`` on demand: DeepXDE takes seconds to import."""
    if name == "from_deepxde":
        from pinnfluence.models.deepxde.reader import from_deepxde

        return from_deepxde
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
