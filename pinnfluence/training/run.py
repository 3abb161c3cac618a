"""A training run: its phases, and its folder that at any moment holds a complete state."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pinnfluence.errors import InputError
from pinnfluence.problem.parts import Schedule
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.comparison import relative_errors
from pinnfluence.runtime.progress import progress_bar
from pinnfluence.storage import checkpoint
from pinnfluence.storage.files import write_npy
from pinnfluence.training.history import History
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizer import Optimizer
from pinnfluence.training.optimizers import registered
from pinnfluence.training.state import DONE, SavedState, State, not_a_state, read_state
from pinnfluence.training.stopping import StopRequest


def check_seconds(save_seconds: float) -> None:
    """Refuse negative times and NaN between saves, before a folder is made."""
    if not save_seconds >= 0:
        raise InputError(f"seconds between saves must be at least 0, found {save_seconds}")


class Run:
    """One training run in its folder.

    ``Run(loss, folder, schedule).train()`` goes on from the folder's saved state if there is one.
    It writes ``<phase>-<step>.pt`` at the end of each phase (step: of all phases so far),
    ``train_x.npy`` (the points of the last step), ``history.csv`` and, for resuming, ``state.pt``,
    each atomically. The first phase always has a checkpoint, also without iterations.

    Args:
        loss: what is minimised; its network is changed in place.
        folder: where the run lives.
        schedule: how long each phase is, and the learning rate.
        save_seconds: save the state so often, at least.
        reference: solution for the errors in the history.

    Raises:
        InputError: unknown phases, negative seconds, or a saved state of something else.
    """

    def __init__(
        self,
        loss: TrainingLoss,
        folder: Path,
        schedule: Schedule,
        save_seconds: float = 30.0,
        reference: Reference | None = None,
    ) -> None:
        known = registered()
        if unknown := sorted(schedule.iterations.keys() - known.keys()):
            raise InputError(f"no phase {', '.join(unknown)}, expected some of {', '.join(known)}")
        check_seconds(save_seconds)
        self.loss, self.folder, self.schedule = loss, folder, schedule
        self.reference, self._save_seconds = reference, save_seconds
        first, *others = known
        self.phases = [first, *(name for name in others if schedule.iterations.get(name))]
        self.state = State(first)
        self.optimizer: Optimizer | None = None
        self.stop = StopRequest()
        self._points_written = False
        self.history = History(loss.pinn.terms, self.state.rows, reference)
        self._restore()
        self._clock = self._saved = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the whole schedule was done."""
        return self.state.phase == DONE

    def train(self) -> State:
        """Train to the end of the schedule, or of what its phases can reach."""
        with self.stop.listening():
            self._write_points()
            while not self.finished:
                self._train_phase()
        return self.state

    def replace_points(self, points: np.ndarray) -> None:
        """Go on with other training points ``[n_train, n_inputs]``; they are saved with the state.

        Raises:
            InputError: no points, or none for one of the loss terms.
        """
        self.loss.replace_points(points)
        self._points_written = False
        if self.optimizer is not None:
            self.optimizer.points_changed()

    def _train_phase(self) -> None:
        state = self.state
        if self.optimizer is None:
            self.optimizer = registered()[state.phase](self.loss, self.schedule)
        optimizer = self.optimizer
        if state.step == 0:
            self._record(with_errors=True)
        if n := self.schedule.iterations.get(state.phase, 0):
            self._iterate(optimizer, n)
        if state.message:
            tqdm.write(f"{optimizer.title} ended at step {state.step}: {state.message}")
        self._check_finite()
        self._finish_phase()

    def _iterate(self, optimizer: Optimizer, n: int) -> None:
        """The iterations of a phase, n of them at most."""
        state = self.state
        with progress_bar(optimizer.title, n, state.step - state.begin) as progress:
            while (left := state.begin + n - state.step) > 0 and not state.message:
                state.step += optimizer.step(min(left, optimizer.block))
                state.message = optimizer.ended
                done = state.step - state.begin
                if done % optimizer.record_every == 0:
                    self._check_finite()
                    self._record(with_errors=done % optimizer.errors_every == 0)
                    self._show(progress)
                    if time.monotonic() - self._saved > self._save_seconds:
                        self.save()
                if self.stop.made:
                    self._leave()
            self._show(progress)

    def _show(self, progress: tqdm) -> None:
        """Move the bar of the phase to the present iteration, with the loss."""
        total = float(self.loss.current_terms().sum())
        progress.set_postfix(loss=f"{total:.3e}", refresh=False)
        progress.update(self.state.step - self.state.begin - progress.n)

    def _leave(self) -> None:
        """Save and stop, as was asked for."""
        self._check_finite()
        self.save()
        where = f"{self.state.phase}, step {self.state.step}"
        raise KeyboardInterrupt(f"stopped ({where}); the same command goes on from there")

    def _check_finite(self) -> None:
        """Give up when the loss or the parameters have overflowed."""
        values = (self.loss.current_terms(), *self.loss.network.parameters())
        if not all(torch.isfinite(each).all() for each in values):
            assert self.optimizer is not None
            raise InputError(
                f"{self.optimizer.title} gave NaN or infinity before step {self.state.step}; what "
                "was saved before is kept; try a smaller --lr with --restart"
            )

    def _finish_phase(self) -> None:
        """Write the checkpoint of the phase, and go over to the next."""
        self._record(with_errors=True)
        self.save()
        state, optimizer = self.state, self.optimizer
        assert optimizer is not None
        path = self.folder / f"{state.phase}-{state.step}.pt"
        checkpoint.save_checkpoint(path, self.loss.network.state_dict(), optimizer.restorable())
        later = self.phases[self.phases.index(state.phase) + 1 :]
        if later:
            state.message = ""
        state.phase, state.begin = later[0] if later else DONE, state.step
        self.optimizer = None
        self.save()

    def _record(self, with_errors: bool = False) -> None:
        """Note the loss terms at the current parameters and step, and now and then the errors."""
        errors: dict[str, float] = {}
        if self.reference is not None and with_errors:
            outputs = self.loss.pinn.outputs
            errors = relative_errors(self.loss.network, outputs, self.reference)
        terms = self.loss.current_terms()
        self.history.add(self.state.step, terms, errors.values(), self._seconds())

    def _seconds(self) -> float:
        """Time spent on training so far, over all sittings."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        return self.state.seconds

    def save(self) -> None:
        """Write the complete state, and the history and the points that belong to it."""
        self._seconds()
        self.history.save(self.folder / checkpoint.HISTORY)  # first: it may run ahead, not behind
        network, optimizer = self.loss.network.state_dict(), self.optimizer
        memory = optimizer.state_dict() if optimizer else None
        saved = SavedState(self.state, network, self.loss.points, memory, torch.get_rng_state())
        saved.write(self.folder / checkpoint.STATE)
        self._write_points()
        self._saved = time.monotonic()

    def _write_points(self) -> None:
        if not self._points_written:
            write_npy(self.folder / checkpoint.POINTS, self.loss.points)
            self._points_written = True

    def _restore(self) -> None:
        path, loss = self.folder / checkpoint.STATE, self.loss
        if not path.is_file():
            return
        n_inputs, n_columns = len(loss.pinn.inputs), len(self.history.columns)
        saved = read_state(path, self.phases, n_columns, loss.network, n_inputs)
        n = self.schedule.iterations.get(saved.state.phase, 0)
        try:
            if saved.state.phase != DONE and saved.state.step > saved.state.begin + n:
                raise ValueError(f"found step {saved.state.step}, after the end of the phase")
            if not np.array_equal(saved.train_x, loss.points):
                self.replace_points(saved.train_x)
            loss.network.load_state_dict(saved.network)
            loss.terms = None
            goes_on = saved.state.phase != DONE and not saved.state.message
            if saved.optimizer is not None and goes_on:
                self.optimizer = registered()[saved.state.phase](loss, self.schedule)
                self.optimizer.load_state_dict(saved.optimizer)
        except (ValueError, LookupError, TypeError, RuntimeError, AttributeError) as error:
            raise not_a_state(path, error) from None
        self.state = saved.state
        self.history = History(loss.pinn.terms, self.state.rows, self.reference)
