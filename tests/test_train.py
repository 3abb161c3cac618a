"""train.py: what it writes, what its flags choose."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import deepxde as dde
import numpy as np
import pytest
import torch
from brute_force import TERMS
from helpers import (
    QUICK,
    ROOT,
    SHORT_RUN_FILES,
    SMALL,
    TRAIN,
    assert_refused,
    files_below,
    history_of,
    run,
    run_well,
    short_run,
    weights_of,
)
from PIL import Image

from pinnfluence import MLP
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.storage import checkpoint


def deepxde_data(num_domain: int, num_boundary: int, seed: int) -> Any:
    """The data of the flow, written down with DeepXDE alone; one condition is enough here."""
    dde.config.set_random_seed(seed)
    channel = dde.geometry.Rectangle([0, 0], [2.2, 0.41])
    geometry = dde.geometry.CSGDifference(channel, dde.geometry.Disk([0.2, 0.2], 0.05))
    condition = dde.icbc.DirichletBC(geometry, lambda x: 0, lambda x, on: on and x[0] < 1e-6)
    return dde.data.PDE(geometry, lambda x, y: y, [condition], num_domain, num_boundary)


def small_model(*widths: int) -> deepxde_model.PinnModel:
    """The flow with few points and a small network."""
    problem = PROBLEM.changed(layers=(2, *widths, 3), num_domain=40, num_boundary=40)
    return deepxde_model.build(problem, "corrected", seed=42)


def test_a_run_writes_its_files_and_nothing_else() -> None:
    assert files_below(short_run()) == SHORT_RUN_FILES


def test_the_course_of_a_training_is_drawn(tmp_path: Path) -> None:
    steps = ("--n_iterations", 10, "--n_iterations_lbfgs", 0)
    run_well(TRAIN, *SMALL, *steps, "--save_path", tmp_path / "run", draws=True)
    with Image.open(tmp_path / "run" / "history.png") as picture:
        assert len(picture.getcolors(10**6) or []) > 1000


def test_train_x_is_deepxdes_train_x_all() -> None:
    points = np.load(short_run() / "train_x.npy", allow_pickle=False)
    expected = deepxde_data(40, 40, 42).train_x_all
    assert points.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(points, expected)


def test_config_holds_the_settings() -> None:
    config = json.loads((short_run() / "config.json").read_text())
    expected = {
        "problem": "cylinder_flow",
        "variant": "good",
        "conditions": "corrected",
        "activation": "gelu",
        "scale": [2.2, 0.41],
        "layers": [2, 4, 4, 3],
        "lr": 1e-3,
        "n_iterations": 80,
        "n_iterations_lbfgs": 50,
        "num_domain": 40,
        "num_boundary": 40,
        "seed": 42,
        "dtype": "float32",
        "device": "cpu",
    }
    assert {key: config[key] for key in expected} == expected
    assert set(config["versions"]) == {"torch", "deepxde", "numpy", "pinnfluence"}
    assert config["versions"]["torch"] == torch.__version__


def test_history_has_a_row_a_step_with_all_terms() -> None:
    names, rows = history_of(short_run())
    errors = [f"error_{name}" for name in ("p", "u", "v")]
    assert sorted(names) == sorted(["step", *TERMS, *errors, "seconds"])
    np.testing.assert_array_equal(rows[:, 0], np.arange(0, 131, 10))
    assert np.isfinite(rows[:, 1:10]).all()
    assert (np.diff(rows[:, -1]) >= 0).all()
    has_errors = np.isfinite(rows[:, 10:13]).all(axis=1)
    assert set(rows[has_errors, 0]) == {0, 80, 130}  # at the start and at the end of each phase


def test_the_last_row_is_the_loss_of_the_last_checkpoint() -> None:
    model = small_model(4, 4)
    network = MLP((2, 4, 4, 3), "gelu", PROBLEM.network.scale)
    network.load_state_dict(weights_of(short_run() / "lbfgs-130.pt"))
    params = {name: p.detach() for name, p in network.named_parameters()}
    residuals = model.pinn.at(model.train_x).residuals(params)
    losses = [float(r.square().mean()) for r in residuals.values()]
    names, rows = history_of(short_run())
    found = [rows[-1, names.index(name)] for name in residuals]
    np.testing.assert_allclose(found, losses, rtol=1e-4)


@pytest.mark.parametrize("n_adam", [0, 30, 33])
def test_history_has_no_gap_whatever_the_number_of_adam_steps(tmp_path: Path, n_adam: int) -> None:
    flags = (*SMALL, "--n_iterations", n_adam, "--n_iterations_lbfgs", 30)
    run_well(TRAIN, *flags, "--save_path", tmp_path / "run", prelude=QUICK)
    steps = history_of(tmp_path / "run")[1][:, 0]
    adam = {*range(0, n_adam, 10), n_adam}
    assert list(steps) == sorted(adam | {n_adam + n for n in (0, 10, 20, 30)})


def test_checkpoint_of_the_papers_network_is_small_and_holds_weights_only(tmp_path: Path) -> None:
    network = MLP(PROBLEM.network.layers, "gelu", PROBLEM.network.scale)
    optimizers = [
        torch.optim.Adam(network.parameters()),
        torch.optim.LBFGS(network.parameters(), max_iter=2),
    ]
    for number, optimizer in enumerate(optimizers):

        def closure() -> float:
            network.zero_grad()
            loss = network(torch.ones(3, 2)).square().sum()
            loss.backward()
            return loss.item()

        optimizer.step(closure)
        path = tmp_path / f"adam-{number}.pt"
        checkpoint.save_checkpoint(path, network.state_dict(), optimizer.state_dict())
        assert path.stat().st_size < 100_000
        assert torch.load(path, weights_only=True)["optimizer_state_dict"]["state"] == {}


@pytest.mark.parametrize(
    ("name", "optimizer"), [("adam-80.pt", "adam"), ("lbfgs-130.pt", "L-BFGS")]
)
def test_plain_deepxde_restores_a_checkpoint_and_trains_on(name: str, optimizer: str) -> None:
    net = dde.nn.FNN([2, 4, 4, 3], "gelu", "Glorot uniform")
    net.apply_feature_transform(lambda x: x / x.new_tensor([2.2, 0.41]))
    data = deepxde_data(40, 40, 42)
    model = dde.Model(data, net)
    model.compile(optimizer, **({"lr": 1e-3} if optimizer == "adam" else {}), verbose=0)
    model.restore(short_run() / name)

    network = MLP((2, 4, 4, 3), "gelu", PROBLEM.network.scale)
    network.load_state_dict(weights_of(short_run() / name))
    x = torch.as_tensor(data.train_x_all)
    torch.testing.assert_close(net(x), network(x))

    before = [p.detach().clone() for p in net.parameters()]
    inputs = (data.train_x, data.train_y, data.train_aux_vars)
    model._train_step(*inputs)
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_float64_keeps_its_digits(tmp_path: Path) -> None:
    flags = (*SMALL, "--n_iterations", 2, "--n_iterations_lbfgs", 2, "--dtype", "float64")
    run_well(TRAIN, *flags, "--save_path", tmp_path / "run")
    weights = weights_of(tmp_path / "run" / "lbfgs-4.pt")
    assert {w.dtype for w in weights.values()} == {torch.float64}
    assert any((w != w.float().double()).any() for w in weights.values())


@pytest.mark.parametrize(
    ("flags", "folder", "expected"),
    [
        (["--broken"], "broken", {"variant": "broken", "conditions": "corrected"}),
        (["--variant", "broken"], "broken", {"variant": "broken"}),
        (["--conditions", "published"], "good", {"variant": "good", "conditions": "published"}),
        (
            ["--num_domain", 1500, "--num_boundary", 500],
            "bad",
            {"variant": "bad", "num_domain": 1500, "num_boundary": 500},
        ),
        (["--variant", "bad"], "bad", {"num_domain": 1500, "num_boundary": 500}),
        (["--seed", 7, "--lr", 0.01], "good", {"seed": 7, "lr": 0.01}),
    ],
)
def test_flags_choose_what_is_trained(
    tmp_path: Path, flags: list[Any], folder: str, expected: dict[str, Any]
) -> None:
    short = ("--layers", 2, 4, 3, "--n_iterations", 0, "--n_iterations_lbfgs", 0)
    small = () if "bad" in folder else ("--num_domain", 40, "--num_boundary", 40)
    run_well(TRAIN, *short, *small, *flags, cwd=tmp_path)
    config = json.loads((tmp_path / "runs" / folder / "config.json").read_text())
    assert {key: config[key] for key in expected} == expected


def test_broken_equation_trains_other_weights(tmp_path: Path) -> None:
    for name, flags in (("good", []), ("broken", ["--broken"])):
        steps = ("--n_iterations", 3, "--n_iterations_lbfgs", 0, "--save_path", tmp_path / name)
        run_well(TRAIN, *SMALL, *steps, *flags)
    good, broken = (weights_of(tmp_path / name / "adam-3.pt") for name in ("good", "broken"))
    assert any(not torch.equal(good[name], broken[name]) for name in good)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "eager steps: compiling does not pay for 2 steps"),
        (("--compile", "off"), "eager steps, as asked"),
    ],
)
def test_says_how_it_computes(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    small = [flag for flag in SMALL if flag not in ("--compile", "off")]
    steps = ("--n_iterations", 1, "--n_iterations_lbfgs", 1, "--save_path", tmp_path / "run")
    result = run_well(TRAIN, *small, *steps, *flags, "--threads", 1, "--device", "cpu")
    assert f"80 points, 47 parameters, cpu, {words}\n" in result.stdout


NO_COMPILER = """
import torch
def fail(*arguments, **settings):
    raise RuntimeError("no\\ncompiler")
torch.compile = fail
"""


def test_compile_on_refuses_where_compiling_fails(tmp_path: Path) -> None:
    flags = (*SMALL, "--compile", "on", "--save_path", tmp_path / "run")
    assert_refused(run(TRAIN, *flags, prelude=NO_COMPILER), "--compile off", "no compiler")


def test_compile_auto_goes_on_where_compiling_fails(tmp_path: Path) -> None:
    flags = (*SMALL, "--compile", "auto", "--n_iterations", 1, "--n_iterations_lbfgs", 0)
    prelude = NO_COMPILER + "from pinnfluence.training import loss_step as m\nm.WORTHWHILE = 0"
    result = run_well(TRAIN, *flags, "--save_path", tmp_path / "run", prelude=prelude)
    assert "eager steps: compiling failed (no compiler)" in result.stdout


@pytest.mark.slow
def test_compiled_steps_train_like_eager_ones(tmp_path: Path) -> None:
    for mode in ("on", "off"):
        flags = (*SMALL, "--compile", mode, "--n_iterations", 50, "--n_iterations_lbfgs", 0)
        command = [sys.executable, TRAIN, *flags, "--save_path", tmp_path / mode]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
    compiled, eager = (weights_of(tmp_path / mode / "adam-50.pt") for mode in ("on", "off"))
    for name in eager:
        torch.testing.assert_close(compiled[name], eager[name], rtol=1e-3, atol=1e-5)
