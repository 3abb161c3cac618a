"""The cells of validation.ipynb, run on a small network that was retrained without points."""

import re
import shutil
from pathlib import Path

import nbformat
import notebooks
import numpy as np
import pytest
from helpers import run_well

from pinnfluence.validation.results import HEADLINE, SPECTRUM, read

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "validation.ipynb"
SMALL = ("--problem", "heat", "--layers", 2, 6, 6, 1, "--compile", "off", "--threads", 1)
SIZES = ("--num_domain", 40, "--num_boundary", 10, "--num_initial", 10)
STEPS = ("--n_iterations", 100, "--n_iterations_lbfgs", 100, "--n_iterations_lm", 20)
FIGURES = (
    *("scatter", "agreement", "spectrum_u", "proximal_u", "proximal_u_table"),
    *("points_u", "worst_u", "stages"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Results of one problem at two stages, as a user makes them."""
    base = tmp_path_factory.mktemp("runs")
    model = base / "heat"
    flags = (*SMALL, *SIZES, *STEPS, "--dtype", "float64")
    run_well(ROOT / "train.py", *flags, "--save_path", model)
    removed = ("--removed", 12, "--test_points", 20, "--processes", 1, "--polish", 1e-3)
    run_well(
        ROOT / "validate.py",
        *("--checkpoint", model, *removed, "--proximal", 1e-1, 1e-3, "--full"),
    )
    run_well(
        ROOT / "validate.py",
        *("--checkpoint", model / "lbfgs-200.pt", *removed, "--proximal", 1e-2),
        *("--save_path", base / "heat_validation_early"),
    )
    return base


def execute(base, figures):
    return notebooks.executed(NOTEBOOK, PINNFLUENCE_VALIDATION=base, PINNFLUENCE_FIGURES=figures)


def test_one_problem_is_enough(base, tmp_path):
    printed = execute(base, tmp_path)
    found = read(base / "heat_validation" / HEADLINE)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"validation_heat_{name}.png" for name in FIGURES
    }
    norm = f"{np.median(found.gradient_norms):.1e}"
    reached = f"{found.converged.sum()} of 12 retrainings converged (median gradient norm {norm})"
    assert f"{reached}, 20 test points" in printed
    assert "mu 0.001" in printed
    assert re.search(r"heat, u: relative error against leverage: Spearman -?\d\.\d\d", printed)
    methods = {row.method for row in found.rows}
    assert {"captum Arnoldi, uniform", "captum Arnoldi, training", SPECTRUM} <= methods


def test_a_study_without_spectra_makes_sense(base, tmp_path):
    shutil.copytree(base / "heat_validation_early", tmp_path / "flow_validation")
    printed = execute(tmp_path, tmp_path / "figures")
    assert "flow: no spectra" in printed
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"validation_flow_{name}.png" for name in FIGURES if name != "spectrum_u"
    }


def test_the_notebook_is_short():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) <= 10
    assert NOTEBOOK.stat().st_size < 6e6
