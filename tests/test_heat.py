"""The heat problem: its points, terms and residuals, its reference, and both scripts on it."""

import functools
import json
from pathlib import Path
from typing import Any

import deepxde as dde
import numpy as np
import pytest
import torch
from helpers import CALC, TRAIN, assert_refused, files_below, history_of, run, run_well
from torch import Tensor, nn

import pinnfluence
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models import report as model_report
from pinnfluence.models.deepxde.model import PinnModel, build
from pinnfluence.problems.heat import PROBLEM, reference, solution
from pinnfluence.reference.grid import on_grid
from pinnfluence.training.loss_step import loss_step
from pinnfluence.training.run_folder import ADDED

SMALL = (
    *("--problem", "heat", "--layers", 2, 6, 6, 1, "--compile", "off", "--threads", 1),
    *("--num_domain", 60, "--num_boundary", 20, "--num_initial", 20),
)


@functools.cache
def model(variant: str) -> PinnModel:
    return build(PROBLEM.variant(variant), "dirichlet", seed=42)


def plain_deepxde(num_domain: int, num_boundary: int, num_initial: int) -> Any:
    """The same problem as one writes it with DeepXDE alone."""
    dde.config.set_random_seed(42)
    space = dde.geometry.Interval(0, 1)
    domain = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))

    def pde(x: Tensor, u: Tensor) -> Tensor:
        u_t, u_xx = dde.grad.jacobian(u, x, j=1), dde.grad.hessian(u, x, i=0, j=0)
        source = torch.exp(-x[:, 1:]) * torch.sin(np.pi * x[:, :1]) * (np.pi**2 - 1)
        return u_t - u_xx - source

    ends = dde.icbc.DirichletBC(domain, lambda x: 0, lambda x, on_boundary: on_boundary)
    start = dde.icbc.IC(domain, lambda x: np.sin(np.pi * x[:, :1]), lambda x, on: on)
    return dde.data.TimePDE(domain, pde, [ends, start], num_domain, num_boundary, num_initial)


@pytest.mark.parametrize(("variant", "sizes"), [("good", (1000, 100, 100)), ("bad", (10, 2, 2))])
def test_points_are_those_of_plain_deepxde(variant: str, sizes: tuple[int, int, int]) -> None:
    expected, found = plain_deepxde(*sizes), model(variant)
    assert found.train_x.dtype == np.float32
    assert found.train_x.shape == (sum(sizes), 2)
    np.testing.assert_array_equal(found.train_x, expected.train_x_all)
    np.testing.assert_array_equal(found.data.train_x, expected.train_x)
    assert found.data.num_bcs == expected.num_bcs == [sizes[1], sizes[2]]


@pytest.mark.parametrize("variant", PROBLEM.variants)
def test_terms_act_on_their_points(variant: str) -> None:
    """Initial points come first, then those of the boundary; the PDE acts on all."""
    found = model(variant)
    rows = found.pinn.at(found.train_x).term_rows()
    n_initial, n_boundary = PROBLEM.variant(variant).sampling.num_initial, len(rows["boundary"])
    np.testing.assert_array_equal(rows["initial"], np.arange(n_initial))
    np.testing.assert_array_equal(rows["boundary"], n_initial + np.arange(n_boundary))
    np.testing.assert_array_equal(rows["heat"], np.arange(len(found.train_x)))
    assert found.pinn.groups == {
        "pde": ["heat"],
        "bcs": ["boundary", "initial"],
        "all": ["heat", "boundary", "initial"],
    }


def test_losses_are_deepxdes_own() -> None:
    built = model("good")
    plain = dde.Model(plain_deepxde(1000, 100, 100), built.net)
    plain.compile("adam", lr=1e-3, verbose=0)
    data = plain.data
    expected = plain.outputs_losses_train(data.train_x, data.train_y, data.train_aux_vars)[1]
    step = loss_step(built.pinn.at(built.train_x), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(step(built.pinn.params)[0], expected.detach(), rtol=1e-4, atol=0)


class Exact(nn.Module):
    """A field of x and t, with one parameter that is never used."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.function = function

    def forward(self, points: Tensor) -> Tensor:
        x, t = points[:, :1], points[:, 1:]
        return self.function(x, t)


def residuals_of(function: Any) -> tuple[dict[str, Tensor], np.ndarray, dict[str, np.ndarray]]:
    x = model("good").train_x
    equations = PROBLEM.equations("dirichlet")
    at = Pinn(Exact(function), PROBLEM.inputs, PROBLEM.outputs, equations).at(x)
    return at.residuals(at.pinn.params), x.astype(np.float64), at.term_rows()


def test_the_exact_solution_has_no_residual() -> None:
    found, _, _ = residuals_of(lambda x, t: torch.exp(-t) * torch.sin(np.pi * x))
    assert list(found) == ["heat", "boundary", "initial"]
    for name, residual in found.items():
        assert residual.abs().max() < 1e-14, name


def test_residuals_by_hand() -> None:
    found, points, rows = residuals_of(lambda x, t: t * x**2)
    x, t = points.T
    source = (np.pi**2 - 1) * np.exp(-t) * np.sin(np.pi * x)
    expected = {"heat": x**2 - 2 * t - source, "boundary": t * x**2, "initial": -np.sin(np.pi * x)}
    for name, residual in found.items():
        np.testing.assert_allclose(residual, expected[name][rows[name]], atol=1e-12, err_msg=name)


def test_the_reference_is_the_exact_solution_on_a_grid() -> None:
    found = reference()
    x, t = found.points.astype(np.float64).T
    assert found.points.shape == (101 * 101, 2)
    assert PROBLEM.domain.excess(found.points).max() <= 0
    np.testing.assert_allclose(found.values["u"], np.exp(-t) * np.sin(np.pi * x), atol=1e-7)
    assert found.area.sum() == pytest.approx(1, rel=1e-6)
    integral = 2 / np.pi * (1 - np.exp(-1))
    assert found.area @ found.values["u"] == pytest.approx(integral, rel=2e-4)


def test_grids_integrate_linear_functions_exactly_whatever_their_steps() -> None:
    axes = (np.array([0.0, 0.1, 0.5, 2.0]), np.array([-1.0, 0.0, 3.0]))
    grid = on_grid(lambda x: {"u": 1 + 2 * x[:, 0] - x[:, 1]}, axes)
    assert grid.area @ grid.values["u"] == pytest.approx(8 + 2 * 8 - 8, rel=1e-6)


@functools.cache
def trained(folder: Path) -> Path:
    steps = ("--n_iterations", 40, "--n_iterations_lbfgs", 0, "--n_iterations_lm", 12)
    run_well(TRAIN, *SMALL, *steps, "--dtype", "float64", "--save_path", folder)
    return folder


@pytest.fixture(scope="module")
def heat_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("heat") / "heat")


def test_training(heat_run: Path) -> None:
    names, rows = history_of(heat_run)
    assert names == ["step", "heat", "boundary", "initial", "error_u", "seconds"]
    assert rows[-1, 4] < 0.1 < rows[0, 4]
    assert rows[-1, 1:4].sum() < 1e-3 * rows[0, 1:4].sum()
    config = json.loads((heat_run / "config.json").read_text())
    assert {key: config[key] for key in ("problem", "num_initial", "activation")} == {
        "problem": "heat",
        "num_initial": 20,
        "activation": "tanh",
    }
    trained_model = pinnfluence.load_model(heat_run)
    predicted = trained_model.predict(trained_model.train_x)["u"]
    exact = solution(trained_model.train_x)["u"]
    error = np.sqrt(np.mean((predicted - exact) ** 2) / np.mean(exact**2))
    assert error == pytest.approx(rows[-1, 4], rel=0.9)


def test_report(heat_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_report.main([str(heat_run)])
    printed = capsys.readouterr().out
    error = history_of(heat_run)[1][-1, 4]
    assert "| training points | 100 |" in printed
    assert f"| relative L2 error: u | {100 * error:.2f} % |" in printed
    assert "speed" not in printed


def test_influence_at_the_points_of_the_reference(heat_run: Path, tmp_path: Path) -> None:
    """Scores are those of the engine, in memory, from an own solve with the dense Hessian."""
    flags = ("--rank", 5, "--threads", 1, "--save_path", tmp_path)
    result = run_well(CALC, "--checkpoint", heat_run, *flags)
    assert "assumed" not in result.stdout
    scores = pinnfluence.load_scores(tmp_path)
    np.testing.assert_array_equal(scores.test_x, reference().points)
    assert set(scores) == {"u", "heat", "boundary", "initial", "pde", "bcs", "all"}
    assert scores["u"].shape == (101 * 101, 100)
    rows = np.arange(0, 101 * 101, 997)
    direct = by_hand(pinnfluence.load_model(heat_run), reference().points[rows], rank=5)
    np.testing.assert_allclose(scores["u"][rows], direct, rtol=1e-3, atol=1e-3 * direct.std())


def by_hand(trained_model: pinnfluence.TrainedModel, test_x: np.ndarray, rank: int) -> np.ndarray:
    """``grad u . V Lambda^-1 V^T . grad l`` with the dense Hessian of the summed squares."""
    pinn = trained_model.pinn
    names, shapes = list(pinn.params), [p.shape for p in pinn.params.values()]
    theta = torch.cat([p.flatten() for p in pinn.params.values()])
    train, test = pinn.at(trained_model.train_x), pinn.at(test_x, [pinn.observables])

    def unflatten(theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split([shape.numel() for shape in shapes])
        return {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}

    def losses(theta: Tensor) -> Tensor:
        residuals, rows = train.residuals(unflatten(theta)), train.term_rows()
        total = torch.zeros(len(train.x), dtype=theta.dtype)
        for name, r in residuals.items():
            total = total.index_add(0, torch.as_tensor(rows[name]), r**2)
        return total

    hessian = torch.autograd.functional.hessian(lambda p: losses(p).sum(), theta)
    values, vectors = torch.linalg.eigh(hessian + 1e-6 * torch.eye(len(theta)))
    values, vectors = values[-rank:], vectors[:, -rank:]
    left = torch.autograd.functional.jacobian(lambda p: test.residuals(unflatten(p))["u"], theta)
    right = torch.autograd.functional.jacobian(losses, theta)
    return ((left @ vectors / values) @ (right @ vectors).T).numpy()


def test_runs_bear_the_names_of_problem_and_variant(tmp_path: Path) -> None:
    flags = ("--problem", "heat", "--n_iterations", 0, "--n_iterations_lbfgs", 0)
    points = ("--num_domain", 10, "--num_boundary", 2, "--num_initial", 2)
    run_well(TRAIN, *flags, *points, "--n_iterations_lm", 0, cwd=tmp_path)
    assert "runs/heat_bad/adam-0.pt" in files_below(tmp_path)
    config = json.loads((tmp_path / "runs" / "heat_bad" / "config.json").read_text())
    assert (config["variant"], config["num_initial"]) == ("bad", 2)
    own = ("n_iterations", "n_iterations_lbfgs", "n_iterations_lm", "lr", "dtype")
    assert [config[key] for key in own] == [0, 0, 0, 1e-3, "float64"]  # flags, then the problem's


def test_without_flags_a_problem_is_trained_as_it_says(tmp_path: Path) -> None:
    prelude = (
        "from pinnfluence.problems import heat\n"
        "changes = {'iterations': {'adam': 3, 'lm': 1}, 'lr': 0.1, 'dtype': 'float32'}\n"
        "heat.PROBLEM = heat.PROBLEM.changed(**changes)\n"
    )
    run_well(TRAIN, *SMALL, "--save_path", tmp_path / "run", prelude=prelude)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {key: config[key] for key in ("lr", "dtype")} == {"lr": 0.1, "dtype": "float32"}
    assert {"adam-3.pt", "lm-4.pt"} <= set(files_below(tmp_path / "run"))


def test_runs_from_before_problems_had_a_time_had_no_initial_points() -> None:
    assert ADDED["num_initial"] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--layers", 2, 4, 3), ("begin with 2 inputs and end with 1 outputs",)),
        (("--num_initial", 0), ("loss term initial acts on none of", "or --num_initial")),
        (("--num_boundary", 0), ("loss term boundary acts on none of 60 domain, 0 boundary and",)),
        (("--num_initial", -1), ("num_initial must be from 0 to", "found -1")),
        (("--broken",), ("heat has no variant 'broken', expected one of good, bad",)),
        (("--conditions", "corrected"), ("no conditions 'corrected', expected one of dirichlet",)),
    ],
)
def test_bad_flags_are_refused(tmp_path: Path, flags: tuple[Any, ...], words: Any) -> None:
    assert_refused(run(TRAIN, *SMALL, *flags, "--save_path", tmp_path / "run"), *words)
    assert files_below(tmp_path) == []


def test_points_outside_of_space_or_time_are_refused(heat_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.5, 0.5], [0.5, 1.5], [-0.25, 0.0]], np.float32))
    flags = ("--test_x_path", tmp_path / "x.npy", "--save_path", tmp_path / "scores")
    result = run(CALC, "--checkpoint", heat_run, *flags)
    assert_refused(result, "2 of 3 points lie outside", "row 1 (0.5, 1.5), 0.5 away")


def test_scores_are_those_of_the_same_model_in_plain_deepxde() -> None:
    own = model("bad")
    plain = dde.Model(plain_deepxde(10, 2, 2), own.net)
    for each in (own, plain):
        each.compile("adam", lr=1e-3, verbose=0)
    test_x = reference().points[::1000]
    found, expected = (pinnfluence.Influence(each).scores(test_x, "u") for each in (own, plain))
    np.testing.assert_allclose(found[:], expected[:], rtol=1e-4, atol=1e-4 * expected[:].std())
