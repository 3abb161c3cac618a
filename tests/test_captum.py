"""Influence against captum's own ``NaiveInfluenceFunction``, which inverts a dense Hessian."""

import numpy as np
import pytest
import torch
from brute_force import FlowColumns
from captum.influence import NaiveInfluenceFunction
from torch import Tensor
from torch.utils.data import TensorDataset

from pinnfluence import Influence, Pinn, Recipe
from pinnfluence.curvature import lanczos

RANK = 20
COLUMNS = FlowColumns.columns
TERMS = COLUMNS[4:]
QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")
LIMIT = 1e-4
"""Largest difference of two scores, relative to the largest score of the quantity."""


class Loss:
    """A quantity of each point, in the form of a loss without reduction."""

    reduction = "none"

    def __init__(self, quantity: str) -> None:
        self.quantity = quantity

    def __call__(self, outputs: Tensor, _: Tensor) -> Tensor:
        terms = {"pde": TERMS[:3], "bcs": TERMS[3:], "all": TERMS}.get(self.quantity)
        if terms is None and self.quantity not in TERMS:
            return outputs[:, COLUMNS.index(self.quantity)]
        chosen = [COLUMNS.index(name) for name in terms or [self.quantity]]
        return outputs[:, chosen].square().sum(1)


def captum_scores(pinn: Pinn, train_x: np.ndarray, test_x: np.ndarray) -> dict[str, np.ndarray]:
    """Scores ``[n_test, n_train]`` with the paper's settings, by quantity and by loss term."""
    train, test = (torch.as_tensor(x).double() for x in (train_x, test_x))
    captum = NaiveInfluenceFunction(
        FlowColumns(pinn.network),
        TensorDataset(train, torch.zeros(len(train))),
        checkpoint="",
        checkpoints_load_func=lambda *_: 1.0,
        loss_fn=Loss("all"),
        test_loss_fn=Loss("all"),
        batch_size=32,
        projection_dim=RANK,
        hessian_reg=1e-6,
        hessian_inverse_tol=1e-5,
        show_progress=False,
    )
    scores = {}
    for quantity in (*QUANTITIES, *TERMS):
        captum.test_loss_fn = Loss(quantity)
        scores[quantity] = captum.influence((test, torch.zeros(len(test)))).numpy()
    return scores


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    pinn, train_x, test_x = flow_pinn((2, 8, 8, 3)), flow_points(30), flow_points(0, 1)[:25]
    for x in (train_x, test_x):  # every kind of boundary is there
        assert all(len(rows) for rows in pinn.at(x).term_rows().values())
    return pinn, train_x, test_x, captum_scores(pinn, train_x, test_x)


@pytest.mark.parametrize("path", ["dense", "lanczos"])
def test_scores_are_captums(case, path, monkeypatch):
    pinn, train_x, test_x, expected = case
    if path == "lanczos":
        monkeypatch.setattr(lanczos, "DENSE_LIMIT", 0)
    influence = Influence(pinn, train_x, Recipe(rank=RANK), batch_size=17)
    found = influence.influence(test_x)
    differences = {}
    for quantity, scores in expected.items():
        assert scores.shape == (25, 60)
        difference = abs(np.asarray(found[quantity]) - scores).max()
        differences[quantity] = difference / abs(scores).max()
    print(*(f"{name} {value:.1e}" for name, value in differences.items()), sep=", ")
    assert {name: value for name, value in differences.items() if not value <= LIMIT} == {}
    assert set(QUANTITIES) | set(TERMS) == set(found)
