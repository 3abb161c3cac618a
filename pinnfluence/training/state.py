"""Where a training run stands: everything that it needs to go on bit for bit, checked when read."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence.errors import InputError
from pinnfluence.storage import checkpoint
from pinnfluence.storage.point_checks import check_points
from pinnfluence.training.early_stopping import Snapshot
from pinnfluence.training.history import Row

DONE = "done"
"""The phase of a run whose whole schedule was done."""


@dataclass
class State:
    """Where a run stands.

    phase: its name, or ``DONE``. begin: the step at which it began. step: iterations of all phases
    so far. seconds: of training, over all sittings. rows: of the history. message: why the phase
    ended before its last iteration. sampled: the step at which a sampler chose the present points.
    """

    phase: str
    begin: int = 0
    step: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    message: str = ""
    sampled: int = 0

    def check(self, phases: Collection[str], n_columns: int) -> None:
        """Refuse what no run of these phases can have reached.

        Raises:
            ValueError: a field of another type or out of its range.
        """
        _expect(self.phase in (*phases, DONE), f"phase {self.phase!r}")
        _expect(type(self.step) is int and type(self.begin) is int, "a step that is no number")
        _expect(0 <= self.begin <= self.step, f"step {self.step} of a phase from {self.begin}")
        _expect(type(self.sampled) is int, "points of a step that is no number")
        _expect(0 <= self.sampled <= self.step, f"points of step {self.sampled}")
        seconds_fit = isinstance(self.seconds, float) and 0 <= self.seconds < math.inf
        _expect(seconds_fit, f"{self.seconds!r} seconds")
        _expect(isinstance(self.message, str), "a message that is no text")
        _expect(isinstance(self.rows, list), "a history that is no list")
        for row in self.rows:
            _expect(isinstance(row, list) and len(row) == n_columns, "a row of another history")
            _expect(all(v is None or type(v) in (int, float) for v in row), "words in the history")
            _expect(type(row[0]) is int, "a row of the history without its step")
        steps: list[Any] = [row[0] for row in self.rows]
        rising = all(a < b for a, b in pairwise(steps))
        _expect(rising and (not steps or 0 <= steps[0] <= steps[-1] <= self.step), "mixed rows")
        _expect(bool(steps) or self.phase != DONE, "a finished run without a history")


@dataclass
class SavedState:
    """What ``state.pt`` holds: where the run stands, its network, points and optimiser.

    best: with early stopping, the weights of the least loss at fresh points.
    """

    state: State
    network: dict[str, torch.Tensor]
    train_x: np.ndarray
    optimizer: dict[str, Any] | None
    rng: torch.Tensor
    best: Snapshot | None = None

    def write(self, path: Path) -> None:
        """Write it, atomically."""
        content = {
            "state": dict(vars(self.state)),
            "network": self.network,
            "train_x": torch.from_numpy(np.ascontiguousarray(self.train_x)),
            "optimizer": self.optimizer,
            "rng": self.rng,
            "best": self.best.content() if self.best else None,
        }
        checkpoint.write_tensors(path, content)


def read_state(
    path: Path, phases: Collection[str], n_columns: int, network: torch.nn.Module, n_inputs: int
) -> SavedState:
    """What ``SavedState.write`` wrote.

    Args:
        phases, n_columns: of the run and of its history.
        network: the run's, whose parameters have the names, shapes and dtype. n_inputs: its inputs.

    Raises:
        InputError: unreadable, or not the state of such a run.
    """
    content = checkpoint.read_tensors(path)
    try:
        _expect(isinstance(content, dict), "no dictionary")
        names = set(SavedState.__dataclass_fields__)
        content = {"best": None, **content}  # older versions had no early stopping
        _expect(content.keys() == names, f"other parts than {', '.join(sorted(names))}")
        _expect(isinstance(content["state"], dict), "no fields")
        fields = set(State.__dataclass_fields__)
        given = {"sampled": 0, **content["state"]}  # older versions had no samplers
        _expect(given.keys() == fields, f"other fields than {', '.join(sorted(fields))}")
        state = State(**given)
        state.check(phases, n_columns)
        _check_network(content["network"], network)
        optimizer, rng, train_x = (content[name] for name in ("optimizer", "rng", "train_x"))
        _expect(optimizer is None or isinstance(optimizer, dict), "another optimiser")
        _expect(isinstance(rng, torch.Tensor) and rng.dtype == torch.uint8, "no random state")
        _expect(isinstance(train_x, torch.Tensor), "no points")
        check_points(train_x.numpy(), n_inputs, "training")
        best = _snapshot(content["best"], network, n_inputs, state.step)
        torch.set_rng_state(rng)
    except (ValueError, RuntimeError, TypeError) as error:
        raise not_a_state(path, error) from None
    return SavedState(state, content["network"], train_x.numpy(), optimizer, rng, best)


def not_a_state(path: Path, error: Exception) -> InputError:
    """The error for a file that holds something else."""
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"{path} does not hold the state of this run ({reason}); begin anew with --restart"
    )


def _snapshot(found: Any, network: torch.nn.Module, n_inputs: int, step: int) -> Snapshot | None:
    if found is None:
        return None
    _expect(isinstance(found, dict), "best weights that are no dictionary")
    _expect(found.keys() == set(Snapshot.__dataclass_fields__), "other best weights")
    loss, at, train_x = found["fresh_loss"], found["step"], found["train_x"]
    _expect(type(loss) is float and 0 <= loss < math.inf, f"a fresh loss of {loss!r}")
    _expect(type(at) is int and 0 <= at <= step, f"best weights of step {at!r}")
    _check_network(found["network"], network)
    _expect(isinstance(train_x, torch.Tensor), "best weights without points")
    check_points(train_x.numpy(), n_inputs, "training")
    return Snapshot(loss, at, found["network"], train_x.numpy())


def _check_network(found: Any, network: torch.nn.Module) -> None:
    own = network.state_dict()
    _expect(isinstance(found, dict) and found.keys() == own.keys(), "another network")
    for name, p in own.items():
        value = found[name]
        _expect(isinstance(value, torch.Tensor), f"no numbers in {name}")
        same = value.shape == p.shape and value.dtype == p.dtype and value.layout == torch.strided
        _expect(same, f"another network: {name} has shape {tuple(value.shape)}, {value.dtype}")
        _expect(bool(torch.isfinite(value).all()), f"NaN or infinity in {name}")


def _expect(fits: bool, found: str) -> None:
    if not fits:
        raise ValueError(f"found {found}")
