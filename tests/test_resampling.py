"""The sweep of experiments/resampling.py: exact conditions, the same for all, resumable."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
import resampling
import resampling_report as report


@pytest.mark.parametrize("name", resampling.SETUPS)
def test_residuals_of_the_exact_conditions_by_autograd(name: str) -> None:
    setup = resampling.SETUPS[name]
    pinn = resampling.pinn_of(setup, 3)
    x = np.random.default_rng(0).uniform([-1, 0], [1, 1], (15, 2))
    residual = next(iter(pinn.at(x).residuals(pinn.params).values()))
    points = torch.as_tensor(x).requires_grad_()

    def field(at: torch.Tensor) -> torch.Tensor:
        return setup.start["u"](at[:, 0]) + pinn.network(at)[:, 0]

    class Field:
        x, t, u = points[:, 0], points[:, 1], field(points)
        gradient = torch.autograd.grad(u.sum(), points, create_graph=True)[0]
        u_x, u_t = gradient.unbind(1)
        u_xx = torch.autograd.grad(u_x.sum(), points)[0][:, 0]

    expected = next(iter(setup.problem.pde(Field).values()))  # type: ignore[arg-type]
    np.testing.assert_allclose(residual.numpy(), expected.detach().numpy(), rtol=1e-9)
    edge = np.array([[-1.0, 0.3], [1.0, 0.7], [0.2, 0.0], [-0.6, 0.0]])
    u = field(torch.as_tensor(edge)).detach().numpy()
    np.testing.assert_allclose(u, setup.solution(edge)["u"], atol=1e-7)


def test_a_sweep_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resampling, "CYCLES", 1)
    monkeypatch.setattr(resampling, "ITERATIONS", 2)
    monkeypatch.setattr(resampling, "N_CANDIDATES", 100)
    path = tmp_path / "rows.jsonl"
    flags = ["", "--problems", "heat", "--modes", "add", "--seeds", "1", "--results", str(path)]
    monkeypatch.setattr(sys, "argv", flags)
    resampling.main()
    rows = resampling.read(path)
    assert [row["strategy"] for row in rows] == list(resampling.STRATEGIES["add"])
    assert len({row["errors"][0] for row in rows}) == 1  # the same start
    assert len({row["errors"][1] for row in rows}) == len(rows)
    assert {row["strategy"]: row["points"][1] for row in rows} == {
        name: 30 if name == "static" else 35 for name in resampling.STRATEGIES["add"]
    }
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    capsys.readouterr()
    resampling.main()
    assert capsys.readouterr().out.count("\n") == 1
    again = resampling.read(path)
    assert again[-1]["errors"] == rows[-1]["errors"]


def test_factors_are_geometric_means_by_seed() -> None:
    theirs = {0: np.array([1.0, 8.0]), 1: np.array([1.0, 2.0]), 7: np.array([1.0, 5.0])}
    ours = {0: np.array([1.0, 1.0]), 1: np.array([1.0, 1.0])}
    middle, low, high, n = report.factor(theirs, ours)
    assert (middle, n) == (pytest.approx(4.0), 2)
    assert low == pytest.approx(4 / (high / 4))
    rows = [
        {"problem": "heat", "mode": "add", "strategy": name, "seed": seed, "errors": list(errors)}
        for name, found in (("rard", theirs), ("influence", ours))
        for seed, errors in found.items()
    ]
    assert f"| heat, add | rard | 4.31e+00 | 4.00 [{low:.2f}, {high:.2f}] | 3 |" in report.table(
        rows
    )
    assert len(report.figure(rows).axes) == 1
    report.plt.close("all")
