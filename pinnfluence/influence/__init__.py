"""The influence engine: from a trained network and its points to scores."""

from pinnfluence.influence.engine import Influence

__all__ = ["Influence"]
