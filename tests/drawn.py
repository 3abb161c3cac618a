"""What tests of figures draw, and how they look at what was drawn."""

import io

import numpy as np
from matplotlib import image

from pinnfluence.plots import style
from pinnfluence.problem.domain import Disk
from pinnfluence.problems.cylinder_flow import PROBLEM

CYLINDER = Disk((0.2, 0.2), 0.05)
NEAR = Disk((0.2, 0.2), 0.075)
LABELS = PROBLEM.labels
QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")


def channel():
    """Points of the channel around the cylinder, with its corners and the rim."""
    rng = np.random.default_rng(1)
    inner = rng.random((700, 2)) * [2.2, 0.41]
    corners = [[0, 0], [2.2, 0], [0, 0.41], [2.2, 0.41]]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim = 0.2 + 0.05 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([inner[np.hypot(*(inner - 0.2).T) > 0.05], corners, rim])
    return points.astype(np.float32)


def flow_of(points):
    """A made-up flow."""
    x, y = points.T.astype(float)
    return with_speed(7 * y * (0.41 - y), 0.1 * np.sin(9 * y) - 0.02, 2.2 - x)


def with_speed(u, v, p):
    return {"u": u, "v": v, "p": p, "speed": np.hypot(u, v)}


def main_axes(figure):
    """The axes that hold data; colour bars lie inside them."""
    return [axis for axis in figure.axes if axis.get_xlabel() or axis.collections]


def field_of(axis):
    """The drawn field or scatter; its ``get_array`` holds the values."""
    return axis.collections[0]  # isolines come after it


def labels(figure):
    """Those of the colour bars, above or below them."""
    bars = [bar for axis in figure.axes for bar in axis.child_axes]
    return [bar.get_title(loc="left") or bar.get_xlabel() for bar in bars]


def title_of(axis):
    return axis.get_title(loc="left")


def check_drawn(figure):
    """The figure renders to an image that is not empty, in every panel, in equal aspect."""
    pixels = image.imread(io.BytesIO(style.render(figure, dpi=60)))[..., :3]
    assert pixels.std() > 0.05
    for axis in main_axes(figure):
        assert axis.get_aspect() == 1
        assert axis.collections[0].get_rasterized()
    assert any(axis.child_axes for axis in figure.axes), "a colour bar"
    return pixels
