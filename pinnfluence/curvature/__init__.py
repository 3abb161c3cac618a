"""Curvature of the loss: matrices as operators, their eigenpairs, damping and inverses."""

from pinnfluence.curvature.operators import Curvature, GaussNewton, Hessian
from pinnfluence.curvature.recipe import GAUSS_NEWTON, PAPER, Recipe

__all__ = ["GAUSS_NEWTON", "PAPER", "Curvature", "GaussNewton", "Hessian", "Recipe"]
