"""Tables and figures of the sweep: numbers by hand, and the committed ones in the notebook."""

import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "experiments"))

import sweep_figures  # noqa: E402
import sweep_report as report  # noqa: E402


def network(problem, variant, seed, error, estimated):
    numbers = {
        "error": error,
        "estimated": estimated,
        "at_least": 0.9 * error,
        "reliable": 1.0,
        "loss": error / 2,
        "fresh_loss": error,
    }
    names = {"problem": problem, "variant": variant, "seed": str(seed), "quantity": "u"}
    return names | {k: str(v) for k, v in (numbers | {"n_train": 9, "n_params": 5}).items()}


def indicator(variant, seed, name, part, value):
    names = {"problem": "heat", "variant": variant, "seed": str(seed), "recipe": "paper"}
    values = {"value": str(value), "uniform": "0.4"}
    return names | {"quantity": "u", "indicator": name, "part": part} | values


@pytest.fixture
def tables():
    networks = [
        *(network("heat", "good", seed, e, 2 * e) for seed, e in enumerate((0.1, 0.2))),
        *(network("heat", "bad", seed, e, e) for seed, e in enumerate((0.15, 0.5))),
    ]
    eta = {("good", 0): 0.3, ("good", 1): 0.5, ("bad", 0): 0.2, ("bad", 1): 0.3}
    rows = [indicator(*key, "direction", "t", value) for key, value in eta.items()]
    for part, value in {"heat": 0.5, "initial": 0.2, "boundary": 0.3}.items():
        rows.append(indicator("good", 0, "loss fraction", part, value))
    return report.Tables(networks, rows, [])


def test_auc():
    assert report.auc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == 0.75
    assert report.auc(np.array([1.0]), np.array([1.0])) == 0.5
    assert np.isnan(report.auc(np.array([]), np.array([1.0])))


def test_separation_and_rank(tables):
    found = report.separation(tables)
    assert found["estimated error"]["heat"] == 0.5  # 0.15 > neither, 0.5 > both
    assert found["direction, paper"]["heat"] == (0 + 0.5) / 4
    # errors 0.1, 0.2, 0.15, 0.5; estimates 0.2, 0.4, 0.15, 0.5
    assert report.rank_with_error(tables)["estimated error"] == pytest.approx(0.8)


def test_conditions_are_all_terms_but_the_equation(tables):
    key = ("loss fraction", report.CONDITIONS)
    assert tables.of_indicator(key, "paper", "heat", "good") == {"0": 0.5}


def test_mean_and_deviation(tables):
    line = report.direction_table(tables).splitlines()[2]
    assert "| 0.40 ± 0.14 | 0.25 ± 0.07 |" in line
    assert "0.33(2), 0.26(6)" in line
    assert sweep_figures.in_numbers("0.33(2)") == (0.33, pytest.approx(0.02))


def test_the_notebook_draws_the_committed_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PINNFLUENCE_FIGURES", str(tmp_path))
    monkeypatch.chdir(ROOT)
    cells = nbformat.read(ROOT / "sweep.ipynb", as_version=4).cells
    exec("\n".join(cell.source for cell in cells if cell.cell_type == "code"), {})
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    committed = report.Tables.read()
    for problem in ("heat", "burgers", "drift_diffusion", "poisson_disk", "allen_cahn"):
        for variant in ("good", "bad"):
            assert len(committed.of_networks("error", problem, variant)) >= 5
