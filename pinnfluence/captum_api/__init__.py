"""A drop-in for ``captum.influence.NaiveInfluenceFunction``, for any PyTorch model and loss."""

from pinnfluence.captum_api.naive import KMostInfluentialResults, NaiveInfluenceFunction

__all__ = ["KMostInfluentialResults", "NaiveInfluenceFunction"]
