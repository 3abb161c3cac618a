"""Notebooks of the repository, executed as a user does, but for the pixels of their pictures."""

import os
from pathlib import Path

import nbformat
import pytest
from helpers import ROOT
from nbclient import NotebookClient

COARSE = """
from pinnfluence.plots import drawing
drawing.save.__defaults__ = (60,)
png = drawing.render
drawing.render = lambda figure, form, dpi: png(figure, form, dpi) if form == "png" else b"%PDF"
"""
"""A cell before the first: pictures of few pixels, once each (``test_plots.py`` is about PDF)."""


def executed(notebook: Path, **environment: object) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells."""
    cells = nbformat.read(notebook, as_version=4)
    cells.cells.insert(0, nbformat.v4.new_code_cell(COARSE))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": os.pathsep.join(paths)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, str(value))
        NotebookClient(cells, timeout=240, resources={"metadata": {"path": ROOT}}).execute()
    return cells


def printed_in(notebook: nbformat.NotebookNode) -> str:
    """All that the cells printed."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)
