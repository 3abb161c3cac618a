"""A training run: its schedule, and its folder that at any moment holds a complete state."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from pinnfluence.errors import InputError
from pinnfluence.models.deepxde.model import PinnModel
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.comparison import relative_errors
from pinnfluence.storage import checkpoint
from pinnfluence.storage.checkpoint import PHASES
from pinnfluence.storage.files import write_npy
from pinnfluence.training.history import History, Row
from pinnfluence.training.phases import TRAIN
from pinnfluence.training.stopping import StopRequest


class Optimizer(Protocol):
    """What a phase trains with: its state can be kept and given back."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that it needs to go on."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from that."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, and how often to write.

    Raises:
        InputError: negative numbers or a learning rate that is not positive.
    """

    n_iterations: int = 100_000
    n_iterations_lbfgs: int = 25_000
    n_iterations_lm: int = 0
    lr: float = 1e-3
    history_every: int = 100
    errors_every: int = 1000
    save_seconds: float = 30.0

    def __post_init__(self) -> None:
        if min(self.lengths.values()) < 0:
            raise InputError("numbers of iterations must not be negative")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"the learning rate must be positive, found {self.lr}")
        if not self.save_seconds >= 0:
            raise InputError(f"seconds between saves must be at least 0, found {self.save_seconds}")

    @property
    def lengths(self) -> dict[str, int]:
        """Most iterations of each phase, in order."""
        counts = (self.n_iterations, self.n_iterations_lbfgs, self.n_iterations_lm)
        return dict(zip(PHASES, counts, strict=True))

    def end(self, phase: str) -> int:
        """The step at which a phase ends if all before it run to their ends."""
        return sum(self.lengths[name] for name in PHASES[: PHASES.index(phase) + 1])


@dataclass
class State:
    """Where a run stands: everything that must be kept to go on bit for bit."""

    phase: str = "adam"
    step: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    message: str = ""


class Run:
    """One training run in its folder.

    ``Run(model, folder, schedule).train()`` goes on from the folder's saved state if there is one.
    It writes ``<phase>-<step>.pt`` at the end of each phase (step: of all phases so far),
    ``train_x.npy``, ``history.csv`` and, for resuming, ``state.pt``, each atomically.
    """

    def __init__(
        self, model: PinnModel, folder: Path, schedule: Schedule, reference: Reference | None = None
    ) -> None:
        self.model, self.folder, self.schedule = model, folder, schedule
        self.reference = reference
        self.state = State()
        self.optimizer: Optimizer | None = None
        self._optimizer_state: dict[str, Any] | None = None
        self.stop = StopRequest()
        self._restore()
        self.history = History(model.pinn.terms, self.state.rows, reference)
        self._clock = self._saved = time.monotonic()

    def train(self) -> State:
        """Train to the end of the schedule, or of what its phases can reach."""
        with self.stop.listening():
            write_npy(self.folder / checkpoint.POINTS, self.model.train_x)
            while not self.finished:
                TRAIN[self.state.phase](self)
        return self.state

    @property
    def finished(self) -> bool:
        """Whether the whole schedule was done."""
        return self.state.phase == "done"

    def use(self, optimizer: Optimizer) -> None:
        """Train with an optimizer, from its saved state if there is one."""
        self.optimizer = optimizer
        if self._optimizer_state is not None:
            optimizer.load_state_dict(self._optimizer_state)

    def stop_here(self) -> None:
        """Save and leave, if that was asked for."""
        if self.stop.made:
            self.save()
            where = f"{self.state.phase}, step {self.state.step}"
            raise KeyboardInterrupt(f"stopped ({where}); the same command goes on from there")

    def check_finite(self) -> None:
        """Give up on Adam when the loss or the parameters have overflowed."""
        losses, parameters = self.model.losses, self.model.net.parameters()
        assert losses is not None
        if not all(torch.isfinite(values).all() for values in (losses, *parameters)):
            raise InputError(
                f"Adam gave NaN or infinity before step {self.state.step}; what was saved before "
                "is kept; try a smaller --lr with --restart"
            )

    def finish_phase(self) -> None:
        """Write the checkpoint of the phase, and go over to the next that has iterations."""
        if self.model.losses is None:
            self.model.gradient_step()
        self.record(with_errors=True)
        self.save()
        name = self.state.phase
        path = self.folder / f"{name}-{self.state.step}.pt"
        assert self.optimizer is not None
        network, optimizer = self.model.net.state_dict(), self.optimizer.state_dict()
        checkpoint.save_checkpoint(path, network, optimizer)
        later = PHASES[PHASES.index(name) + 1 :]
        following = [phase for phase in later if self.schedule.lengths[phase]]
        if following:
            self.state.message = ""
        self.state.phase = following[0] if following else "done"
        self.optimizer = self._optimizer_state = None
        self.save()

    def record(self, with_errors: bool = False) -> None:
        """Note the loss terms at the current parameters and step, and now and then the errors."""
        step, losses, errors = self.state.step, self.model.losses, {}
        assert losses is not None
        with_errors |= step % self.schedule.errors_every == 0
        if self.reference is not None and with_errors:
            errors = relative_errors(self.model.net, self.model.pinn.outputs, self.reference)
        self.history.add(step, losses, errors.values(), self.seconds())

    def seconds(self) -> float:
        """Time spent on training so far, over all sittings."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        return self.state.seconds

    def save_if_due(self) -> None:
        """Save when enough seconds have passed since the last time."""
        if time.monotonic() - self._saved > self.schedule.save_seconds:
            self.save()

    def save(self) -> None:
        """Write the complete state, and the history that belongs to it."""
        self.seconds()
        content = {
            "state": vars(self.state),
            "network": self.model.net.state_dict(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else None,
            "rng": torch.get_rng_state(),
        }
        self.history.save(self.folder / checkpoint.HISTORY)  # first: it may run ahead, not behind
        checkpoint.write_tensors(self.folder / checkpoint.STATE, content)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        path = self.folder / checkpoint.STATE
        if not path.is_file():
            return
        content = checkpoint.read_tensors(path)
        try:
            if not isinstance(content, dict):
                raise TypeError
            self.state = State(**content["state"])
            self.model.net.load_state_dict(content["network"])
            self._optimizer_state = content["optimizer"]
            torch.set_rng_state(content["rng"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError):
            raise InputError(
                f"{path} does not hold the state of this run; begin anew with --restart"
            ) from None
