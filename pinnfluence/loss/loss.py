"""The loss of a physics-informed neural network: where residuals become weighted squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pinnfluence.loss.pinn import Collocation, Params, Pinn
from pinnfluence.loss.points import PointTensors
from pinnfluence.runtime.devices import in_float64

LossStep = Callable[[Params], tuple[Tensor, dict[str, Tensor]]]
"""From parameters to the loss terms ``[n_terms]`` and the gradients of their sum by name."""


@dataclass(frozen=True)
class Loss:
    """``L(theta) = sum_i l_i(theta)``, ``l_i = sum_k w_k r_k(z_i; theta)^2``.

    The sums run over points z_i and the loss terms k that act on them. With scaled residuals
    ``s = (2 w)^1/2 r`` the loss is ``|s|^2 / 2``, its gradient ``J^T s`` and its Gauss-Newton
    matrix ``J^T J``, J the Jacobian of s.

    Args:
        collocation: the loss terms at the points.
        weights: w_k by name of the term.
        weight_decay: factor of ``|theta|^2 / 2`` that was minimised beside L: of no point, and so
            in no value here. It adds to the gradient and, as a damping, to every curvature.
    """

    collocation: Collocation
    weights: Mapping[str, float]
    weight_decay: float = 0.0

    @classmethod
    def of_training(cls, collocation: Collocation) -> Loss:
        """As it was minimised, ``w_k = c_k / |S_k|`` with DeepXDE's loss weights c_k."""
        given, rows = collocation.pinn.loss_weights, collocation.term_rows()
        weights = {k: given.get(k, 1.0) / max(1, len(r)) for k, r in rows.items()}
        return cls(collocation, weights, collocation.pinn.weight_decay)

    @classmethod
    def uniform(cls, collocation: Collocation) -> Loss:
        """The plain sum of squares, ``w_k = 1``."""
        return cls(collocation, dict.fromkeys(collocation.term_rows(), 1.0))

    @classmethod
    def of_means(cls, collocation: Collocation) -> Loss:
        """The sum of mean squared residuals, ``w_k = 1 / |S_k|``, whatever the loss weights are."""
        rows = collocation.term_rows()
        return cls(collocation, {k: 1 / max(1, len(r)) for k, r in rows.items()})

    @property
    def pinn(self) -> Pinn:
        """The network and its equations."""
        return self.collocation.pinn

    def __len__(self) -> int:
        return len(self.collocation)

    def chunks(self, size: int) -> Iterator[Loss]:
        """The same terms and weights at ``size`` points at a time; their sum is the loss."""
        for chunk in self.collocation.chunks(size):
            yield replace(self, collocation=chunk)

    def subset(self, points: np.ndarray) -> Loss:
        """The same terms and weights at some of the points, by their indices in rising order."""
        return replace(self, collocation=self.collocation.subset(points))

    def only(self, number: int) -> Loss:
        """The terms of one of the equations, at the points on which it acts."""
        return replace(self, collocation=self.collocation.only(number))

    def decay_gradient(self) -> Tensor:
        """Gradient of ``weight_decay |theta|^2 / 2``, ``[n_params]``."""
        theta = torch.cat([p.flatten() for p in self.pinn.params.values()])
        return self.weight_decay * theta

    def scale(self, term: str) -> float:
        """``(2 w_k)^1/2``, by which residuals are multiplied so that the loss is ``|s|^2 / 2``."""
        return float(2 * self.weights[term]) ** 0.5

    def slopes(self, term: str, residuals: Tensor) -> Tensor:
        """``dl_i / dr_k = 2 w_k r_k(z_i)``, ``[n]``: the factor of ``grad r_k`` in ``grad l_i``."""
        return 2 * self.weights[term] * residuals

    def terms(self, params: Params, at: PointTensors | None = None) -> dict[str, Tensor]:
        """``w_k r_k(z_i)^2`` of each term at the points on which it acts, ``[n_k]`` by name."""
        residuals = self.collocation.residuals(params, at)
        return {name: self.weights[name] * r.square() for name, r in residuals.items()}

    def value(self, params: Params, at: PointTensors | None = None) -> Tensor:
        """L at theta, a differentiable scalar."""
        zero = next(iter(params.values())).new_zeros(())
        return sum((term.sum() for term in self.terms(params, at).values()), zero)

    def point_losses(self, params: Params) -> Tensor:
        """l_i at theta, ``[n]``, differentiable."""
        losses = next(iter(params.values())).new_zeros(len(self))
        rows = self.collocation.term_rows()
        for name, term in self.terms(params).items():
            index = torch.as_tensor(rows[name], device=losses.device)
            losses = losses.index_add(0, index, term)
        return losses

    def scaled_residuals(self, params: Params) -> Tensor:
        """s ``[n_residuals]`` at theta, term by term, differentiable."""
        residuals = self.collocation.residuals(params)
        return torch.cat([self.scale(name) * r for name, r in residuals.items()])

    def term_sums(self, batch_size: int) -> dict[str, float]:
        """``w_k sum_i r_k(z_i)^2`` of each term, summed in float64; 0 where it acts nowhere."""
        sums = dict.fromkeys(self.weights, 0.0)
        for chunk in self.chunks(batch_size):
            with torch.no_grad():
                for name, term in chunk.terms(chunk.pinn.params).items():
                    sums[name] += float(in_float64(term).sum())
        return sums

    def density(self, batch_size: int) -> np.ndarray:
        """l_i of each point, ``[n]``, float64."""
        parts = [np.zeros(0)]
        for chunk in self.chunks(batch_size):
            with torch.no_grad():
                parts.append(chunk.point_losses(chunk.pinn.params).cpu().double().numpy())
        return np.concatenate(parts)
