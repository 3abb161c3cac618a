"""The damping that the rule ``auto`` chooses, from the spectrum of the curvature.

An inverse curvature weighs most the directions of least curvature: those that training did not
determine. They must be damped, and only they. With the steps ``s(g) = (M + damping I)^-1 g`` of
gradients g, and sums ``g = sum_i +-grad l_i`` of the points' gradients with random signs, two parts
of a whole are measured, the criteria:

    open      = ||s(grad L)||^2 / mean ||s(g)||^2,
    neglected = sum |s(g)^T (H - M) s(g)| / sum s(g)^T (M + damping I) s(g).

*open*: the mean is ``sum_i ||s(grad l_i)||^2``. In eigenvectors v_a of M, both norms are sums over
a of ``(v_a . g)^2 / (lambda_a + damping)^2``, filters of the spectrum in which directions below the
damping count less and less. Training has determined a direction where the demands of the points
cancel in it: open is 0 at a minimum, and 1 where the sum of all points is as large as one of random
signs, where training had no effect.

*neglected*: what the Hessian H has and the matrix M, such as Gauss-Newton, has not, along the very
steps that are predicted. A direction whose curvature is smaller than that is not determined by M.
0 where M is the Hessian.

The rule takes the least damping at which both are at most 1/2 (more determined than open, more kept
than neglected), and at least

- epsilon * largest eigenvalue, epsilon that of the numbers in which theta was trained (see
  ``rounding``): the rounding of theta moves the curvature by that much;
- twice the size of a negative eigenvalue, so that its direction counts with that size.

No number is tuned and no retraining is looked at. Multiplying the loss by c multiplies the damping
by c; the order of the points does not matter.

What it gives for the paper's three models in ``model_zoo/``, by ``benchmarks/damping.py``; epsilon
is that of float32:

    model   largest eigenvalue   floor    damping   open at the floor   open   neglected
    good    5.39e3               6.4e-4   3.7e-3    0.94                0.47   0.0006
    broken  1.97e3               2.3e-4   1.0e-3    0.88                0.47   0.0005
    bad     2.49e3               3.0e-4   3.0e-4    0.43                0.43   0.0018
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.curvature.inverse.base import Inverse
from pinnfluence.curvature.operators import Curvature
from pinnfluence.loss.differentiators import weighted_sums
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import float64_array, tensor_like
from pinnfluence.runtime.executor import Executor

N_SIGNS = 32
"""Sums with random signs with which the gradient of the loss is compared."""

N_TRIED = 8
"""Of these, the steps along which the curvature is compared with the Hessian."""

LIMIT = 0.5
"""What may be open or neglected, as a part of the whole."""

N_HALVINGS = 6
"""Halvings of the logarithm of the damping: to a factor of about 1.3."""


@dataclass(frozen=True)
class Criteria:
    """Whether a damping is large enough: two parts of a whole, see this module.

    open: of the points' demands, what training left open. neglected: of the curvature along a step,
    what the matrix leaves out of the Hessian; None where it was not asked, as too much is open.
    """

    open: float
    neglected: float | None


@dataclass(frozen=True)
class Damping:
    """A damping and the figures behind it.

    value: the damping. floor: the least one that rounding (or a negative eigenvalue) allows.
    at_floor, at_value: the criteria there. largest_eigenvalue: of the curvature.
    """

    value: float
    floor: float
    at_floor: Criteria
    at_value: Criteria
    largest_eigenvalue: float

    def metadata(self) -> dict[str, Any]:
        """What a score file says about it."""
        return asdict(self)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Damping:
        """The damping of ``metadata``."""
        criteria = {name: Criteria(**metadata[name]) for name in ("at_floor", "at_value")}
        return cls(**{**metadata, **criteria})


def automatic_damping(
    largest: float,
    lowest: float,
    epsilon: float,
    open_at: Callable[[float], float],
    neglected_at: Callable[[float], float],
) -> Damping:
    """The least damping at which both criteria are at most ``LIMIT``, at least the floor.

    The rule and its reasons: see this module. Where both hold for no damping up to the largest
    eigenvalue, that is taken. What is neglected costs products with the Hessian: it is asked first
    where too little is open, and for other dampings only if it is too much there.

    Args:
        largest, lowest: extreme eigenvalues of M.
        epsilon: relative rounding of the curvature.
        open_at, neglected_at: both parts, as functions of the damping.
    """
    floor, known = max(epsilon * largest, -2 * lowest), dict[float, float]()

    def neglected(damping: float) -> float:
        if damping not in known:
            known[damping] = neglected_at(damping)
        return known[damping]

    def least(settled: Callable[[float], bool]) -> float:
        low, high = floor, max(largest, floor)
        if settled(floor):
            return floor
        for _ in range(N_HALVINGS):
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if settled(middle) else (middle, high)
        return high

    value = least(lambda damping: open_at(damping) <= LIMIT)
    if neglected(value) > LIMIT:
        value = least(lambda d: open_at(d) <= LIMIT and neglected(d) <= LIMIT)
    at_value = Criteria(open_at(value), neglected(value))
    at_floor = Criteria(open_at(floor), known.get(floor)) if value > floor else at_value
    return Damping(value, floor, at_floor, at_value, largest)


def open_part(inverse: Inverse, gradients: np.ndarray) -> float:
    """What training left open, at the damping of an inverse.

    Args:
        inverse: ``(M + damping I)^-1``.
        gradients: grad L and sums with random signs, ``[n_params, 1 + N_SIGNS]``.
    """
    squares = np.square(inverse.solve(gradients)).sum(0)
    mean = float(squares[1:].mean())
    return float(squares[0]) / mean if mean else 0.0


def neglected_part(inverse: Inverse, gradients: np.ndarray, hessian: Curvature | None) -> float:
    """What M neglects of the Hessian along the steps; 0 where it is the Hessian itself (None)."""
    if hessian is None:
        return 0.0
    gradients = gradients[:, 1 : 1 + N_TRIED]
    neglected = kept = 0.0
    steps = inverse.solve(gradients)
    for s, g, product in zip(steps.T, gradients.T, hessian.matmat(steps).T, strict=True):
        energy = float(s @ g)
        curved = energy - inverse.damping * float(s @ s)  # s^T M s
        neglected += abs(float(s @ product) - curved)
        kept += energy
    return neglected / kept if kept else 0.0


def signed_gradients(loss: Loss, executor: Executor) -> np.ndarray:
    """grad L and the sums of the points' gradients with random signs, ``[n_params, 1 + N_SIGNS]``.

    The signs belong to the points, whatever their order.
    """
    x = loss.collocation.x
    order = np.lexsort(x.T)
    signs = np.empty((len(x), 1 + N_SIGNS))
    signs[order] = np.random.default_rng(0).choice([-1.0, 1.0], signs.shape)
    signs[:, 0] = 1
    total = loss.pinn.like.new_zeros(loss.pinn.n_params, signs.shape[1])
    size = executor.batch_size

    def of_chunk(start_and_chunk: tuple[int, Loss]) -> Tensor:
        start, chunk = start_and_chunk
        return weighted_sums(chunk, tensor_like(signs[start : start + len(chunk)], total))

    chunks = executor.share(list(zip(range(0, len(x), size), loss.chunks(size), strict=True)))
    in_threads = loss.collocation.in_threads
    executor.add_up(total, of_chunk, chunks, in_threads, loss.pinn.n_params)
    executor.advance(len(x) // executor.n_processes)
    total = executor.sum(total)
    total[:, 0] += loss.decay_gradient()
    return float64_array(total)


def rounding(pinn: Pinn) -> float:
    """Relative rounding of the curvature of a network.

    Epsilon of the numbers in which theta was trained, float32 if those hold it exactly; at least
    that of a factorisation in float64, epsilon times n_params.
    """
    single = all(bool((p == p.float()).all()) for p in pinn.params.values())
    trained = float(torch.finfo(torch.float32 if single else torch.float64).eps)
    return max(trained, pinn.n_params * float(torch.finfo(torch.float64).eps))
