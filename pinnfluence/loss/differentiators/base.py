"""What a differentiator is: derivatives of the residuals of single points by the parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from pinnfluence.loss.pinn import Collocation

if TYPE_CHECKING:
    from pinnfluence.loss.loss import Loss

Gradients = dict[str, tuple[Tensor, Tensor]]
"""By loss term, residuals ``[n]`` and a row for each point, such as ``[n, n_params]``."""


class Differentiator(ABC):
    """Gradients of ``r_k(z_i; theta)`` for one equation at some points.

    Columns are in the order of ``Pinn.params``. Whether several threads may differentiate at once
    is a matter of the equation as well: see ``Collocation.in_threads``.
    """

    name: ClassVar[str]

    @abstractmethod
    def jacobian(self, chunk: Collocation) -> Gradients:
        """Residuals ``[n]`` and their gradients ``[n, n_params]``."""

    def projection(self, chunk: Collocation, basis: Tensor) -> Gradients:
        """Residuals ``[n]`` and ``grad r^T basis``, ``[n, rank]``, in the dtype of the basis."""
        return {
            name: (values, rows.to(basis.dtype) @ basis)
            for name, (values, rows) in self.jacobian(chunk).items()
        }

    def point_loss_rows(self, chunk: Loss) -> Tensor:
        """Gradients ``grad l_i`` of the loss of each point, ``[n, n_params]``."""
        like = chunk.pinn.like
        gradients = like.new_zeros(len(chunk), chunk.pinn.n_params)
        for number, rows in enumerate(chunk.collocation.points.rows):
            here = torch.as_tensor(rows, device=like.device)
            for name, (values, jac) in self.jacobian(chunk.collocation.only(number)).items():
                if chunk.weights[name]:
                    gradients[here] += chunk.slopes(name, values)[:, None] * jac
        return gradients

    def loss_gradients(self, chunk: Loss) -> tuple[Tensor, Tensor]:
        """``||grad l_i||`` of each point, ``[n]``, and their sum ``grad L``, ``[n_params]``."""
        rows = self.point_loss_rows(chunk)
        return rows.norm(dim=1), rows.sum(0)
