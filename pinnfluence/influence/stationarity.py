"""How far parameters are from a minimum of the loss, with which influence functions begin."""

from __future__ import annotations

from typing import Any

import torch

from pinnfluence.loss.differentiators import loss_gradients
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor

STATIONARITY_LIMIT = 1.0
"""||grad L|| over the median ||grad l_i|| above which a run warns: then the loss changes more on
the way to its minimum than by the removal of a point, which is what influence functions predict."""


def stationarity(loss: Loss, executor: Executor) -> dict[str, Any]:
    """The loss terms, and the size of gradients of ``L = sum_i l_i``.

    losses: mean squared residual by term. gradient_norm: ||grad L||. median_point_gradient_norm:
    of ||grad l_i||. ratio: of these two.
    """
    norms, total = point_gradients(loss, executor)
    median, norm = float(norms.median()), float(total.norm())
    return {
        "losses": Loss.of_means(loss.collocation).term_sums(executor.batch_size),
        "gradient_norm": norm,
        "median_point_gradient_norm": median,
        "ratio": norm / median if median else float("inf"),
    }


def point_gradients(loss: Loss, executor: Executor) -> tuple[torch.Tensor, torch.Tensor]:
    """``||grad l_i||`` of each point, ``[n]``, and ``grad L``, ``[n_params]``."""
    like = loss.pinn.like
    parts = [(like.new_zeros(0), like.new_zeros(loss.pinn.n_params))]
    parts += [loss_gradients(chunk) for chunk in executor.batches(loss)]
    norms, gradients = zip(*parts, strict=True)
    return executor.gather(torch.cat(norms)), executor.sum(torch.stack(gradients).sum(0))
