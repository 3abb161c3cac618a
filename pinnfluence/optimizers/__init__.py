"""Optimisers for models of DeepXDE.

>>> import pinnfluence
>>> pinnfluence.optimizers.LevenbergMarquardt(model).train(iterations=300)        # doctest: +SKIP
"""

from pinnfluence.optimizers.levenberg_marquardt import LevenbergMarquardt

__all__ = ["LevenbergMarquardt"]
