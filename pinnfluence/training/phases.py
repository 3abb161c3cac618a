"""The phases of a training run: Adam, L-BFGS, Levenberg-Marquardt."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.model import dde
from pinnfluence.runtime.progress import progress_bar
from pinnfluence.storage.checkpoint import PHASES
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt

if TYPE_CHECKING:
    from pinnfluence.training.run import Run

BLOCK = 50
"""L-BFGS iterations between two saved states or rows of the history."""

RECORD_EVERY = 10
"""Levenberg-Marquardt iterations between two rows of the history."""


def adam(run: Run) -> None:
    """Adam in DeepXDE's own training loop."""
    model, schedule = run.model, run.schedule
    weights = [model.pinn.loss_weights.get(name, 1.0) for name in model.pinn.terms]
    with contextlib.redirect_stdout(io.StringIO()):
        model.compile("adam", lr=schedule.lr, loss_weights=weights, verbose=0)
    run.use(model.opt)
    if run.state.step == 0:
        model.gradient_step()
        run.record()
    todo = schedule.n_iterations - run.state.step
    if todo > 0:
        model.train_state.step = model.train_state.iteration = run.state.step
        with progress_bar("Adam", schedule.n_iterations, run.state.step) as progress:
            callback = AdamCallback(run, progress)
            model.train(iterations=todo, callbacks=[callback], display_every=todo + 1, verbose=0)
        run.check_finite()
        run.stop_here()
    model.gradient_step()
    run.check_finite()
    run.finish_phase()


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


def lbfgs(run: Run) -> None:
    """L-BFGS in blocks; stops at the last good state on NaN or without progress."""
    model, state = run.model, run.state
    optimizer = lbfgs_optimizer(model.net.parameters())
    run.use(optimizer)
    end = run.schedule.end("lbfgs")
    with progress_bar("L-BFGS", end, state.step) as progress:
        while state.step < end and not state.message:
            state.message = _lbfgs_block(run, optimizer, min(BLOCK, end - state.step))
            show(progress, state.step, model.losses)
            run.stop_here()
            run.save_if_due()
    _finish(run, "L-BFGS")


def lbfgs_optimizer(parameters: Any) -> torch.optim.LBFGS:
    """PyTorch's L-BFGS with the settings that DeepXDE gives it by default."""
    return torch.optim.LBFGS(
        parameters,
        lr=1,
        tolerance_grad=1e-8,
        tolerance_change=0,
        history_size=100,
        line_search_fn="strong_wolfe",
    )


def _lbfgs_block(run: Run, optimizer: torch.optim.LBFGS, n: int) -> str:
    """Advance by up to n iterations; says why L-BFGS cannot go on, or nothing."""
    model, state = run.model, run.state
    weights = {name: p.detach().clone() for name, p in model.params().items()}
    before, losses = float(model.gradient_step()), model.losses
    if (state.step - run.schedule.n_iterations) % run.schedule.history_every == 0:
        run.record()
    done = _n_iter(optimizer)
    optimizer.param_groups[0].update(max_iter=n, max_eval=25 * n)

    def finite_gradient_step() -> Tensor:
        """With NaN, PyTorch's line search ends in an error or in parameters far away."""
        loss = model.gradient_step()
        gradients = (p.grad for p in model.net.parameters() if p.grad is not None)
        if not all(torch.isfinite(values).all() for values in (loss, *gradients)):
            raise FloatingPointError
        return loss

    try:
        optimizer.step(finite_gradient_step)
        done, after = _n_iter(optimizer) - done, float(finite_gradient_step())
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


def _n_iter(optimizer: torch.optim.LBFGS) -> int:
    states = list(optimizer.state.values())
    return int(states[0].get("n_iter", 0)) if states else 0


def levenberg_marquardt(run: Run) -> None:
    """Damped Gauss-Newton steps on a copy of the network, copied back after each iteration."""
    model, state = run.model, run.state
    network = copy.deepcopy(model.pinn.network).to(next(model.net.parameters()))
    network.load_state_dict(model.net.state_dict())
    pinn = replace(model.pinn, network=network)
    optimizer = LevenbergMarquardt(Loss.of_training(pinn.at(model.train_x)))
    run.use(optimizer)
    end = run.schedule.end("lm")
    with progress_bar("Levenberg-Marquardt", end, state.step) as progress:
        while state.step < end and not state.message:
            if not optimizer.step():
                state.message = "no step reduces the loss"
                break
            state.step += 1
            model.net.load_state_dict(network.state_dict())
            model.gradient_step()
            if state.step % RECORD_EVERY == 0:
                run.record(with_errors=True)
            show(progress, state.step, model.losses)
            run.stop_here()
            run.save_if_due()
    _finish(run, "Levenberg-Marquardt")


def _finish(run: Run, name: str) -> None:
    """End a phase; says why, if it was before the last iteration."""
    if run.state.message:
        tqdm.write(f"{name} ended at step {run.state.step}: {run.state.message}")
    run.finish_phase()


TRAIN: Mapping[str, Callable[[Run], None]] = dict(
    zip(PHASES, (adam, lbfgs, levenberg_marquardt), strict=True)
)
"""What each phase does."""


def show(progress: tqdm, step: int, losses: Tensor | None) -> None:
    """Move a bar to a step, with the total loss."""
    if losses is not None:
        progress.set_postfix(loss=f"{float(losses.sum()):.3e}", refresh=False)
    progress.update(step - progress.n)
