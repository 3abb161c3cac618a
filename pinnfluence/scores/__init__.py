"""Influence scores: the score file, and matrices that are computed block by block."""

from pinnfluence.scores.dense import DenseScores
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores, load_scores
from pinnfluence.scores.matrix import ScoreMatrix

__all__ = ["DenseScores", "Embedding", "ScoreMatrix", "Scores", "load_scores"]
