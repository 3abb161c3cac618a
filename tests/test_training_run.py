"""How the phases of a training end, and how a run goes on."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    QUICK,
    SHORT,
    SMALL,
    TRAIN,
    assert_as_undisturbed,
    assert_refused,
    assert_same_weights,
    copy_of_short_run,
    files_below,
    run,
    run_well,
    short_run,
    snapshot,
)

from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.problem.parts import Schedule
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.training.history import read_history
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.run import Run


def simple_run(folder: Path, loss: Any, n_adam: int = 0, n_lbfgs: int = 200) -> Run:
    """A run whose loss is a function of the flat parameters instead of an equation."""
    problem = PROBLEM.changed(layers=(2, 4, 3), num_domain=40, num_boundary=40)
    model = deepxde_model.build(problem, "corrected", seed=42)
    objective = TrainingLoss(model.pinn, model.train_x)

    def step(params: Any) -> Any:
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        total = loss(torch.cat([p.flatten() for p in leaves.values()]))
        total.backward()
        parts = torch.zeros(len(model.pinn.terms))
        parts[0] = total.detach()
        return parts, {name: p.grad for name, p in leaves.items()}

    objective.step = step
    schedule = Schedule(iterations={"adam": n_adam, "lbfgs": n_lbfgs})
    return Run(objective, folder, schedule, save_seconds=0)


def rosenbrock(p: torch.Tensor) -> torch.Tensor:
    return (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()


def flat(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.loss.network.parameters()])


def test_lbfgs_says_that_it_converged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = simple_run(tmp_path, lambda p: (p - 1).square().sum())
    state = run.train()
    assert state.phase == "done"
    assert f"L-BFGS ended at step {state.step}: converged" in capsys.readouterr().out
    torch.testing.assert_close(flat(run), torch.ones(len(flat(run))))
    assert (tmp_path / f"lbfgs-{state.step}.pt").is_file()
    assert list(tmp_path.glob("lbfgs-*.pt")) == [tmp_path / f"lbfgs-{state.step}.pt"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["loss", "gradient"])
def test_lbfgs_keeps_the_last_good_state_on_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: float, place: str
) -> None:
    run = simple_run(tmp_path, rosenbrock)
    good, count = run.loss.step, itertools.count()
    assert good is not None

    def spoilt(params: Any) -> Any:
        losses, gradients = good(params)
        if next(count) > 100:
            losses = losses * bad if place == "loss" else losses
            factor = bad if place == "gradient" else 1.0
            gradients = {name: g * factor for name, g in gradients.items()}
        return losses, gradients

    run.loss.step = spoilt
    state = run.train()
    printed = capsys.readouterr().out
    assert state.phase == "done"
    assert state.step == 50  # the first block was good
    assert "L-BFGS ended at step 50: " in printed
    undisturbed = simple_run(tmp_path / "undisturbed", rosenbrock, n_lbfgs=50)
    undisturbed.train()
    assert_same_weights(tmp_path / "lbfgs-50.pt", tmp_path / "undisturbed" / "lbfgs-50.pt")


def test_lbfgs_ends_when_it_makes_no_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simple_run(tmp_path, lambda p: 1 + 0 * p.sum())
    before = flat(run)
    state = run.train()
    assert state.phase == "done"
    assert "L-BFGS ended at step" in capsys.readouterr().out
    assert torch.equal(flat(run), before)


@pytest.mark.parametrize("n_adam", [0, 40])
def test_stopping_after_each_save_does_not_change_a_bit(tmp_path: Path, n_adam: int) -> None:
    """Every state that is ever saved leads to the same end: a stop at each, in one process."""
    undisturbed = simple_run(tmp_path / "undisturbed", rosenbrock, n_adam, 300)
    undisturbed.train()
    last = f"lbfgs-{undisturbed.state.step}.pt"
    for _ in range(100):
        run = simple_run(tmp_path / "run", rosenbrock, n_adam, 300)
        run.stop.made = True
        try:
            run.train()
        except KeyboardInterrupt:
            continue
        break
    else:
        raise AssertionError("the run did not end")
    assert_same_weights(tmp_path / "run" / last, tmp_path / "undisturbed" / last)


def test_seconds_add_up_over_sittings(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        run = simple_run(tmp_path, rosenbrock, 0, 300)
        run.stop.made = True
        with pytest.raises(KeyboardInterrupt):
            run.train()
        seconds.append(run.state.seconds)
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_a_library_run_outside_the_main_thread_needs_no_signals(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = simple_run(tmp_path, rosenbrock, 0, 50)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(run.train).result().phase == "done"


@pytest.mark.parametrize("n_steps", [1, 30])
def test_adam_that_overflows_is_an_error(tmp_path: Path, n_steps: int) -> None:
    folder = tmp_path / "run"
    flags = (*SMALL, "--lr", 1e30, "--n_iterations", n_steps, "--save_seconds", 0)
    result = run(TRAIN, *flags, "--save_path", folder, prelude=QUICK)
    assert_refused(result, "Adam gave NaN or infinity before step", "--lr", "--restart")
    assert files_below(folder) == ["config.json", "train_x.npy"]  # no state with NaN


def test_adam_that_overflows_keeps_the_last_good_state(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    prelude = QUICK + (
        "from pinnfluence.training.objective import TrainingLoss\n"
        "import itertools\n"
        "evaluate, count = TrainingLoss.evaluate, itertools.count()\n"
        "def spoilt(self):\n"
        "    loss = evaluate(self)\n"
        "    if next(count) > 20: next(self.network.parameters()).grad[0] = float('nan')\n"
        "    return loss\n"
        "TrainingLoss.evaluate = spoilt\n"
    )
    result = run(TRAIN, *SHORT, "--save_path", folder, prelude=prelude)
    assert_refused(result, "before step 20")
    state = torch.load(folder / "state.pt", weights_only=True)
    assert state["state"]["step"] == 10
    assert all(torch.isfinite(w).all() for w in state["network"].values())
    run_well(TRAIN, *SHORT, "--save_path", folder, prelude=QUICK)
    assert_as_undisturbed(folder, short_run())


def test_a_run_that_goes_on_elsewhere_says_so(tmp_path: Path) -> None:
    folder = copy_of_short_run(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["device"] = "cuda"
    config["versions"]["torch"] = "2.6.0"
    (folder / "config.json").write_text(json.dumps(config))
    result = run_well(TRAIN, *SHORT, "--save_path", folder)
    assert "note: device was cuda, is cpu" in result.stdout
    assert f"note: torch was 2.6.0, is {torch.__version__}" in result.stdout


def test_training_goes_on_from_another_runs_weights(tmp_path: Path) -> None:
    first = tmp_path / "first"
    run_well(TRAIN, *SMALL, "--n_iterations", 20, "--n_iterations_lbfgs", 0, "--save_path", first)
    given = first / "adam-20.pt"
    flags = ("--n_iterations", 0, "--n_iterations_lbfgs", 30, "--dtype", "float64")
    second = tmp_path / "second"
    run_well(TRAIN, *SMALL, *flags, "--start_from", given, "--save_path", second)
    before, after = (read_history(folder / "history.csv") for folder in (first, second))
    assert after["continuity"][0] == pytest.approx(before["continuity"][-1], rel=1e-4)
    again = run_well(TRAIN, *SMALL, *flags, "--start_from", given, "--save_path", second)
    assert "was finished before" in again.stdout
    assert_refused(run(TRAIN, *SMALL, *flags, "--save_path", second), "start_from")
    wide = ("--layers", 2, 9, 3, "--start_from", given, "--save_path", tmp_path / "third")
    assert_refused(run(TRAIN, *SMALL, *wide), "--start_from", "layers")
    assert not (tmp_path / "third").exists()
    missing = ("--start_from", tmp_path / "none.pt", "--restart", "--save_path", second)
    held = snapshot(second)
    assert_refused(run(TRAIN, *SMALL, *missing), "none.pt")
    assert snapshot(second) == held
    itself = ("--start_from", second, "--restart", "--save_path", second)
    run_well(TRAIN, *SMALL, *flags, *itself)
    assert_same_weights(second / "adam-0.pt", next(tmp_path.glob("second.*/lbfgs-30.pt")))
