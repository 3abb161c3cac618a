"""What a run keeps, and what it does with a state, a folder or a neighbour that it cannot trust."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    QUICK,
    SHORT,
    SMALL,
    TRAIN,
    assert_refused,
    assert_same_weights,
    copy_of_short_run,
    files_below,
    run,
    run_well,
    snapshot,
    weights_of,
)

from pinnfluence import MLP, Equation, InputError, Pinn
from pinnfluence.models.deepxde.model import build
from pinnfluence.problem.parts import Schedule
from pinnfluence.problems.heat import PROBLEM
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.run import Run


def set_state(key: str, value: Any) -> Any:
    return lambda content: content["state"].update({key: value})


def set_memory(key: str, value: Any) -> Any:
    return lambda content: content["optimizer"]["state"][0].update({key: value})


def drop(*path: str) -> Any:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def spoil_weight(content: Any) -> None:
    content["network"]["linears.0.weight"][0, 0] = float("nan")


WRONG = {
    "a step below 0": set_state("step", -5),
    "a step that is a word": set_state("step", "many"),
    "a step that is no whole number": set_state("step", 30.5),
    "a step behind the end": set_state("step", 10**9),
    "a phase that began later": set_state("begin", 79),
    "an unknown phase": set_state("phase", "sgd"),
    "a phase that is a number": set_state("phase", 3),
    "rows that are a word": set_state("rows", "none"),
    "rows of words": set_state("rows", [["a"]]),
    "rows of another history": set_state("rows", [[0, 1.0]]),
    "seconds that are a word": set_state("seconds", "long"),
    "seconds that are NaN": set_state("seconds", float("nan")),
    "a message that is a list": set_state("message", []),
    "a field more": set_state("epoch", 3),
    "no step": drop("state", "step"),
    "no phase": drop("state", "phase"),
    "no network": drop("network"),
    "no optimiser": drop("optimizer"),
    "no points": drop("train_x"),
    "a network that is a list": lambda content: content.update(network=[1]),
    "a weight less": drop("network", "linears.0.bias"),
    "a weight that is NaN": spoil_weight,
    "an optimiser that is a word": lambda content: content.update(optimizer="adam"),
    "an optimiser of no kind": lambda content: content.update(optimizer={"a": 1}),
    "another learning rate": lambda c: c["optimizer"]["param_groups"][0].update(lr=1e30),
    "a memory that is a word": set_memory("exp_avg", "none"),
    "a memory of another shape": set_memory("exp_avg", torch.zeros(3)),
    "a memory that is NaN": set_memory("exp_avg_sq", torch.full((6, 2), float("nan"))),
    "no memory of a parameter's step": drop("optimizer", "state", 0, "step"),  # type: ignore[arg-type]
    "a random state that is a number": lambda content: content.update(rng=3),
    "a random state of another length": lambda c: c.update(rng=torch.zeros(3, dtype=torch.uint8)),
    "points that are words": lambda content: content.update(train_x="x"),
    "points of another shape": lambda content: content.update(train_x=torch.zeros(80, 3)),
    "points of one term only": lambda c: c.update(train_x=c["train_x"][-2:]),
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped during Adam."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    prelude = QUICK + (
        "import os\n"
        "from pinnfluence.training.run import Run\n"
        "show = Run._show\n"
        "Run._show = lambda self, bar: [show(self, bar), os.kill(os.getpid(), 15)]\n"
    )
    assert run(TRAIN, *SHORT, "--save_path", folder, prelude=prelude).code == 130
    return folder


@pytest.mark.parametrize("what", WRONG)
def test_a_state_with_wrong_content_is_refused(
    interrupted: Path, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    content = torch.load(folder / "state.pt", weights_only=True)
    assert content["state"]["phase"] == "adam"
    WRONG[what](content)
    torch.save(content, folder / "state.pt")
    before = snapshot(folder)
    result = run(TRAIN, *SHORT, "--save_path", folder)
    assert_refused(result, f"{folder}/state.pt does not hold the state of this run", "--restart")
    assert snapshot(folder) == before


def test_a_finished_state_without_history_is_refused(tmp_path: Path) -> None:
    folder = copy_of_short_run(tmp_path)
    content = torch.load(folder / "state.pt", weights_only=True)
    content["state"]["rows"] = []
    torch.save(content, folder / "state.pt")
    assert_refused(run(TRAIN, *SHORT, "--save_path", folder), "a finished run without a history")


def test_a_damaged_memory_of_lbfgs_is_refused(tmp_path: Path) -> None:
    objective = small_loss()
    schedule = Schedule(iterations={"lbfgs": 100})
    stopped = Run(objective, tmp_path, schedule, save_seconds=0)
    stopped.stop.made = True
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    good = torch.load(tmp_path / "state.pt", weights_only=True)
    Run(small_loss(), tmp_path, schedule)  # goes on
    for key, value in {"d": torch.zeros(2), "n_iter": "many", "old_dirs": [1], "ro": []}.items():
        content = torch.load(tmp_path / "state.pt", weights_only=True)
        content["optimizer"]["state"][0][key] = value
        torch.save(content, tmp_path / "state.pt")
        with pytest.raises(InputError, match="damaged memory"):
            Run(small_loss(), tmp_path, schedule)
        torch.save(good, tmp_path / "state.pt")


def small_loss(n_domain: int = 30) -> TrainingLoss:
    sizes = {"num_domain": n_domain, "num_boundary": 10, "num_initial": 10}
    model = build(PROBLEM.changed(layers=(2, 5, 1), **sizes), "dirichlet", seed=1)
    return TrainingLoss(model.pinn, model.train_x)


@pytest.mark.parametrize("phase", ["adam", "lbfgs", "lm"])
def test_points_that_were_replaced_belong_to_the_state(tmp_path: Path, phase: str) -> None:
    """Steps, other points, steps: with an interruption after them, and without."""
    other = small_loss(50).points
    schedule = Schedule(iterations={phase: 20 if phase == "adam" else 60})
    ends = []
    for name in ("whole", "interrupted"):
        objective = small_loss()
        training = Run(objective, tmp_path / name, schedule, save_seconds=0)
        training.stop.made = True
        for _ in range(4):  # a block of iterations, or the end of a phase without any
            try:
                training.train()
            except KeyboardInterrupt:
                break
        assert training.state.phase == phase
        training.replace_points(other)
        training.save()
        if name == "interrupted":
            training = Run(small_loss(), tmp_path / name, schedule, save_seconds=0)
            assert np.array_equal(training.loss.points, other)
            assert len(training.loss.collocation.x) == len(other)
        training.stop.made = False
        training.train()
        np.testing.assert_array_equal(np.load(tmp_path / name / "train_x.npy"), other)
        ends.append(tmp_path / name / f"{phase}-{training.state.step}.pt")
    assert_same_weights(*ends)


def test_points_without_those_of_a_term_are_refused() -> None:
    objective = small_loss()
    inside = np.full((3, 2), 0.5, np.float32)
    with pytest.raises(InputError, match="found none for boundary, initial"):
        objective.replace_points(inside)
    assert len(objective.points) == 50


def test_the_loss_follows_the_points() -> None:
    objective, other = small_loss(), small_loss(50)
    before = objective.current_terms()
    objective.replace_points(other.points)
    assert torch.equal(objective.current_terms(), other.current_terms())
    assert not torch.equal(objective.current_terms(), before)


def test_data_keep_their_digits_in_float64() -> None:
    """u = 1/3 at one point: the loss of the network 0 is 1/9 to all digits."""
    third = Equation(
        lambda f: {"r": f.u - f.data[:, 0]}, data=lambda x: np.full((len(x), 1), 1 / 3)
    )
    network = MLP((1, 1), "tanh").double()
    torch.nn.init.zeros_(network.linears[0].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(network.linears[0].bias)  # type: ignore[arg-type]
    pinn = Pinn(network, ("x",), ("u",), (third,))
    objective = TrainingLoss(pinn, np.zeros((1, 1), np.float32))
    assert float(objective.evaluate()) == pytest.approx(1 / 9, rel=1e-15)


def test_train_py_keeps_the_digits_of_data(tmp_path: Path) -> None:
    """A target of float64 in the PDE: the loss at step 0 is that of all its digits."""
    prelude = (
        "from pinnfluence import Equation\n"
        "import numpy as np\n"
        "from dataclasses import replace\n"
        "from pinnfluence.problems import heat\n"
        "third = lambda x: np.full((len(x), 1), 1e8 / 3)\n"
        "data = Equation(lambda f: {'third': f.data[:, 0] + 0 * f.u}, data=third, group='data',\n"
        "    on=heat.DOMAIN.at_start)\n"
        "sets = {'dirichlet': (*heat.PROBLEM.conditions['dirichlet'], data)}\n"
        "heat.PROBLEM = replace(heat.PROBLEM, conditions=sets)\n"
    )
    flags = ("--problem", "heat", "--layers", 2, 4, 1, "--compile", "off", "--n_iterations", 0)
    points = ("--num_domain", 20, "--num_boundary", 10, "--num_initial", 10)
    none = ("--n_iterations_lbfgs", 0, "--n_iterations_lm", 0)
    folder = tmp_path / "run"
    run_well(TRAIN, *flags, *points, *none, "--save_path", folder, prelude=prelude)
    state = torch.load(folder / "state.pt", weights_only=True)["state"]
    assert state["rows"][0][4] == pytest.approx((1e8 / 3) ** 2, rel=1e-14)


def test_bars_count_from_0_to_the_end_of_their_phase(tmp_path: Path) -> None:
    steps = ("--n_iterations", 20, "--n_iterations_lbfgs", 10, "--n_iterations_lm", 2)
    stderr = run_well(TRAIN, *SMALL, *steps, "--save_path", tmp_path / "run", prelude=QUICK).stderr
    for title, n in (("Adam", 20), ("L-BFGS", 10), ("Levenberg-Marquardt", 2)):
        lines = [line for line in stderr.splitlines() if line.startswith(f"{title}:")]
        assert f"0/{n} " in lines[0], lines
        assert f"{n}/{n} " in lines[-1], lines


def test_a_phase_has_no_more_iterations_than_its_own(tmp_path: Path) -> None:
    """Though the phase before it ended early."""
    objective = small_loss()
    parameters = dict(objective.network.named_parameters())
    flat_gradients = {name: torch.zeros_like(p) for name, p in parameters.items()}
    terms = torch.ones(3)
    objective.step = lambda params: (terms, flat_gradients)
    schedule = Schedule(iterations={"lbfgs": 100, "lm": 2})
    training = Run(objective, tmp_path, schedule, save_seconds=0)
    assert training.train().step <= 2
    assert {"adam-0.pt", "lbfgs-0.pt"} < set(files_below(tmp_path))
    assert weights_of(tmp_path / "lbfgs-0.pt").keys() == parameters.keys()
