"""Recipes and a small flow for scores with all eigenvectors."""

import numpy as np
from brute_force import TERMS

from pinnfluence import Pinn
from pinnfluence.curvature.recipe import recipe_of

LAYERS = (2, 6, 5, 3)
DAMPING = 1e-3
C = dict(zip(TERMS, np.linspace(0.5, 3.0, len(TERMS)), strict=True))


def recipe(**changes):
    return recipe_of("gauss-newton", **({"damping": DAMPING} | changes))


def weighted_flow(flow_pinn, flow_points):
    """40 points of many residuals for 80 parameters; loss weights as DeepXDE has them."""
    pinn = flow_pinn(LAYERS)
    weighted = Pinn(
        pinn.network, pinn.inputs, pinn.outputs, pinn.equations, pinn.quantities, loss_weights=C
    )
    return weighted, flow_points(30), flow_points(40, 1)
