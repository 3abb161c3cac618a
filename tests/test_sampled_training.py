"""train.py --sampler: points belong to the state, whatever the phase and the interruption."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    QUICK,
    TRAIN,
    assert_as_undisturbed,
    assert_refused,
    assert_same_weights,
    files_below,
    history_of,
    kill,
    run,
    run_well,
    snapshot,
)

from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.model import build, geometry
from pinnfluence.problem.parts import Schedule
from pinnfluence.problems import cylinder_flow
from pinnfluence.problems.heat import PROBLEM
from pinnfluence.samplers.by_influence import ByInfluence
from pinnfluence.samplers.flags import SETTINGS, sampler_of
from pinnfluence.samplers.sampler import Sampler
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.run import Run

POINTS = ("--num_domain", 20, "--num_boundary", 10, "--num_initial", 10)
PHASES = ("--n_iterations", 60, "--n_iterations_lbfgs", 45, "--n_iterations_lm", 12)
FLAGS = ("--problem", "heat", "--layers", 2, 6, 1, "--compile", "off", *POINTS, *PHASES)
ADDS = ("--sampler", "rard", "--sampler_every", 7, "--sampler_points", 3)
INFLUENCE = ("--sampler", "influence", *ADDS[2:])
REPLACES = ("--sampler", "r3", "--sampler_every", 7)


@pytest.mark.parametrize("sampler", [ADDS, REPLACES], ids=["rard", "r3"])
def test_kills_do_not_change_a_bit(tmp_path: Path, sampler: tuple[Any, ...]) -> None:
    flags = (*FLAGS, *sampler, "--save_seconds", 0)
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    output = run_well(TRAIN, *flags, "--save_path", undisturbed, prelude=QUICK).stdout
    assert (undisturbed / "lm-117.pt").is_file()
    steps = [int(line.split()[1][:-1]) for line in output.splitlines() if line.startswith("step ")]
    assert steps == [*range(7, 60, 7), *range(67, 105, 7), 112]
    seconds = history_of(undisturbed)[1][-1, -1]
    for first in ("state.pt", "lbfgs-105.pt") if sampler == ADDS else ("adam-60.pt",):
        kill(folder, 1, flags, folder / first, 0.3 * float(seconds), QUICK)
    run_well(TRAIN, *flags, "--save_path", folder, prelude=QUICK)
    assert_as_undisturbed(folder, undisturbed)
    assert_same_weights(folder / "lm-117.pt", undisturbed / "lm-117.pt")


@pytest.mark.parametrize(
    ("sampler", "n_points"),
    [(ADDS, 40 + 3 * 15), (REPLACES, 40), ((*REPLACES, "--sampler_points", 11), 31)],
    ids=["add", "replace", "fewer"],
)
def test_train_x_is_what_the_last_step_was_trained_on(
    tmp_path: Path, sampler: tuple[Any, ...], n_points: int
) -> None:
    """The loss in the last row of the history is that of these points and the last weights."""
    folder = tmp_path / "run"
    run_well(TRAIN, *FLAGS, *sampler, "--save_path", folder)
    points = np.load(folder / "train_x.npy")
    assert len(points) == n_points
    assert points.dtype == np.float32
    model = build(PROBLEM.changed(layers=(2, 6, 1), num_domain=20), "dirichlet", seed=42)
    network = model.pinn.network.double()
    network.load_state_dict(torch.load(folder / "lm-117.pt", weights_only=True)["model_state_dict"])
    expected = TrainingLoss(model.pinn, points).current_terms()
    np.testing.assert_allclose(history_of(folder)[1][-1, 1:4], expected.numpy(), rtol=1e-8)


def test_config_holds_the_flags_and_other_ones_are_refused(tmp_path: Path) -> None:
    folder, short = tmp_path / "run", ("--n_iterations", 20, "--n_iterations_lbfgs", 0)
    flags = (*FLAGS, *short, "--n_iterations_lm", 0, "--save_path", folder)
    run_well(TRAIN, *flags, *ADDS)
    config = json.loads((folder / "config.json").read_text())
    expected = {"": "rard", "_every": 7, "_points": 3, "_mode": "add", "_candidates": 10_000}
    assert {k: config[f"sampler{k}"] for k in expected} == expected
    before = snapshot(folder)
    for other, words in [
        ((), "sampler = rard, found None"),
        ((*ADDS[:2], "--sampler_every", 8), "sampler_every = 7, found 8"),
        ((*ADDS, "--sampler_mode", "replace"), "sampler_mode = add, found replace"),
    ]:
        assert_refused(run(TRAIN, *flags, *other), words)
    assert "was finished before" in run_well(TRAIN, *flags, *ADDS).stdout
    assert snapshot(folder) == before


def test_the_quantity_is_a_setting_of_the_run(tmp_path: Path) -> None:
    folder, short = tmp_path / "run", ("--n_iterations", 20, "--n_iterations_lbfgs", 0)
    flags = (*FLAGS, *short, "--n_iterations_lm", 0, *INFLUENCE, "--save_path", folder)
    printed = run_well(TRAIN, *flags, "--sampler_quantity", "u").stdout
    assert "lower the estimated error" in printed
    assert json.loads((folder / "config.json").read_text())["sampler_quantity"] == "u"
    assert_refused(run(TRAIN, *flags), "sampler_quantity = u, found None")


@pytest.mark.parametrize("name", ["u", "speed", "drag"])
def test_the_quantity_of_a_flow_is_an_output_a_derived_one_or_an_integral(name: str) -> None:
    settings = dict.fromkeys((*SETTINGS, "sampler_quantity"))
    given = {**settings, "sampler": "influence", "sampler_every": 5, "seed": 1}
    sampler, how = sampler_of({**given, "sampler_quantity": name}, cylinder_flow.PROBLEM)
    assert sampler is not None
    chooser = sampler.by_influence
    assert isinstance(chooser, ByInfluence)
    assert chooser.at is not None
    assert how["sampler_quantity"] == name
    if name == "drag":
        circle = np.hypot(*(chooser.at - cylinder_flow.CYLINDER.center).T)
        np.testing.assert_allclose(circle, cylinder_flow.CYLINDER.radius)
        assert chooser.weights is not None
    else:
        assert chooser.quantity == name
        assert (cylinder_flow.PROBLEM.domain.excess(chooser.at) <= 0).all()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sampler", "rad"), "--sampler rad needs --sampler_every"),
        (("--sampler_every", 5), "--sampler_every without a sampler: add --sampler"),
        (
            (*ADDS, "--sampler_quantity", "u"),
            "--sampler_quantity with --sampler influence, found rard",
        ),
        ((*INFLUENCE, "--sampler_quantity", "lift"), "to be one of u, found lift"),
        ((*ADDS[:2], "--sampler_every", 0), "expected every of a sampler from 1, found 0"),
        ((*REPLACES, "--sampler_mode", "add"), "expected mode replace, found add"),
        ((*ADDS, "--sampler_candidates", 2), "2 candidates for 3 points"),
        (("--sampler", "rat", "--sampler_every", 5), "argument --sampler: invalid choice: 'rat'"),
    ],
)
def test_bad_flags_are_refused(tmp_path: Path, flags: tuple[Any, ...], words: str) -> None:
    result = run(TRAIN, *FLAGS, *flags, "--save_path", tmp_path / "run")
    assert_refused(result, words)
    assert files_below(tmp_path) == []


# ---- a phase that cannot go on at its points


def small_run(folder: Path, iterations: dict[str, int], every: int, strategy: str = "rad") -> Run:
    sizes = {"num_domain": 4, "num_boundary": 2, "num_initial": 2}
    model = build(PROBLEM.changed(layers=(2, 5, 1), **sizes), "dirichlet", seed=1)
    model.pinn.network.double()
    draw = drawing(geometry(PROBLEM.domain), INSIDE, "pseudo")
    sampler = Sampler(strategy, draw, every, n_candidates=50)
    loss = TrainingLoss(model.pinn, model.train_x)
    return Run(loss, folder, Schedule(iterations), save_seconds=0, sampler=sampler)


@pytest.mark.parametrize("phase", ["lbfgs", "lm"])
def test_where_no_step_lowers_the_loss_other_points_are_taken_at_once(
    tmp_path: Path, phase: str
) -> None:
    """More parameters than points: each phase comes to its end again and again."""
    ends, n = [], 120 if phase == "lbfgs" else 40
    for name in ("whole", "interrupted"):
        training = small_run(tmp_path / name, {phase: n}, every=1000)
        seen = [training.loss.points]
        for _ in range(30):
            training.stop.made = name == "interrupted"
            try:
                training.train()
                break
            except KeyboardInterrupt:
                training = small_run(tmp_path / name, {phase: n}, every=1000)
            seen.append(training.loss.points)
        training.stop.made = False
        training.train()
        ends.append((training.state.step, training.state.sampled, training.loss.points))
        assert training.state.sampled > 0
    assert ends[0][:2] == ends[1][:2]
    np.testing.assert_array_equal(ends[0][2], ends[1][2])
    step = ends[0][0]
    assert_same_weights(*(tmp_path / n / f"{phase}-{step}.pt" for n in ("whole", "interrupted")))


def test_a_state_of_a_version_without_samplers_goes_on(tmp_path: Path) -> None:
    stopped = small_run(tmp_path, {"adam": 30}, every=10)
    stopped.stop.made = True
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    del content["state"]["sampled"]
    torch.save(content, tmp_path / "state.pt")
    assert small_run(tmp_path, {"adam": 30}, every=10).train().sampled == 20
