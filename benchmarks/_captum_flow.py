"""The flow problem for stock captum: residuals by nested ``autograd.grad``, losses by sample.

Nothing of the package but its points enters, so that the scores compare two calculations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pinnfluence import Pinn
from pinnfluence.problems.cylinder_flow import HEIGHT, NU, RHO, U_MAX

OUTPUTS = ("u", "v", "p", "speed")
SUMS = {"pde": slice(0, 3), "bcs": slice(3, 9), "all": slice(0, 9)}
"""Columns of the residuals that belong to each sum of losses."""

QUANTITIES = (*OUTPUTS, *SUMS)


def slopes(f: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Derivatives of a field ``[n]`` along x and y, each ``[n]``."""
    return torch.autograd.grad(f.sum(), x, create_graph=True)[0].unbind(1)


class FlowLosses(nn.Module):
    """A network with its nine residuals at every point ``[n, 9]``, or its outputs ``[n, 3]``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.with_residuals = network, True

    def forward(self, x: Tensor) -> Tensor:
        if not self.with_residuals:
            return self.network(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u, v, p = self.network(x).unbind(1)
            (u_x, u_y), (v_x, v_y), (p_x, p_y) = (slopes(f, x) for f in (u, v, p))
            u_xx, u_yy, v_xx, v_yy = (
                slopes(f, x)[axis] for f, axis in ((u_x, 0), (u_y, 1), (v_x, 0), (v_y, 1))
            )
            profile = 4 * U_MAX * x[:, 1] * (HEIGHT - x[:, 1]) / HEIGHT**2
            residuals = (
                u_x + v_y,
                u * u_x + v * u_y + p_x / RHO - NU * (u_xx + u_yy),
                u * v_x + v * v_y + p_y / RHO - NU * (v_xx + v_yy),
                u - profile,
                v,
                NU * u_x - p,
                NU * v_x,
                u,
                v,
            )
            return torch.stack(residuals, 1)


class Loss:
    """A quantity of each sample, as a loss without reduction; labels say which terms act."""

    reduction = "none"

    def __init__(self, quantity: str) -> None:
        self.quantity = quantity

    def __call__(self, outputs: Tensor, acting: Tensor) -> Tensor:
        if self.quantity == "speed":
            return torch.hypot(outputs[:, 0], outputs[:, 1])
        if self.quantity in OUTPUTS:
            return outputs[:, OUTPUTS.index(self.quantity)]
        return (acting * outputs.square())[:, SUMS[self.quantity]].sum(1)


class FlowCase:
    """What captum is given: the model, training and test samples ``(x, acting terms)``."""

    def __init__(self, pinn: Pinn, train_x: np.ndarray, test_x: np.ndarray) -> None:
        self.model = FlowLosses(pinn.network)
        self.train, self.test = (_labelled(pinn, x) for x in (train_x, test_x))
        self.n_params = pinn.n_params

    def loss(self, quantity: str) -> Loss:
        """The loss of a quantity; the model then computes no more than it needs."""
        self.model.with_residuals = quantity in SUMS
        return Loss(quantity)


def _labelled(pinn: Pinn, x: np.ndarray) -> TensorDataset:
    rows = pinn.at(x).term_rows()  # by the stored float32 points, before they are converted
    like = next(iter(pinn.params.values()))
    acting = like.new_zeros(len(x), len(rows))
    for term, of_term in enumerate(rows.values()):
        acting[of_term, term] = 1
    return TensorDataset(torch.as_tensor(x).to(like), acting)
