"""L-BFGS with the settings of DeepXDE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pinnfluence.problem.parts import Schedule
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.optimizer import TorchOptimizer, is_finite

COUNTS = {"func_evals", "n_iter"}
MEMORY = COUNTS | {"d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss"}
"""What PyTorch's L-BFGS remembers, beside scratch numbers; at a minimum the counts alone."""


class Lbfgs(TorchOptimizer):
    """PyTorch's L-BFGS in blocks; it ends at the last good state on NaN or without progress."""

    title, order, block, record_every = "L-BFGS", 20, 50, 50

    def __init__(self, loss: TrainingLoss, schedule: Schedule) -> None:
        super().__init__(loss, schedule)
        self.points_changed()

    def points_changed(self) -> None:
        """Begin without a memory: differences of gradients of two losses mean nothing."""
        self.algorithm = torch.optim.LBFGS(
            self.loss.network.parameters(),
            lr=1,
            tolerance_grad=1e-8,
            tolerance_change=0,
            history_size=100,
            line_search_fn="strong_wolfe",
        )

    def step(self, n: int) -> int:
        """Up to n iterations."""
        loss, parameters = self.loss, list(self.loss.network.parameters())
        kept = [p.detach().clone() for p in parameters]
        terms = loss.current_terms()
        before, began = float(terms.sum()), self._n_iter()
        self.algorithm.param_groups[0].update(max_iter=n, max_eval=25 * n)
        try:
            self.algorithm.step(self._finite_loss)  # type: ignore[arg-type]
            done, after = self._n_iter() - began, float(self._finite_loss())
            bad = "no step reduces the loss" if after > before else ""
        except FloatingPointError:
            bad = "NaN or infinity; the last good state is kept"
        if bad:
            with torch.no_grad():
                for p, old in zip(parameters, kept, strict=True):
                    p.copy_(old)
            loss.terms, self.ended = terms, bad
            return 0
        if after == before:
            self.ended = f"no progress in {done} iterations"
        elif done < n:
            self.ended = "converged: no step reduces the loss"
        return done

    def _finite_loss(self) -> Tensor:
        """The loss; with NaN, PyTorch's line search ends in an error or in parameters far away."""
        loss = self.loss.evaluate()
        gradients = (p.grad for p in self.loss.network.parameters() if p.grad is not None)
        if not all(torch.isfinite(values).all() for values in (loss, *gradients)):
            raise FloatingPointError
        return loss

    def _n_iter(self) -> int:
        states = list(self.algorithm.state.values())
        return int(states[0].get("n_iter", 0)) if states else 0

    def is_memory(self, number: Any, memory: Any) -> bool:
        """Steps and differences of gradients over all parameters together, under the number 0."""
        if number != 0 or not isinstance(memory, dict):
            return False
        if not all(type(memory.get(key)) is int and memory[key] >= 0 for key in COUNTS):
            return False
        if memory.keys() == COUNTS:
            return True
        if memory.keys() - {"al"} != MEMORY:
            return False
        shape = (self.loss.pinn.n_params,)
        lists = [memory[key] for key in ("old_dirs", "old_stps", "ro")]
        if not all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists):
            return False
        sizes = [memory[key] for key in ("t", "prev_loss")]
        return (
            all(isinstance(size, float | int) or is_finite(size, ()) for size in sizes)
            and all(is_finite(memory[key], shape) for key in ("d", "prev_flat_grad"))
            and all(is_finite(each, shape) for each in (*memory["old_dirs"], *memory["old_stps"]))
            and all(is_finite(each, ()) for each in memory["ro"])
            and (memory["H_diag"] == 1 or is_finite(memory["H_diag"], ()))
            and isinstance(memory.get("al", []), list)
        )


OPTIMIZER = Lbfgs
