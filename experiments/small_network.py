"""A tanh network of two hidden layers in NumPy: residuals, their gradients, and its training.

With some hundred parameters and points, the operations of PyTorch cost ten times what the
arithmetic costs, and a sweep of hundreds of trainings is not affordable. This is the same
mathematics by hand, compared with PyTorch in ``tests/test_resampling.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

Jet = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""A function of x and t with its derivatives: value, d/dx, d/dt, d2/dx2, each ``[n]``."""

Residual = Callable[[np.ndarray, np.ndarray, Jet], tuple[np.ndarray, Jet]]
"""From x, t and the jet of u to the residual ``[n]`` and its derivatives by that jet."""

MAX_TRIES, DIFFERENCE, LARGEST_ACCELERATION = 20, 0.1, 0.75


@dataclass(frozen=True)
class Equation:
    """A residual for ``u = u0(x) + a(x, t) z``, in which the conditions hold exactly.

    residual: of u. start: the jet of u0. factor: the jet of a. periodic: z is a function of cos x,
    sin x and t, else of x and t. time: by which t is divided.
    """

    residual: Residual
    start: Callable[[np.ndarray], Jet]
    factor: Callable[[np.ndarray, np.ndarray], Jet]
    periodic: bool = False
    time: float = 1.0

    def inputs(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        """What the first layer takes, ``[4, n, n_inputs]``: its jet."""
        zero, one = np.zeros_like(x), np.ones_like(x)
        columns: list[Jet] = [(x, one, zero, zero)]
        if self.periodic:
            c, s = np.cos(x), np.sin(x)
            columns = [(c, -s, zero, -c), (s, c, zero, -s)]
        return np.stack(
            [np.stack(jet) for jet in (*columns, (t / self.time, zero, one / self.time, zero))], 2
        )


class SmallNetwork:
    """A network of x and t with ``theta`` as one vector, Glorot normal at first, biases 0."""

    def __init__(self, equation: Equation, width: int, seed: int) -> None:
        self.equation = equation
        self.shapes = ((width, 3 if equation.periodic else 2), (width, width), (1, width))
        rng = np.random.default_rng(seed)
        parts = []
        for shape in self.shapes:
            parts += [math.sqrt(2 / sum(shape)) * rng.standard_normal(shape), np.zeros(shape[0])]
        self.theta = np.concatenate([part.ravel() for part in parts])

    def layers(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases."""
        layers, start = [], 0
        for n_out, n_in in self.shapes:
            end = start + n_out * n_in
            layers.append((theta[start:end].reshape(n_out, n_in), theta[end : end + n_out]))
            start = end + n_out
        return layers

    def values(self, x: np.ndarray) -> np.ndarray:
        """u at points ``[n, 2]``, ``[n]``."""
        place, time = x.T
        h = self.equation.inputs(place, time)[0]
        *hidden, (W, b) = self.layers(self.theta)
        for weight, bias in hidden:
            h = np.tanh(h @ weight.T + bias)
        u: np.ndarray = (h @ W.T + b)[:, 0] * self.equation.factor(place, time)[0]
        return u + self.equation.start(place)[0]

    def residuals(self, x: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
        """r at points ``[n, 2]``, ``[n]``."""
        return self._forward(x, self.theta if theta is None else theta)[0]

    def rows(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """r ``[n]`` and its gradients ``[n, n_params]``."""
        r, c, jets = self._forward(x, self.theta)
        return r, self._backward(c, jets)

    def _forward(
        self, x: np.ndarray, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """r; its derivatives by the jet of z ``[4, n]``; inputs and outputs of the layers."""
        place, time = x.T
        h, jets = self.equation.inputs(place, time), []
        for number, (W, b) in enumerate(self.layers(theta)):
            y = h @ W.T
            y[0] += b
            jets.append((h, y))
            if number < 2:
                d0, d1, d2, _ = tanh(y[0])
                h = np.stack([d0, d1 * y[1], d1 * y[2], d2 * y[1] ** 2 + d1 * y[3]])
        z, (a, a_x, a_t, a_xx) = y[:, :, 0], self.equation.factor(place, time)
        u0 = self.equation.start(place)
        u = (
            u0[0] + a * z[0],
            u0[1] + a_x * z[0] + a * z[1],
            u0[2] + a_t * z[0] + a * z[2],
            u0[3] + a_xx * z[0] + 2 * a_x * z[1] + a * z[3],
        )
        r, (c, c_x, c_t, c_xx) = self.equation.residual(place, time, u)
        by_z = c * a + c_x * a_x + c_t * a_t + c_xx * a_xx
        return r, np.stack([by_z, c_x * a + 2 * c_xx * a_x, c_t * a, c_xx * a]), jets

    def _backward(self, c: np.ndarray, jets: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Gradients of each residual, ``[n, n_params]``, from its derivatives by the jet of z."""
        n, cy = c.shape[1], c[:, :, None]
        parts: list[np.ndarray] = []
        layers = self.layers(self.theta)
        for number in (2, 1, 0):
            h, y = jets[number]
            if number < 2:
                ch = cy @ layers[number + 1][0]
                _, d1, d2, d3 = tanh(y[0])
                by_value = d2 * (y[1] * ch[1] + y[2] * ch[2] + y[3] * ch[3])
                by_value += d1 * ch[0] + d3 * y[1] ** 2 * ch[3]
                by_x = d1 * ch[1] + 2 * d2 * y[1] * ch[3]
                cy = np.stack([by_value, by_x, d1 * ch[2], d1 * ch[3]])
            weight = np.matmul(cy.transpose(1, 2, 0), h.transpose(1, 0, 2))
            parts += [cy[0], weight.reshape(n, cy.shape[2] * h.shape[2])]
        return np.hstack(parts[::-1])


def tanh(y: np.ndarray) -> Jet:
    """tanh and its first three derivatives."""
    d0 = np.tanh(y)
    d1 = 1 - d0 * d0
    return d0, d1, -2 * d0 * d1, (6 * d0 * d0 - 2) * d1


def train(network: SmallNetwork, x: np.ndarray, n: int, damping: float) -> float:
    """Levenberg-Marquardt on the mean squared residual; gives the damping at the end.

    The algorithm of ``pinnfluence.training.levenberg_marquardt``. Where there are fewer points
    than parameters it solves in the space of the residuals, ``J^T (J J^T + damping I)^-1``.
    """
    scale, raise_by = math.sqrt(2 / len(x)), 2.0
    for _ in range(n):
        r, J = (scale * part for part in network.rows(x))
        dual, theta, before = len(J) < J.shape[1], network.theta, damping
        matrix = J @ J.T if dual else J.T @ J
        for _ in range(MAX_TRIES):
            step = _step(network, x, r, J, matrix + damping * np.eye(len(matrix)), dual)
            if step is not None:
                moved, along = scale * network.residuals(x, theta + sum(step)), J @ step[0]
                decrease, predicted = r @ r - moved @ moved, -(2 * r + along) @ along
                if decrease > 0 and predicted > 0:
                    network.theta = theta + sum(step)
                    damping *= max(1 / 5, 1 - (2 * decrease / predicted - 1) ** 3)
                    raise_by = 2.0
                    break
            damping, raise_by = damping * raise_by, 2 * raise_by
        else:
            return before
    return damping


def _step(
    network: SmallNetwork,
    x: np.ndarray,
    r: np.ndarray,
    J: np.ndarray,
    damped: np.ndarray,
    dual: bool,
) -> tuple[np.ndarray, np.ndarray] | None:
    """The step and half its acceleration, or None where the damping is too small for them."""
    try:
        factor = scipy.linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None

    def solve(right: np.ndarray) -> np.ndarray:
        if dual:
            return -J.T @ scipy.linalg.cho_solve(factor, right, check_finite=False)
        return -scipy.linalg.cho_solve(factor, J.T @ right, check_finite=False)

    velocity, scale = solve(r), math.sqrt(2 / len(x))
    ends = [
        scale * network.residuals(x, network.theta + sign * DIFFERENCE * velocity)
        for sign in (1, -1)
    ]
    acceleration = solve((ends[0] - 2 * r + ends[1]) / DIFFERENCE**2)
    if not 2 * np.linalg.norm(acceleration) <= LARGEST_ACCELERATION * np.linalg.norm(velocity):
        return None
    return velocity, 0.5 * acceleration
