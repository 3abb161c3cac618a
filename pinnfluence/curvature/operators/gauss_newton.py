"""The Gauss-Newton matrix of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from pinnfluence.curvature.gram import Gram


class GaussNewton(Gram):
    """Gauss-Newton matrix ``2 sum_i sum_k w_k grad r_k(z_i) grad r_k(z_i)^T``, as an operator.

    What remains of the Hessian where the residuals are small; it is never indefinite. Its rows are
    those of the Jacobian of the scaled residuals, see ``Loss``. See ``Gram`` for how it is made,
    and ``Curvature`` for the arguments.
    """

    has_loss_rows = True

    def _outer_weights(self, name: str, residuals: Tensor) -> Tensor:
        return torch.full_like(residuals, self.loss.scale(name) ** 2)


OPERATOR = GaussNewton
