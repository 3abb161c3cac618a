"""Early stopping: the loss at fresh points ends a phase, and the weights of the least are kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TRAIN, assert_refused, assert_same_weights, history_of, run, run_well

from pinnfluence import InputError
from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.model import build, geometry
from pinnfluence.problem.parts import Schedule
from pinnfluence.problems.heat import PROBLEM
from pinnfluence.samplers.sampler import Sampler
from pinnfluence.training.early_stopping import EarlyStopping
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.run import Run

SIZES = {"num_domain": 10, "num_boundary": 2, "num_initial": 4}
FLAGS = ("--problem", "heat", "--layers", 2, 8, 8, 1, "--dtype", "float64", "--compile", "off")
FEW = (*FLAGS, "--num_domain", 10, "--num_boundary", 2, "--num_initial", 4)
LM = ("--n_iterations", 0, "--n_iterations_lbfgs", 0, "--n_iterations_lm", 80)


def fresh_points() -> np.ndarray:
    """Points of all terms, as they would be drawn by hand."""
    rng = np.random.default_rng(5)
    inside = rng.random((200, 2))
    wall, start = inside[:40].copy(), inside[40:80].copy()
    wall[:, 0], start[:, 1] = np.arange(40) % 2, 0
    return np.concatenate([inside, wall, start]).astype(np.float32)


def small_run(folder: Path, patience: int, n: int = 200, sampled: bool = False) -> Run:
    model = build(PROBLEM.changed(layers=(2, 8, 8, 1), **SIZES), "dirichlet", seed=1)
    model.pinn.network.double()
    draw = drawing(geometry(PROBLEM.domain), INSIDE, "pseudo")
    sampler = Sampler("rard", draw, 7, n=1, n_candidates=50) if sampled else None
    early = EarlyStopping(model.pinn, fresh_points(), patience)
    loss = TrainingLoss(model.pinn, model.train_x)
    return Run(loss, folder, Schedule({"lm": n}), 0, sampler=sampler, early=early)


def loss_by_hand(network: torch.nn.Module, points: np.ndarray) -> float:
    """The heat equation's loss, by autograd, written out."""
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    u = network(x)[:, 0]
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (bent,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
    source = (np.pi**2 - 1) * torch.exp(-x[:, 1]) * torch.sin(np.pi * x[:, 0])
    equation = slope[:, 1] - bent[:, 0] - source
    wall = np.isclose(points[:, 0], 0) | np.isclose(points[:, 0], 1)
    start = np.isclose(points[:, 1], 0)
    at_start = (u - torch.sin(np.pi * x[:, 0]))[torch.tensor(start)]
    terms = (equation, u[torch.tensor(wall)], at_start)
    return sum(float(term.detach().square().mean()) for term in terms)


def test_the_weights_of_the_least_loss_at_fresh_points_are_kept(tmp_path: Path) -> None:
    """Sixteen points and 105 parameters: the loss falls to rounding, that between them rises."""
    training = small_run(tmp_path, patience=10)
    state = training.train()
    history, rows = history_of(tmp_path)
    fresh = rows[:, history.index("fresh_loss")]
    known = np.isfinite(fresh)
    best = int(rows[known, 0][fresh[known].argmin()])
    assert 0 < best < state.step
    assert state.step == best + 10  # LM looks at fresh points after each ten iterations
    assert [path.name for path in tmp_path.glob("lm-*.pt")] == [f"lm-{best}.pt"]
    kept = torch.load(tmp_path / f"lm-{best}.pt", weights_only=True)["model_state_dict"]
    training.loss.network.load_state_dict(kept)
    by_hand = loss_by_hand(training.loss.network, fresh_points())
    np.testing.assert_allclose(fresh[known].min(), by_hand, rtol=1e-8)  # nine digits in the file
    last = torch.load(tmp_path / "state.pt", weights_only=True)
    assert last["best"]["step"] == best
    assert rows[-1, 1:4].sum() < rows[rows[:, 0] == best, 1:4].sum()


def test_points_of_a_sampler_go_back_with_the_weights(tmp_path: Path) -> None:
    training = small_run(tmp_path, patience=10, sampled=True)
    training.train()
    assert training.early is not None
    assert training.early.best is not None
    step = training.early.best.step
    assert step < training.state.step
    points = np.load(tmp_path / "train_x.npy")
    assert len(points) == len(small_run(tmp_path / "new", 20).loss.points) + (step - 1) // 7
    _, rows = history_of(tmp_path)
    (row,) = rows[rows[:, 0] == step]
    by_hand = loss_by_hand(training.loss.network, points)
    np.testing.assert_allclose(row[1:4].sum(), by_hand, rtol=1e-6)


def test_without_a_rise_all_iterations_are_made(tmp_path: Path) -> None:
    assert small_run(tmp_path, patience=1000, n=20).train().step == 20


@pytest.mark.parametrize("sampled", [False, True])
def test_interruptions_do_not_change_a_bit(tmp_path: Path, sampled: bool) -> None:
    small_run(tmp_path / "whole", 20, sampled=sampled).train()
    for n_stops in range(30):
        training = small_run(tmp_path / "interrupted", 20, sampled=sampled)
        training.stop.made = n_stops < 29
        try:
            training.train()
        except KeyboardInterrupt:
            continue
        break
    (path,) = (tmp_path / "whole").glob("lm-*.pt")
    assert_same_weights(tmp_path / "interrupted" / path.name, path)
    folders = tmp_path / "interrupted", tmp_path / "whole"
    x, expected_x = (np.load(folder / "train_x.npy") for folder in folders)
    np.testing.assert_array_equal(x, expected_x)
    rows, expected = (history_of(folder)[1][:, :-1] for folder in folders)
    np.testing.assert_array_equal(rows, expected)


def test_the_flag(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    flags = (*FEW, *LM, "--save_path", folder)
    result = run_well(TRAIN, *flags, "--patience", 20)
    (name,) = (path.stem for path in folder.glob("lm-*.pt"))
    step = name.removeprefix("lm-")
    assert f"was least at step {step}, whose weights and points are kept" in result.stdout
    assert f" at step {step}, " in result.stdout.splitlines()[-1]
    assert_refused(run(TRAIN, *flags), "patience = 20, found None")
    again = run_well(TRAIN, *flags, "--patience", 20)
    assert again.stdout.splitlines()[-1].removeprefix("was finished before,") == (
        result.stdout.splitlines()[-1].removeprefix("finished")
    )


def test_refusals(tmp_path: Path) -> None:
    for patience in (0, -3):
        with pytest.raises(InputError, match=f"patience of at least 1 iteration, found {patience}"):
            small_run(tmp_path, patience)
    model = build(PROBLEM.changed(layers=(2, 4, 1), **SIZES), "dirichlet", seed=1)
    with pytest.raises(InputError, match="no fresh point for loss term initial"):
        EarlyStopping(model.pinn, np.array([[0.5, 0.5], [0, 0.5]], np.float32), 5)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("fresh_loss", float("nan"), "a fresh loss of nan"),
        ("step", 10**6, "best weights of step 1000000"),
        ("network", {}, "another network"),
        ("train_x", None, "best weights without points"),
    ],
)
def test_damaged_best_weights(tmp_path: Path, part: str, value: Any, words: str) -> None:
    small_run(tmp_path, 20, n=10).train()
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    content["best"][part] = value
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(InputError, match=words):
        small_run(tmp_path, 20, n=10)
