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
from pinnfluence.training.early_stopping import EarlyStopping
from pinnfluence.training.history import ERROR, FRESH, History
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizer import Optimizer
from pinnfluence.training.optimizers import registered
from pinnfluence.training.point_sampler import PointSampler
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

    With a sampler other points are taken after every ``sampler.every`` iterations of a phase, just
    before the next one, and at once where no step lowers the loss at the present ones. Adam goes on
    with its moments, Levenberg-Marquardt with its damping; L-BFGS begins without a memory, since
    differences of gradients of two losses mean nothing. A phase that had come to its end at the old
    points begins anew.

    With early stopping a phase also ends where the loss at fresh points no longer falls, and its
    checkpoint ``<phase>-<step>.pt`` holds the weights of the step at which that loss was least;
    ``train_x.npy`` has the points of that step.

    Args:
        loss: what is minimised; its network is changed in place.
        folder: where the run lives.
        schedule: how long each phase is, and the learning rate.
        save_seconds: save the state so often, at least.
        reference: solution for the errors in the history.
        sampler: chooses other training points now and then.
        early: ends phases by the loss at fresh points.

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
        sampler: PointSampler | None = None,
        early: EarlyStopping | None = None,
    ) -> None:
        known = registered()
        if unknown := sorted(schedule.iterations.keys() - known.keys()):
            raise InputError(f"no phase {', '.join(unknown)}, expected some of {', '.join(known)}")
        check_seconds(save_seconds)
        self.loss, self.folder, self.schedule = loss, folder, schedule
        self.reference, self.sampler, self.early = reference, sampler, early
        self.stop, self._save_seconds = StopRequest(), save_seconds
        first, *others = known
        self.phases = [first, *(name for name in others if schedule.iterations.get(name))]
        self.state = State(first)
        self.optimizer: Optimizer | None = None
        self._points_written = False
        self.history = self._history()
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
        if state.step == 0:
            self._record(with_errors=True)
        if n := self.schedule.iterations.get(state.phase, 0):
            self._iterate(n)
        optimizer = self._optimizer()
        if state.message:
            tqdm.write(f"{optimizer.title} ended at step {state.step}: {state.message}")
        self._check_finite()
        self._finish_phase()

    def _iterate(self, n: int) -> None:
        """The iterations of a phase, n of them at most."""
        state = self.state
        optimizer = self._optimizer()
        with progress_bar(optimizer.title, n, state.step - state.begin) as progress:
            while (left := state.begin + n - state.step) > 0 and not self._ended():
                left = self._at_chosen_points(left)
                optimizer = self._optimizer()
                done = state.step - state.begin
                state.step += optimizer.step(min(left, optimizer.block))
                state.message = optimizer.ended
                if _passed(optimizer.record_every, done, state.step - state.begin):
                    self._check_finite()
                    with_errors = _passed(optimizer.errors_every, done, state.step - state.begin)
                    self._record(with_errors)
                    self._show(progress)
                    if time.monotonic() - self._saved > self._save_seconds:
                        self.save()
                if self.stop.made:
                    self._leave()
            self._show(progress)

    def _optimizer(self) -> Optimizer:
        """That of the present phase."""
        if self.optimizer is None:
            self.optimizer = registered()[self.state.phase](self.loss, self.schedule)
        return self.optimizer

    def _ended(self) -> bool:
        """Whether no step lowers the loss, at fresh points or at any others to train on."""
        state = self.state
        if self.early is not None and self.early.ends(state.begin, self.history.last_errors()):
            return True
        return bool(state.message) and (self.sampler is None or state.sampled == state.step)

    def _at_chosen_points(self, left: int) -> int:
        """How many of the iterations that are left to make at the same points.

        Other points are taken first where they are due.
        """
        if self.sampler is None:
            return left
        state, loss = self.state, self.loss
        done = state.step - max(state.begin, state.sampled)
        if done >= self.sampler.every or state.message:
            if state.message:  # the same as after an interruption, which keeps no spent optimiser
                self.optimizer, state.message = None, ""
            found = self.sampler.resample(loss.pinn, loss.points, state.step)
            self.replace_points(found.of(loss.points))
            state.sampled = state.step
            tqdm.write(str(found))
            done = 0
        return min(left, self.sampler.every - done)

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
            raise InputError(
                f"{self._optimizer().title} gave NaN or infinity before step {self.state.step}; "
                "what was saved before is kept; try a smaller --lr with --restart"
            )

    def _finish_phase(self) -> None:
        """Write the checkpoint of the phase, and go over to the next."""
        self._record(with_errors=True)
        self.save()
        state, optimizer = self.state, self._optimizer()
        step = state.step if self.early is None else self._go_back(self.early)
        path = self.folder / f"{state.phase}-{step}.pt"
        checkpoint.save_checkpoint(path, self.loss.network.state_dict(), optimizer.restorable())
        later = self.phases[self.phases.index(state.phase) + 1 :]
        if later:
            state.message = ""
        state.phase, state.begin = later[0] if later else DONE, state.step
        self.optimizer = None
        self.save()

    def _go_back(self, early: EarlyStopping) -> int:
        """Take the weights, and their points, of the least loss at fresh points; gives its step."""
        best = early.best
        assert best is not None  # the history has a row already
        if best.step < self.state.step:
            self.loss.network.load_state_dict(best.network)
            self.replace_points(best.train_x)
            tqdm.write(
                f"{self._optimizer().title} ended at step {self.state.step}: the loss at fresh "
                f"points was least at step {best.step}, whose weights and points are kept"
            )
        return best.step

    def _record(self, with_errors: bool = False) -> None:
        """Note the loss terms at the current parameters and step, and now and then the errors."""
        errors: dict[str, float] = {}
        if self.reference is not None and with_errors:
            errors = relative_errors(self.loss.network, self.loss.pinn.outputs, self.reference)
        if self.early is not None and with_errors:
            errors[FRESH] = self.early.fresh_loss(self.state.step, self.loss.points)
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
        best, rng = self.early.best if self.early else None, torch.get_rng_state()
        saved = SavedState(self.state, network, self.loss.points, memory, rng, best)
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
        if self.early is not None:
            self.early.best = saved.best
        self.history = self._history()

    def _history(self) -> History:
        """That of the state, with a column for each error that is known."""
        errors = [f"{ERROR}{name}" for name in self.reference.values] if self.reference else []
        fresh = [FRESH] if self.early else []
        return History(self.loss.pinn.terms, self.state.rows, errors + fresh)


def _passed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of a number was reached or passed."""
    return now // every > before // every
