"""Notebooks of the repository: their cells run as a user runs them, but nothing is drawn."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pinnfluence.plots import style


def executed(notebook: Path, **environment: object) -> str:
    """What the code cells print, run one after the other in one namespace of this process.

    Figures are built and laid out, and their files hold no picture: ``test_plots.py`` draws them.
    """
    printed, namespace = io.StringIO(), {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(style, "render", _rendered)
        for name, value in environment.items():
            patch.setenv(name, str(value))
        for cell in nbformat.read(notebook, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, notebook.name, "exec"), namespace)
    return printed.getvalue()


def _rendered(figure: Figure, file_format: str = "png", dpi: float = 0) -> bytes:
    """A file of a figure that holds something: a PNG of one pixel, or the mark of a PDF."""
    assert any(axis.has_data() or axis.texts for axis in figure.axes)
    file = io.BytesIO(b"%PDF")
    if file_format == "png":
        Image.new("RGB", (10, 10)).save(file, "PNG")
    return file.getvalue()
