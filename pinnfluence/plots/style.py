"""The look of all figures: sizes, fonts, lines, colours; and how they become files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pinnfluence.storage.files import write_bytes

COLUMN, PAGE = 3.4, 7.0
"""Widths of figures in inches: a column and a page of a journal."""

DPI = 200

MAGNITUDE_MAP, SIGNED_MAP, ERROR_MAP, LOSS_MAP = "viridis", "RdBu_r", "magma_r", "viridis"
"""Colour maps, by what they show. Their lightness says the same as their hue, so that they read
alike for the colour-blind and in grey; ``SIGNED_MAP`` is lightest at zero, its middle."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
"""Colours of lines and dots that the colour-blind can tell apart (Okabe and Ito, 2008)."""

STYLE: dict[str, Any] = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titley": 1.0,  # looking for a free place costs a third of the time to draw
    "axes.titlepad": 3,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.labelpad": 2,
    "axes.prop_cycle": cycler(linestyle=["-", "--"]) * cycler(color=PALETTE),
    "axes.linewidth": 0.6,
    "figure.titlesize": 7.5,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 0.8,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pinnfluence",
}
_VECTORS: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""Formats beside PNG, with metadata that leave out the date."""

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the settings of ``STYLE``; the caller's stay as they are."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return run


@styled
def render(figure: Figure, file_format: str = "png", dpi: float = DPI) -> bytes:
    """The figure as bytes of a ``png``, ``pdf`` or ``svg``; without dates, so they repeat.

    A PNG is in RGB: full colours, no palette, no alpha. The dots per inch are also those of what
    is drawn as pixels in a vector file: fields and thousands of dots.
    """
    buffer = io.BytesIO()
    if file_format == "png":
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        Image.fromarray(pixels).save(buffer, "PNG", dpi=(dpi, dpi), compress_level=6)
    else:
        figure.savefig(buffer, format=file_format, dpi=dpi, metadata=_VECTORS[file_format])
    return buffer.getvalue()


def save(figure: Figure, path: str | Path, dpi: float = DPI) -> Path:
    """Write the figure to ``path`` atomically, in the format that its suffix names."""
    path = Path(path)
    file_format = path.suffix.removeprefix(".")
    if file_format not in ("png", *_VECTORS):
        raise ValueError(f"a figure's name must end in .png, .pdf or .svg, found {path.name}")
    write_bytes(path, render(figure, file_format, dpi))
    return path


def preview(path: str | Path, scale: float = 0.6) -> bytes:
    """A saved ``.png`` made smaller, as PNG: for a page that shows many of them."""
    with Image.open(path) as image:
        size = (round(image.width * scale), round(image.height * scale))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
