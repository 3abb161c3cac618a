"""The schedule Adam then L-BFGS, in a run folder that at any moment holds a complete state."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pinnfluence import checkpoint
from pinnfluence.deepxde_model import PinnModel, dde
from pinnfluence.errors import InputError
from pinnfluence.files import write_npy
from pinnfluence.history import History, Row, relative_errors
from pinnfluence.progress import progress_bar
from pinnfluence.reference import Reference
from pinnfluence.stopping import StopRequest

BLOCK = 50
"""L-BFGS iterations between two saved states or rows of the history."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train, and how often to write.

    Raises:
        InputError: negative numbers or a learning rate that is not positive.
    """

    n_iterations: int = 100_000
    n_iterations_lbfgs: int = 25_000
    lr: float = 1e-3
    history_every: int = 100
    errors_every: int = 1000
    save_seconds: float = 30.0

    def __post_init__(self) -> None:
        if min(self.n_iterations, self.n_iterations_lbfgs) < 0:
            raise InputError("numbers of iterations must not be negative")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"the learning rate must be positive, found {self.lr}")
        if not self.save_seconds >= 0:
            raise InputError(f"seconds between saves must be at least 0, found {self.save_seconds}")


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
    It writes ``adam-<step>.pt``, ``lbfgs-<step>.pt`` (step: Adam steps plus L-BFGS iterations),
    ``train_x.npy``, ``history.csv`` and, for resuming, ``state.pt``, each atomically.
    """

    def __init__(
        self, model: PinnModel, folder: Path, schedule: Schedule, reference: Reference | None = None
    ) -> None:
        self.model, self.folder, self.schedule = model, folder, schedule
        self.reference = reference
        self.state = State()
        self.optimizer_state: dict[str, Any] | None = None
        self.stop = StopRequest()
        self._restore()
        self.history = History(model.pinn.terms, self.state.rows, reference)
        self._clock = self._saved = time.monotonic()

    def train(self) -> State:
        """Train to the end of the schedule, or of what L-BFGS can reach."""
        write_npy(self.folder / checkpoint.POINTS, self.model.train_x)
        with self.stop.listening():
            if self.state.phase == "adam":
                self._adam()
            if self.state.phase == "lbfgs":
                self._lbfgs()
        return self.state

    @property
    def finished(self) -> bool:
        """Whether the whole schedule was done."""
        return self.state.phase == "done"

    def _stop_here(self) -> None:
        """Save and leave, if that was asked for."""
        if self.stop.made:
            self.save()
            where = f"{self.state.phase}, step {self.state.step}"
            raise KeyboardInterrupt(f"stopped ({where}); the same command goes on from there")

    def _adam(self) -> None:
        model, schedule = self.model, self.schedule
        with contextlib.redirect_stdout(io.StringIO()):
            model.compile("adam", lr=schedule.lr, verbose=0)
        if self.optimizer_state is not None:
            model.opt.load_state_dict(self.optimizer_state)
        if self.state.step == 0:
            model.gradient_step()
            self.record()
        todo = schedule.n_iterations - self.state.step
        if todo > 0:
            model.train_state.step = model.train_state.iteration = self.state.step
            with progress_bar("Adam", schedule.n_iterations, self.state.step) as progress:
                callback = AdamCallback(self, progress)
                model.train(
                    iterations=todo, callbacks=[callback], display_every=todo + 1, verbose=0
                )
            self.check_finite()
            self._stop_here()
        model.gradient_step()
        self.check_finite()
        self._finish_phase("adam", "lbfgs" if schedule.n_iterations_lbfgs else "done")

    def check_finite(self) -> None:
        """Give up on Adam when the loss or the parameters have overflowed."""
        losses, parameters = self.model.losses, self.model.net.parameters()
        assert losses is not None
        if not all(torch.isfinite(values).all() for values in (losses, *parameters)):
            raise InputError(
                f"Adam gave NaN or infinity before step {self.state.step}; what was saved before "
                "is kept; try a smaller --lr with --restart"
            )

    def _lbfgs(self) -> None:
        """L-BFGS in blocks; stops at the last good state on NaN or without progress."""
        model, schedule, state = self.model, self.schedule, self.state
        optimizer = lbfgs(model.net.parameters())
        model.opt = optimizer
        if self.optimizer_state is not None:
            optimizer.load_state_dict(self.optimizer_state)
        end = schedule.n_iterations + schedule.n_iterations_lbfgs
        with progress_bar("L-BFGS", end, state.step) as progress:
            while state.step < end and not state.message:
                state.message = self._lbfgs_block(optimizer, min(BLOCK, end - state.step))
                show(progress, state.step, model.losses)
                self._stop_here()
                self.save_if_due()
        if state.message:
            tqdm.write(f"L-BFGS ended at step {state.step}: {state.message}")
        self._finish_phase("lbfgs", "done")

    def _lbfgs_block(self, optimizer: torch.optim.LBFGS, n: int) -> str:
        """Advance by up to n iterations; says why L-BFGS cannot go on, or nothing."""
        model, state = self.model, self.state
        weights = {name: p.detach().clone() for name, p in model.params().items()}
        before, losses = float(model.gradient_step()), model.losses
        if (state.step - self.schedule.n_iterations) % self.schedule.history_every == 0:
            self.record()
        done = _n_iter(optimizer)
        optimizer.param_groups[0].update(max_iter=n, max_eval=25 * n)
        try:
            optimizer.step(self._finite_gradient_step)
            done, after = _n_iter(optimizer) - done, float(self._finite_gradient_step())
            why = "no step reduces the loss" if after > before else ""
        except FloatingPointError:
            why = "NaN or infinity; the last good state is kept"
        if why:
            model.net.load_state_dict(weights)
            model.losses = losses
            return why
        state.step += done
        if after == before:
            return f"no progress in {done} iterations"
        return "" if done == n else "converged: no step reduces the loss"

    def _finite_gradient_step(self) -> Tensor:
        """With NaN, PyTorch's line search ends in an error or in parameters far away."""
        loss = self.model.gradient_step()
        gradients = (p.grad for p in self.model.net.parameters() if p.grad is not None)
        if not all(torch.isfinite(values).all() for values in (loss, *gradients)):
            raise FloatingPointError
        return loss

    def _finish_phase(self, name: str, following: str) -> None:
        if self.model.losses is None:
            self.model.gradient_step()
        self.record(last=True)
        self.save()
        path = self.folder / f"{name}-{self.state.step}.pt"
        checkpoint.save_checkpoint(path, self.model.net.state_dict(), self.model.opt)
        self.state.phase, self.optimizer_state = following, None
        self.save(keep_optimizer=False)

    def record(self, last: bool = False) -> None:
        """Note the loss terms at the current parameters and step, and now and then the errors."""
        step, losses, errors = self.state.step, self.model.losses, {}
        assert losses is not None
        if self.reference is not None and (last or step % self.schedule.errors_every == 0):
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

    def save(self, keep_optimizer: bool = True) -> None:
        """Write the complete state, and the history that belongs to it."""
        self.seconds()
        optimizer = self.model.opt.state_dict() if keep_optimizer and self.model.opt else None
        content = {
            "state": vars(self.state),
            "network": self.model.net.state_dict(),
            "optimizer": optimizer,
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
            self.optimizer_state = content["optimizer"]
            torch.set_rng_state(content["rng"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError):
            raise InputError(
                f"{path} does not hold the state of this run; begin anew with --restart"
            ) from None


class AdamCallback(dde.callbacks.Callback):  # type: ignore[name-defined]
    """Keeps the history and the saved state of a run while DeepXDE trains."""

    def __init__(self, run: Run, progress: tqdm) -> None:
        super().__init__()
        self.run, self.progress = run, progress

    def on_batch_end(self) -> None:
        """After a step: count it; now and then note the loss, show it and save."""
        run = self.run
        run.state.step += 1
        step = run.state.step
        if step % run.schedule.history_every == 0:
            run.model.gradient_step()
            run.check_finite()
            run.record()
            show(self.progress, step, run.model.losses)
            run.save_if_due()
        run.model.stop_training = run.stop.made


def lbfgs(parameters: Any) -> torch.optim.LBFGS:
    """PyTorch's L-BFGS with the settings that DeepXDE gives it by default."""
    return torch.optim.LBFGS(
        parameters,
        lr=1,
        tolerance_grad=1e-8,
        tolerance_change=0,
        history_size=100,
        line_search_fn="strong_wolfe",
    )


def _n_iter(optimizer: torch.optim.LBFGS) -> int:
    states = list(optimizer.state.values())
    return int(states[0].get("n_iter", 0)) if states else 0


def show(progress: tqdm, step: int, losses: Tensor | None) -> None:
    """Move a bar to a step, with the total loss."""
    if losses is not None:
        progress.set_postfix(loss=f"{float(losses.sum()):.3e}", refresh=False)
    progress.update(step - progress.n)
