"""What Influence takes, what it refuses, and what it computes once."""

import copy
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from captum.influence import DataInfluence

from pinnfluence import Influence, InputError, Recipe
from pinnfluence.curvature.operators import OPERATORS
from pinnfluence.influence import fit
from pinnfluence.runtime.progress import Stages

LAYERS = (2, 6, 5, 3)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return flow_pinn(LAYERS), flow_points(10), flow_points(0, 1)[:20]


def test_is_a_captum_data_influence(case):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=3))
    assert isinstance(influence, DataInfluence)
    assert influence.model.state_dict().keys() == pinn.network.state_dict().keys()
    assert len(influence.train_dataset) == len(train_x)
    scores = influence.influence(inputs=test_x)
    assert scores["u"].shape == (len(test_x), len(train_x))


def test_curvature_is_computed_once(case, monkeypatch):
    pinn, train_x, test_x = case
    counter = Mock(wraps=fit.invert)
    monkeypatch.setattr(fit, "invert", counter)
    influence = Influence(pinn, train_x, Recipe(rank=3))
    for _ in range(2):
        influence.influence(test_x[:2])
    assert counter.call_count == 1


def test_stages_count_what_they_announce(case):
    class Counting(Stages):
        def __init__(self):
            super().__init__()
            self.announced, self.counted = {}, {}

        def _counter(self, name, total):
            self.announced[name], self.counted[name] = total, []
            return nullcontext(self.counted[name].append)

    pinn, train_x, test_x = case
    stages = Counting()
    Influence(pinn, train_x, Recipe(rank=3), 7, stages).influence(test_x)
    assert list(stages.seconds) == ["eigenpairs", "training points", "test points"]
    for name in ("training points", "test points"):
        assert stages.announced[name] == sum(stages.counted[name]) > 0


@pytest.mark.parametrize("batch_size", [0, -3, 41])
def test_batch_size_out_of_range(case, batch_size):
    pinn, train_x, _ = case
    with pytest.raises(InputError, match=f"from 1 to the 40 training points, found {batch_size}"):
        Influence(pinn, train_x, batch_size=batch_size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :1], r"of shape \[n, 2\], found \(\d+, 1\)"),
        (lambda x: x[0], r"of shape \[n, 2\], found \(2,\)"),
        (lambda x: np.c_[x, x], r"of shape \[n, 2\], found \(\d+, 4\)"),
        (lambda x: x + 1j, "of real numbers, found complex"),
        (lambda x: x.astype(object), "of real numbers, found object"),
        (lambda x: x * [np.nan, 1], "points are NaN or infinite, the first is row 0"),
    ],
)
def test_what_are_no_points(case, change, message):
    pinn, train_x, test_x = case
    influence = Influence(pinn, train_x, Recipe(rank=3))
    bad = change(test_x)
    with pytest.raises(InputError, match=f"test points.*{message}|test {message}"):
        influence.influence(bad)
    with pytest.raises(InputError, match=message):
        influence.scores(bad, "u")
    with pytest.raises(InputError, match=message):
        influence.scores_by_quantity(bad)
    with pytest.raises(InputError, match=message):
        Influence(pinn, change(train_x), Recipe(rank=3))


def test_no_test_points(case):
    pinn, train_x, test_x = case
    with pytest.raises(InputError, match="no test points, expected at least one"):
        Influence(pinn, train_x, Recipe(rank=3)).influence(test_x[:0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": True}, "at least 1 or full, found True"),
        ({"rank": 2.5}, "at least 1 or full, found 2.5"),
        ({"rank": "half"}, "at least 1 or full, found half"),
        ({"damping": -1.0}, "damping must be a number of at least 0 or auto, found -1"),
        ({"damping": float("nan")}, "damping must be a number"),
        ({"damping": "none"}, "at least 0 or auto, found none"),
        ({"threshold": -1.0}, "threshold must be a number of at least 0, found -1"),
        ({"curvature": "best"}, f"expected curvature {' or '.join(OPERATORS)}, found best"),
        (
            {"leverage": True},
            "leverage needs curvature gauss-newton at rank full, found hessian at",
        ),
        ({"curvature": "gauss-newton", "leverage": True}, "found gauss-newton at rank 50"),
        ({"weighting": "none"}, "expected weighting uniform or training, found none"),
    ],
)
def test_bad_recipe(settings, message):
    with pytest.raises(InputError, match=message):
        Recipe(**settings)


def test_no_eigenvalue_above_the_threshold(case):
    pinn, train_x, test_x = case
    with pytest.raises(InputError, match=r"no eigenvalue of the curvature exceeds 1e\+09"):
        Influence(pinn, train_x, Recipe(rank=3, threshold=1e9)).influence(test_x)


def test_training_on_does_not_change_what_was_taken(case):
    pinn, train_x, test_x = case
    pinn = replace(pinn, network=copy.deepcopy(pinn.network))
    influence = Influence(pinn, train_x, Recipe(rank=3))
    before = np.asarray(influence.influence(test_x)["u"])
    with torch.no_grad():
        for p in pinn.network.parameters():
            p.mul_(1.5)
    np.testing.assert_array_equal(np.asarray(influence.influence(test_x)["u"]), before)


def test_unknown_arguments_are_refused(case):
    pinn, train_x, test_x = case
    with pytest.raises(TypeError, match="takes no k, proponents"):
        Influence(pinn, train_x).influence(test_x, k=3, proponents=True)
