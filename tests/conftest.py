"""Small models and points of the flow problem that several tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one thread a test process, and a process a core

import numpy as np
import pytest
import torch
from helpers import short_run
from pretended_device import DEVICE, pretended

from pinnfluence import MLP, Pinn
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.runtime import devices

pytest_plugins = ["explorer_browser"]
PRETENDED = ("pretended", "pretended_without_float64")
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference from float64 on the CPU, relative to the largest entry. That of float64 leaves
room for sums in another order, that of float32 for rounding in second derivatives."""


@dataclass(frozen=True)
class Device:
    """Where a test computes, in the best numbers that are there, and how exact they are.

    prelude: code that makes the device exist in the process of a script. flags: what chooses it.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    prelude: str

    @property
    def flags(self) -> tuple[str, ...]:
        name = "auto" if self.name in PRETENDED else self.name
        return "--device", name, "--dtype", str(self.dtype).removeprefix("torch.")

    @property
    def tolerance(self) -> float:
        return TOLERANCES[self.dtype]

    def close(self, found: Any, expected: Any) -> None:
        """Equal to a result of the CPU in float64, up to this device's rounding."""
        found, expected = (
            devices.float64_array(a) if isinstance(a, torch.Tensor) else np.asarray(a, np.float64)
            for a in (found, expected)
        )
        assert found.shape == expected.shape
        assert np.isfinite(expected).all()
        difference = np.abs(found - expected).max(initial=0)
        assert difference <= self.tolerance * np.abs(expected).max(initial=0), difference


DEVICES = [*devices.present(), pytest.param(PRETENDED[0], marks=pytest.mark.slow), PRETENDED[1]]
"""Every device that is present, and two that are pretended on the CPU.

The one without float64 has all limits of the other.
"""


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """Each of ``DEVICES``."""
    with device_of(request.param) as found:
        yield found


@contextmanager
def device_of(name: str) -> Iterator[Device]:
    """A device by its name, pretended where it must be."""
    prelude = ""
    double = name not in (PRETENDED[1], *devices.WITHOUT_FLOAT64)
    dtype = torch.float64 if double else torch.float32
    if name in PRETENDED:
        prelude = (
            f"import sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\n"
            "import pretended_device\n"
            f"pretended_device.kept = pretended_device.pretended({double})\n"
            "pretended_device.kept.__enter__()\n"
        )
    with pretended(double) if name in PRETENDED else nullcontext():
        where = DEVICE if name in PRETENDED else devices.select(name, dtype)
        yield Device(name, where, dtype, prelude)


@pytest.fixture(scope="session")
def flow_pinn() -> Callable[..., Pinn]:
    """Makes the flow problem's Pinn with a small random network."""

    def make(
        layers: tuple[int, ...] = (2, 8, 8, 3),
        activation: str = "gelu",
        variant: str = "good",
        conditions: str = "corrected",
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> Pinn:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = MLP(layers, activation, PROBLEM.network.scale).to(dtype)
        equations = PROBLEM.variant(variant).equations(conditions)
        return Pinn(network, PROBLEM.inputs, PROBLEM.outputs, equations, PROBLEM.quantities)

    return make


@pytest.fixture(scope="session")
def flow_points() -> Callable[[int, int], np.ndarray]:
    """Makes float32 points of the channel, shuffled: inside, on every boundary, in two corners."""

    def make(n_inside: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        inside = rng.random((n_inside, 2)) * [1.9, 0.41] + [0.3, 0]
        angle = rng.random(8) * 2 * np.pi
        y, x = rng.random((2, 5)) * [[0.41], [2.2]]
        boundary = [
            np.array([[0.0, 0.0], [2.2, 0.41]]),
            np.stack([0 * y, y], 1),
            np.stack([0 * y + 2.2, y[::-1]], 1),
            np.stack([x, 0 * x], 1),
            np.stack([x[::-1], 0 * x + 0.41], 1),
            0.2 + 0.05 * np.stack([np.cos(angle), np.sin(angle)], 1),
        ]
        points = np.concatenate([inside, *boundary])
        return points[rng.permutation(len(points))].astype(np.float32)

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a run of train.py, which a test may change."""
    shutil.copytree(short_run(), tmp_path / "run")
    return tmp_path / "run"
