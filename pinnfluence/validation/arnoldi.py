"""Stock captum's ``ArnoldiInfluenceFunction`` on the loss of a PINN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.devices import float64_array

PROJECTION_DIM, ARNOLDI_DIM = 50, 200
ARNOLDI_TOL, HESSIAN_REG, HESSIAN_INVERSE_TOL = 1e-4, 1e-3, 1e-4
"""These five are captum's defaults."""

BATCH_SIZE = 2000


class PointLosses(nn.Module):
    """Training losses ``l_i = sum_k w_k r_k(z_i)^2``: from indices i ``[n]`` that rise, ``[n]``."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        params = loss.pinn.params
        self.theta = nn.ParameterList(nn.Parameter(p.clone()) for p in params.values())
        self._names, self._loss = tuple(params), loss

    def forward(self, points: Tensor) -> Tensor:
        # captum puts other parameters into this module for each call
        params = dict(zip(self._names, self.theta, strict=True))
        return self._loss.subset(points.numpy()).point_losses(params)


class LossesAsTheyAre:
    """The loss function for a model whose outputs are losses; captum asks for one."""

    reduction = "none"

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs


def arnoldi_influence(loss: Loss, rank: int = PROJECTION_DIM) -> ArnoldiInfluenceFunction:
    """Captum's class, fitted to the Hessian H of ``sum_ik w_k r_k(z_i)^2``.

    Its scores are ``grad f^T R R^T grad l_i`` with ``R R^T`` near ``(H + 1e-3 I)^-1`` on the
    largest eigenpairs, from 200 steps of its own Arnoldi iteration with its own products of H.
    Sign and scale are ours: positive means that taking z_i away raises f.

    Args:
        loss: of all training points, on the CPU.
        rank: number of eigenpairs.

    Source: Schioppa et al., Scaling Up Influence Functions, arXiv 2112.03052.
    """
    points = torch.arange(len(loss))
    loader = DataLoader(TensorDataset(points, points), min(BATCH_SIZE, len(points)))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # captum sets torch's seed
        warnings.filterwarnings("ignore", "To copy construct from a tensor")  # at each of its steps
        return ArnoldiInfluenceFunction(
            PointLosses(loss),
            loader,
            checkpoint="",
            checkpoints_load_func=no_checkpoint,
            loss_fn=LossesAsTheyAre(),
            projection_dim=rank,
            arnoldi_dim=ARNOLDI_DIM,
            arnoldi_tol=ARNOLDI_TOL,
            hessian_reg=HESSIAN_REG,
            hessian_inverse_tol=HESSIAN_INVERSE_TOL,
        )


def projection(fitted: ArnoldiInfluenceFunction) -> np.ndarray:
    """R ``[n_params, rank]`` of captum's fitted class, whose embeddings are ``R^T grad``."""
    columns = [torch.cat([part.flatten() for part in column]) for column in fitted.R]
    return float64_array(torch.stack(columns, 1))


def no_checkpoint(*_: Any) -> float:
    """Stands for captum's loading of a checkpoint: the model has its weights."""
    return 1.0
