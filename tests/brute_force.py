"""The mathematics a second time: nested ``autograd.grad``, loops and dense matrices.

Nothing here uses the package, so that the tests compare two independent calculations.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

LENGTH, HEIGHT = 2.2, 0.41
RHO, NU = 1.0, 1e-3
TERMS = (
    *("continuity", "momentum_x", "momentum_y"),
    *("inflow_u", "inflow_v", "outflow_u", "outflow_v", "noslip_u", "noslip_v"),
)


def d(output: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Derivatives ``[n]`` of one output ``[n]`` by each input."""
    if not output.requires_grad:  # a constant
        return tuple(torch.zeros_like(x).unbind(1))
    (gradient,) = torch.autograd.grad(
        output.sum(), x, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient.unbind(1)


def derivative(output: Tensor, x: Tensor, index: Sequence[int]) -> Tensor:
    """Derivative ``[n]`` of one output by the inputs of the given numbers, one after another."""
    for number in index:
        output = d(output, x)[number]
    return output


def flow_residuals(
    outputs: Tensor, x: Tensor, variant: str = "good", conditions: str = "corrected"
) -> dict[str, Tensor]:
    """All nine residuals of the flow at all points, wherever they act."""
    u, v, p = outputs.unbind(1)
    (u_x, u_y), (v_x, v_y), (p_x, p_y) = d(u, x), d(v, x), d(p, x)
    (u_xx, _), (_, u_yy), (v_xx, _), (_, v_yy) = d(u_x, x), d(u_y, x), d(v_x, x), d(v_y, x)
    convection = v * u_y if variant == "broken" else u * u_x + v * u_y
    y = x[:, 1]
    return {
        "continuity": u_x + v_y,
        "momentum_x": convection + p_x / RHO - NU * (u_xx + u_yy),
        "momentum_y": u * v_x + v * v_y + p_y / RHO - NU * (v_xx + v_yy),
        "inflow_u": u - 4 * 0.3 * y * (HEIGHT - y) / HEIGHT**2,
        "inflow_v": v,
        "outflow_u": NU * u_x - p,
        "outflow_v": NU * (u_y if conditions == "published" else v_x),
        "noslip_u": u,
        "noslip_v": v,
    }


def flow_masks(x: Tensor) -> dict[str, Tensor]:
    """Where each term acts, masks ``[n]``, with the corrected conditions."""
    distance = torch.hypot(x[:, 0] - 0.2, x[:, 1] - 0.2) - 0.05
    walls = (x[:, 1].abs() < 1e-6) | ((x[:, 1] - HEIGHT).abs() < 1e-6) | (distance.abs() < 1e-6)
    places = {
        "inflow": x[:, 0].abs() < 1e-6,
        "outflow": (x[:, 0] - LENGTH).abs() < 1e-6,
        "noslip": walls,
    }
    everywhere = torch.ones(len(x), dtype=torch.bool)
    return {name: places.get(name.split("_")[0], everywhere) for name in TERMS}


class FlowColumns(nn.Module):
    """A network followed by all that may be attributed: u, v, p, speed and the nine residuals."""

    columns = ("u", "v", "p", "speed", *TERMS)

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            outputs = self.network(x)
            residuals, masks = flow_residuals(outputs, x), flow_masks(x)
            acting = [torch.where(masks[name], residuals[name], 0.0) for name in TERMS]
            speed = outputs[:, 0].hypot(outputs[:, 1])
            return torch.cat([outputs, speed[:, None], torch.stack(acting, 1)], 1)


def gradients(
    network: nn.Module, function: Callable[[Tensor], Mapping[str, Tensor]], x: Tensor
) -> dict[str, Tensor]:
    """Gradients ``[n, n_params]`` of quantities ``function(x)``, point by point, one at a time."""
    params = list(network.parameters())
    rows: dict[str, list[Tensor]] = {}
    for point in x:
        point = point[None].clone().requires_grad_()
        for name, value in function(point).items():
            found = torch.autograd.grad(
                value.sum(), params, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            rows.setdefault(name, []).append(torch.cat([g.flatten() for g in found]))
    return {name: torch.stack(found) for name, found in rows.items()}


def largest_error(found: ArrayLike, expected: ArrayLike) -> float:
    """Largest difference, relative to the largest entry that is expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected)
    assert found.shape == expected.shape
    return float(abs(found - expected).max() / abs(expected).max())


def close(
    found: ArrayLike, expected: ArrayLike, limit: float = 2e-6, size: float | None = None
) -> None:
    """Equal up to float32, relative to the largest entry, or to a given size."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= limit * (abs(expected).max() if size is None else size)
