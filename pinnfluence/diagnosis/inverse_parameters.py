"""How sure the unknowns of an inverse problem are.

The parameters minimise ``sum_ik w_ik r_ik^2 = |s|^2 / 2``. Noise of standard deviation sigma in the
measured data moves the residuals of the data term D by epsilon, and with them the parameters by
``-(G + damping I)^-1 A_D^T (2 w)^1/2 epsilon``. So the covariance of the unknowns is

    C = sigma^2 Z^T A_D^T diag(2 w) A_D Z,     Z = (G + damping I)^-1 E,

E the unit vectors of the unknowns. It is right for any weights of the loss terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pinnfluence.diagnosis.corrected import UNKNOWNS
from pinnfluence.diagnosis.factor import Inverse
from pinnfluence.diagnosis.point_loss import PointLoss
from pinnfluence.errors import InputError


@dataclass(frozen=True)
class Unknowns:
    """Unknowns of an inverse problem, with their uncertainty where the noise is known.

    names: ``[n]``. values: ``[n]``. determined: what part of each the points determine, 0 to 1; the
    rest is held by the damping alone. sensitivities: change of each with one unit of noise in all
    measurements, a norm, ``[n]``. covariance: ``[n, n]``, or None without a noise level.
    """

    names: tuple[str, ...]
    values: np.ndarray
    determined: np.ndarray
    sensitivities: np.ndarray
    covariance: np.ndarray | None

    @property
    def deviations(self) -> np.ndarray | None:
        """Standard deviations ``[n]``."""
        return None if self.covariance is None else np.sqrt(np.diag(self.covariance))

    @property
    def correlations(self) -> np.ndarray | None:
        """``[n, n]``."""
        if self.covariance is None or self.deviations is None:
            return None
        return self.covariance / np.outer(self.deviations, self.deviations)

    def intervals(self, factor: float = 1.96) -> np.ndarray:
        """Values minus and plus so many deviations, ``[n, 2]``: 95 percent.

        Raises:
            InputError: no noise level is known.
        """
        if self.deviations is None:
            raise InputError("expected a noise level of the data term, found none: give noise")
        return self.values[:, None] + factor * np.outer(self.deviations, [-1, 1])


def unknowns_of(
    loss: PointLoss,
    inverse: Inverse,
    part: float,
    noise: Mapping[str, float] | None = None,
) -> Unknowns:
    """The parameters called ``unknowns.``..., and their uncertainty.

    Args:
        loss: at the training points, with the training's weights.
        inverse: of its own curvature; part: the damping, see ``Inverse``.
        noise: standard deviation of the measurements by loss term that compares with them.

    Raises:
        InputError: no such parameters; noise of a term that is none.
    """
    pinn = loss.collocation.pinn
    names: list[str] = []
    places: list[int] = []
    start = 0
    for name, p in pinn.params.items():
        if name.startswith(UNKNOWNS):
            names += [name if p.numel() == 1 else f"{name}[{i}]" for i in range(p.numel())]
            places += range(start, start + p.numel())
        start += p.numel()
    if not names:
        raise InputError(
            f"expected parameters called {UNKNOWNS}..., found none: no inverse problem"
        )
    if strange := sorted(set(noise or {}) - set(loss.slices)):
        raise InputError(f"expected noise of {', '.join(loss.slices)}, found {', '.join(strange)}")
    unit = np.zeros((pinn.n_params, len(places)))
    unit[places, range(len(places))] = 1
    Z = inverse.solve(unit, part)
    theta = np.concatenate([p.cpu().double().numpy().ravel() for p in pinn.params.values()])
    determined = 1 - part * inverse.largest * np.diag(Z[places])
    data = set(noise) if noise else set(pinn.groups["bcs"])
    covariance, squares = _spread(loss, Z, data, noise or {})
    return Unknowns(
        tuple(names), theta[places], determined, np.sqrt(squares), covariance if noise else None
    )


def _spread(
    loss: PointLoss, Z: np.ndarray, data: set[str], noise: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The covariance, and squares of the change with unit noise."""
    total, squares = np.zeros((Z.shape[1], Z.shape[1])), np.zeros(Z.shape[1])
    weights = np.concatenate([np.zeros(0), *loss.weights.values()])
    for rows, block in loss.blocks():
        name = next(n for n, s in loss.slices.items() if rows.start < s.stop)
        if name in data:
            moved = np.sqrt(2 * weights[rows])[:, None] * (block @ Z)
            squares += (moved**2).sum(0)
            total += noise.get(name, 0.0) ** 2 * (moved.T @ moved)
    return total, squares
