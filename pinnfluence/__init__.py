"""Influence functions for physics-informed neural networks.

>>> import pinnfluence
>>> model = pinnfluence.load_model("model_zoo/good")                              # doctest: +SKIP
>>> influence = pinnfluence.Influence(model.pinn, model.train_x)                  # doctest: +SKIP
>>> scores = influence.influence(test_x)                                          # doctest: +SKIP
>>> scores["speed"][0]   # of all training points, at the first test point  # doctest: +SKIP
"""

import os

os.environ["DDE_BACKEND"] = "pytorch"

from pinnfluence.errors import InputError
from pinnfluence.field import Field
from pinnfluence.influence import PAPER, Influence, Recipe
from pinnfluence.network import MLP
from pinnfluence.problem import Equation, Problem
from pinnfluence.scores import Scores, load_scores
from pinnfluence.terms import Pinn
from pinnfluence.trained_model import TrainedModel, load_model

__all__ = [
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
    "load_model",
    "load_scores",
]
