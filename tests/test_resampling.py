"""The sweep of experiments/resampling.py: exact conditions, the same for all, resumable."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import Tensor

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.field.field import Field
from pinnfluence.loss.loss import Loss
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt

sys.path.insert(0, str(ROOT / "experiments"))
import resampling
import resampling_report as report
from small_network import SmallNetwork, train


def by_torch(network: SmallNetwork, points: Tensor, theta: Tensor) -> Tensor:
    """u of the same network, by PyTorch."""
    x, t = points.unbind(1)
    columns = [torch.cos(x), torch.sin(x)] if network.equation.periodic else [x]
    h = torch.stack([*columns, t / network.equation.time], 1)
    start = 0
    for number, (n_out, n_in) in enumerate(network.shapes):
        W = theta[start : start + n_out * n_in].view(n_out, n_in)
        start += n_out * n_in + n_out
        h = h @ W.T + theta[start - n_out : start]
        h = torch.tanh(h) if number < 2 else h
    place, time = points.detach().numpy().T
    u0 = {
        "heat": lambda: torch.sin(math.pi * x),
        "burgers": lambda: -torch.sin(math.pi * x),
        "allen_cahn": lambda: x**2 * torch.cos(math.pi * x),
        "drift_diffusion": lambda: torch.sin(math.pi / 4 + 2 * x),
    }
    periodic = network.equation.periodic
    factor = 1 - torch.exp(-t / resampling.DECAY) if periodic else t * (1 - x**2)
    np.testing.assert_allclose(factor.detach(), network.equation.factor(place, time)[0])
    name = next(n for n, s in resampling.SETUPS.items() if s.equation is network.equation)
    return u0[name]() + factor * h[:, 0]


@pytest.mark.parametrize("name", resampling.SETUPS)
def test_residuals_and_gradients_by_autograd(name: str) -> None:
    setup = resampling.SETUPS[name]
    network = SmallNetwork(setup.equation, 5, 3)
    network.theta += 0.1 * np.random.default_rng(1).standard_normal(len(network.theta))
    x = setup.draw("pseudo")(12, 0).astype(float)
    points, theta = (torch.tensor(a, requires_grad=True) for a in (x, network.theta))

    class Field:
        x, t, u = points[:, 0], points[:, 1], by_torch(network, points, theta)
        gradient = torch.autograd.grad(u.sum(), points, create_graph=True)[0]
        u_x, u_t = gradient.unbind(1)
        u_xx = torch.autograd.grad(u_x.sum(), points, create_graph=True)[0][:, 0]

    expected = next(iter(setup.problem.pde(Field).values()))  # type: ignore[arg-type]
    r, gradients = network.rows(x)
    np.testing.assert_allclose(r, expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    by_row = [torch.autograd.grad(e, theta, retain_graph=True)[0].numpy() for e in expected]
    np.testing.assert_allclose(gradients, by_row, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(network.values(x), Field.u.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", resampling.SETUPS)
def test_conditions_hold_whatever_the_parameters_are(name: str) -> None:
    setup = resampling.SETUPS[name]
    low, high = (0.0, 2 * math.pi) if setup.equation.periodic else (-1.0, 1.0)
    edge = np.array([[low, 0.3], [high, 0.3], [0.2, 0.0], [0.6, 0.0]])
    u, exact = SmallNetwork(setup.equation, 5, 1).values(edge), setup.solution(edge)["u"]
    np.testing.assert_allclose(u[2:], exact[2:], atol=1e-7)
    if setup.equation.periodic:
        assert u[0] == pytest.approx(u[1])
    else:
        np.testing.assert_allclose(u[:2], exact[:2], atol=1e-7)


@pytest.mark.parametrize("n", [10, 60])
def test_training_is_that_of_the_package(n: int) -> None:
    """With fewer points than parameters, and with more."""
    setup = resampling.SETUPS["heat"]
    small = SmallNetwork(setup.equation, 5, 0)
    network = MLP((2, 5, 5, 1), "tanh", envelope=lambda x: (x[:, 1] * (1 - x[:, 0] ** 2))[:, None])
    torch.nn.utils.vector_to_parameters(torch.tensor(small.theta), network.double().parameters())

    def heat(f: Field) -> dict[str, Tensor]:
        start = math.pi**2 * torch.sin(math.pi * f.x)
        source = (math.pi**2 - 1) * torch.exp(-f.t) * torch.sin(math.pi * f.x)
        return {"heat": f.u_t - f.u_xx + start - source}

    points = setup.draw("Hammersley")(n, 0)
    pinn = Pinn(network, ("x", "t"), ("u",), (Equation(heat),))
    theirs = LevenbergMarquardt(Loss.of_training(pinn.at(points)), 1e-2)
    for _ in range(6):
        assert theirs.step()
    damping = train(small, points.astype(float), 6, 1e-2)
    expected = torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()
    np.testing.assert_allclose(small.theta, expected, rtol=1e-6, atol=1e-8)
    assert damping == pytest.approx(theirs.damping, rel=1e-6)


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
    middle, low, high, n = report.factor(theirs, ours, slice(-1, None))
    assert (middle, n) == (pytest.approx(4.0), 2)
    assert low == pytest.approx(4 / (high / 4))
    rows = [
        {"problem": "heat", "mode": "add", "strategy": name, "seed": seed, "errors": list(errors)}
        for name, found in (("rard", theirs), ("influence", ours))
        for seed, errors in found.items()
    ]
    assert f"| heat, add | rard | 4.31e+00 | 4 [{low:.2g}, {high:.2g}] |" in report.table(rows)
    assert len(report.figure(rows).axes) == 1
    report.plt.close("all")
