"""The schedule Adam then L-BFGS, in a run folder that at any moment holds a complete state."""

from __future__ import annotations

import contextlib
import io
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pinnfluence import checkpoint
from pinnfluence.comparison import relative_l2
from pinnfluence.deepxde_model import PinnModel, dde
from pinnfluence.errors import InputError
from pinnfluence.files import write_npy
from pinnfluence.progress import progress_bar
from pinnfluence.reference import Reference

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


@dataclass
class State:
    """Where a run stands: everything that must be kept to go on bit for bit."""

    phase: str = "adam"
    step: int = 0
    seconds: float = 0.0
    rows: list[list[float | None]] = field(default_factory=list)
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
        self.stop_requested = False
        self._restore()
        self._clock = self._saved = time.monotonic()
        errors = [f"error_{name}" for name in reference.values] if reference else []
        self.columns = ["step", *model.pinn.terms, *errors, "seconds"]

    def train(self) -> State:
        """Train to the end of the schedule, or of what L-BFGS can reach."""
        write_npy(self.folder / checkpoint.POINTS, self.model.train_x)
        with self._stop_on_signal():
            if self.state.phase == "adam":
                self._adam()
            if self.state.phase == "lbfgs":
                self._lbfgs()
        return self.state

    @property
    def finished(self) -> bool:
        """Whether the whole schedule was done."""
        return self.state.phase == "done"

    @contextlib.contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM ends the run at a complete state, the second at once."""

        def request(number: int, frame: object) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt(
                    "stopped at once; the same command goes on from the last save"
                )
            self.stop_requested = True

        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, request) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_here(self) -> None:
        """Save and leave, if that was asked for."""
        if self.stop_requested:
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
            self._stop_here()
            self._stop_if_not_finite()
        self._finish_phase("adam", "lbfgs" if schedule.n_iterations_lbfgs else "done")

    def _stop_if_not_finite(self) -> None:
        if not all(torch.isfinite(p).all() for p in self.model.net.parameters()):
            raise InputError(
                f"Adam gave NaN before step {self.state.step}; try a smaller --lr with --restart"
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
        before = float(model.gradient_step())
        if state.step % self.schedule.history_every == 0:
            self.record()
        done = _n_iter(optimizer)
        optimizer.param_groups[0].update(max_iter=n, max_eval=25 * n)
        optimizer.step(model.gradient_step)
        done = _n_iter(optimizer) - done
        after = float(model.gradient_step())
        finite = np.isfinite(after) and all(torch.isfinite(p).all() for p in model.net.parameters())
        if not finite or after > before:
            model.net.load_state_dict(weights)
            model.gradient_step()
            return "NaN; the state before it was kept" if not finite else "no step reduces the loss"
        state.step += done
        if after == before:
            return f"no progress in {done} iterations"
        return "" if done == n else "converged: no step reduces the loss"

    def _finish_phase(self, name: str, following: str) -> None:
        self.model.gradient_step()
        self.record()
        path = self.folder / f"{name}-{self.state.step}.pt"
        checkpoint.save_checkpoint(path, self.model.net.state_dict(), self.model.opt)
        self.state.phase, self.optimizer_state = following, None
        self.save(keep_optimizer=False)

    def record(self) -> None:
        """Add a row to the history: the loss terms at the current parameters and step."""
        state, losses = self.state, self.model.losses
        assert losses is not None
        if state.rows and state.rows[-1][0] == state.step:
            return
        errors: list[float | None] = []
        if self.reference is not None:
            due = state.step % self.schedule.errors_every == 0
            errors = [*self.errors().values()] if due else [None] * len(self.reference.values)
        state.rows.append(
            [state.step, *losses.double().tolist(), *errors, round(self.seconds(), 3)]
        )

    def errors(self) -> dict[str, float]:
        """Relative L2 errors of the outputs against the reference, weighted by area."""
        assert self.reference is not None
        reference = self.reference
        values = predict(self.model.net, reference.points, self.model.pinn.outputs)
        return {
            name: relative_l2(values[name], target.astype(np.float64), reference.area)
            for name, target in reference.values.items()
        }

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
        checkpoint.write_tensors(self.folder / checkpoint.STATE, content)
        checkpoint.save_history(self.folder / checkpoint.HISTORY, self.columns, self.state.rows)
        self._saved = time.monotonic()

    def _restore(self) -> None:
        path = self.folder / checkpoint.STATE
        if not path.is_file():
            return
        content = checkpoint.read_tensors(path)
        self.state = State(**content["state"])
        self.model.net.load_state_dict(content["network"])
        self.optimizer_state = content["optimizer"]
        torch.set_rng_state(content["rng"])


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
            run.record()
            show(self.progress, step, run.model.losses)
            run.save_if_due()
        run.model.stop_training = run.stop_requested


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


def predict(
    net: Callable[[Tensor], Tensor], points: np.ndarray, names: Any
) -> Mapping[str, np.ndarray]:
    """Outputs of a network at points, by name."""
    like = next(net.parameters())  # type: ignore[attr-defined]
    with torch.no_grad():
        values = net(torch.as_tensor(points).to(like)).double().cpu().numpy()
    return dict(zip(names, values.T, strict=True))


def show(progress: tqdm, step: int, losses: Tensor | None) -> None:
    """Move a bar to a step, with the total loss."""
    if losses is not None:
        progress.set_postfix(loss=f"{float(losses.sum()):.3e}", refresh=False)
    progress.update(step - progress.n)
