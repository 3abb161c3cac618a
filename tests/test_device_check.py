"""benchmarks/device_check.py on a pretended device: it agrees, can go red, says what is absent."""

import copy
import importlib
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import ROOT
from pretended_device import pretended

from pinnfluence import MLP, TrainedModel, load_model


@pytest.fixture
def device_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("device_check")


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """The heat equation with few points and a small network."""
    heat = load_model(ROOT / "model_zoo" / "heat")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((2, 6, 1), "tanh").double()
    return replace(heat, pinn=replace(heat.pinn, network=network), train_x=heat.train_x[::30])


def moved(model: TrainedModel, device: torch.device) -> TrainedModel:
    network = copy.deepcopy(model.pinn.network).to(device)
    return replace(model, pinn=replace(model.pinn, network=network))


def test_agrees_and_can_go_red(device_check, model, monkeypatch, capsys):
    monkeypatch.setattr(device_check, "N_STEPS", 2)
    with pretended() as device:
        assert device_check.check(model, moved(model, device))
    table = capsys.readouterr().out
    assert all(name in table for name in device_check.CHECKS)

    wrong = moved(model, torch.device("cpu"))
    with torch.no_grad():
        next(wrong.pinn.network.parameters()).mul_(1.001)
    assert not device_check.check(model, wrong)


def test_an_absent_device():
    script = ROOT / "benchmarks" / "device_check.py"
    result = subprocess.run(
        [sys.executable, script, "--device", "xla"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert result.stdout == "no device xla here: nothing was checked\n"
