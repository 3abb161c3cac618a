"""Small score files of random numbers, which several tests share."""

import numpy as np
import pytest

from pinnfluence import Scores, load_scores
from pinnfluence.scores.embedding import Embedding

N_TEST, N_TRAIN, RANK = 23, 31, 4
TERMS = ("continuity", "momentum", "noslip")
OUTPUTS = ("u", "v", "p", "speed")
GROUPS = {"pde": ["continuity", "momentum"], "bcs": ["noslip"], "all": list(TERMS)}


def make_scores(seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)

    def embedding(rows: np.ndarray) -> Embedding:
        values = rng.standard_normal((len(rows), RANK)).astype(np.float32)
        return Embedding(values, rows.astype(np.int32))

    def everywhere(n: int) -> np.ndarray:
        return np.arange(n)

    train = {name: embedding(everywhere(N_TRAIN)) for name in TERMS[:2]}
    train["noslip"] = embedding(np.array([2, 3, 11, 30]))
    test = {name: embedding(everywhere(N_TEST)) for name in (*OUTPUTS, *TERMS[:2])}
    test["noslip"] = embedding(np.array([0, 7, 8]))
    metadata = {"terms": list(TERMS), "groups": GROUPS, "recipe": {"name": "paper", "rank": RANK}}
    train_x, test_x = (rng.random((n, 2)).astype(np.float32) for n in (N_TRAIN, N_TEST))
    return Scores(train_x, test_x, train, test, metadata, np.arange(4.0, 0, -1))


def one_line(path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_scores(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
