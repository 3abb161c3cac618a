"""What stock captum's influence functions cost: in full, and one step at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from _captum_flow import OUTPUTS, QUANTITIES, SUMS, FlowCase
from _memory import memory, release
from captum.influence import NaiveInfluenceFunction
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import Tensor, nn
from torch.autograd.functional import hvp, jacobian
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.validation.arnoldi import no_checkpoint

BATCH_SIZES = (1, 100, 1000)
"""Captum's batch sizes, beside that of all samples."""

DAMPING, THRESHOLD = 1e-6, 1e-5
ARNOLDI_STEPS = 200
"""Steps of captum's Arnoldi iteration, its default."""

LEAST_JUDGED = 100
"""Batch size from which memory grows in proportion."""

MOST_OF_MEMORY = 0.8
"""Part of the available memory that a batch may take."""

Timer = Callable[[int], float]
"""Seconds that a batch takes if n of its steps are done."""


@dataclass(frozen=True)
class BatchCost:
    """Seconds of a batch: ``fixed + n each`` for n of its rows or samples."""

    fixed: float
    each: float

    def seconds(self, n_steps: int) -> float:
        return self.fixed + n_steps * self.each


class First:
    """Losses of the first n samples; the graph behind them is that of the whole batch."""

    reduction = "none"

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss, self.n = loss, 1

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.loss(outputs, labels)[: self.n]


class AnyDirections(NaiveInfluenceFunction):
    """Captum's class with arbitrary directions R, to time gradients without a Hessian."""

    def _retrieve_projections_naive_influence_function(self, *_: Any) -> Tensor:
        theta = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        return torch.randn(len(theta), self.projection_dim, dtype=theta.dtype)


def batch_sizes(n_samples: int) -> list[int]:
    """The batch sizes that are tried for so many samples."""
    return sorted({min(size, n_samples) for size in (*BATCH_SIZES, n_samples)})


def batch_cost(timer: Timer, n_most: int, budget: float) -> BatchCost:
    """Cost of a batch, from one step and from as many as take about ``budget`` seconds."""
    timer(1)  # the first call also pays for what is made once
    first = timer(1)
    n_repeats = max(1, min(20, round(budget / first / 4)))
    single = statistics.median([first, *(timer(1) for _ in range(n_repeats))])
    n_steps = max(2, min(n_most, 200, round(budget / single)))
    if n_most == 1:
        return BatchCost(0.0, single)
    each = max(0.0, (timer(n_steps) - single) / (n_steps - 1))
    return BatchCost(max(0.0, single - each), each)


def total_loss(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: tuple[Tensor, ...]
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The summed loss of a batch as a function of the flat parameters, and these."""
    named = dict(model.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def total(theta: Tensor) -> Tensor:
        parts = zip(named.items(), theta.split(sizes), strict=True)
        params = {name: part.view_as(p) for (name, p), part in parts}
        return loss(torch.func.functional_call(model, params, batch[:-1]), batch[-1]).sum()

    return total, torch.cat([p.detach().flatten() for p in named.values()])


def hessian_timer(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: tuple[Tensor, ...]
) -> Timer:
    """Times n rows of the Hessian as ``torch.autograd.functional.hessian`` makes all of them."""
    total, theta = total_loss(model, loss, batch)

    def timer(n_rows: int) -> float:
        began = time.perf_counter()
        jacobian(lambda t: jacobian(total, t, create_graph=True)[:n_rows], theta)
        return time.perf_counter() - began

    return timer


def product_timer(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: tuple[Tensor, ...]
) -> Timer:
    """Times a product of the Hessian with a vector."""
    total, theta = total_loss(model, loss, batch)

    def timer(_: int) -> float:
        began = time.perf_counter()
        hvp(total, theta, torch.ones_like(theta))
        return time.perf_counter() - began

    return timer


def gradient_timer(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batch: tuple[Tensor, ...], rank: int
) -> Timer:
    """Times the projected gradients of n samples of a batch, by captum's own method."""
    first = First(loss)
    captum = AnyDirections(
        model,
        TensorDataset(*batch),
        checkpoint="",
        checkpoints_load_func=no_checkpoint,
        loss_fn=first,
        projection_dim=rank,
    )

    def timer(n_samples: int) -> float:
        first.n = n_samples
        began = time.perf_counter()
        captum.compute_intermediate_quantities(batch)
        return time.perf_counter() - began

    return timer


@dataclass(frozen=True)
class StepCosts:
    """Costs of captum's steps, by kind of step and batch size.

    seconds: of one step over all samples it needs; None where the batch would not fit into memory.
    gigabytes: peak memory above that of before, measured.
    """

    seconds: dict[str, dict[int, float | None]]
    gigabytes: dict[str, dict[int, float | None]]

    def best_sizes(self) -> dict[str, int]:
        """The batch size at which each kind of step costs least."""
        known = {
            kind: {size: t for size, t in by_size.items() if t is not None}
            for kind, by_size in self.seconds.items()
        }
        return {kind: min(times, key=times.__getitem__) for kind, times in known.items()}

    def best(self) -> dict[str, float]:
        """Seconds of each kind of step at its best batch size."""
        return {
            kind: min(t for t in by_size.values() if t is not None)
            for kind, by_size in self.seconds.items()
        }

    def fits(self, kind: str, size: int, available: float | None) -> bool:
        """Whether a batch needs less than ``available`` GB, judged by the last smaller one."""
        known = {s: gb for s, gb in self.gigabytes.get(kind, {}).items() if gb is not None}
        last = max(known, default=0)
        if available is None or last < LEAST_JUDGED:
            return True
        return known[last] * size / last < MOST_OF_MEMORY * available


def unit_costs(case: FlowCase, rank: int, budget: float) -> StepCosts:
    """What captum's steps cost at each batch size.

    ``hessian_row``: one row of the training loss's Hessian. ``hessian_product``: one product.
    ``residual_gradient``, ``output_gradient``: the projected gradient of one sample.
    """
    found, n = StepCosts({}, {}), len(case.train)

    def row(loss: Any, batch: Any) -> float:
        cost = batch_cost(hessian_timer(case.model, loss, batch), case.n_params, budget)
        return n / len(batch[0]) * cost.seconds(case.n_params) / case.n_params

    def product(loss: Any, batch: Any) -> float:
        cost = batch_cost(product_timer(case.model, loss, batch), 1, budget)
        return n / len(batch[0]) * cost.each

    def gradient(loss: Any, batch: Any) -> float:
        size = len(batch[0])
        timer = gradient_timer(case.model, loss, batch, rank)
        return batch_cost(timer, size, budget).seconds(size) / size

    steps = {
        "hessian_row": (row, "all"),
        "hessian_product": (product, "all"),
        "residual_gradient": (gradient, "all"),
        "output_gradient": (gradient, "u"),
    }
    for size in batch_sizes(n):
        for kind, (seconds, quantity) in steps.items():
            release()  # else what one kind of step leaves behind counts for the next
            before = memory("VmRSS")
            fits = found.fits(kind, size, memory("MemAvailable"))
            cost = seconds(case.loss(quantity), case.train[:size]) if fits else None
            peak = memory("VmHWM") if fits else None
            used = None if peak is None or before is None else peak - before
            found.seconds.setdefault(kind, {})[size] = cost
            found.gigabytes.setdefault(kind, {})[size] = used
            print(kind, "batch", size, "seconds", cost, "GB", used, flush=True)
    return found


def counts(n_train: int, n_test: int, n_params: int) -> dict[str, dict[str, int]]:
    """How many steps of each kind seven quantities take, by captum's class.

    As few as captum allows: the training side once, by ``compute_intermediate_quantities``, where
    ``influence`` would do it anew for each quantity.
    """
    gradients = {
        "residual_gradient": n_train + len(SUMS) * n_test,
        "output_gradient": len(OUTPUTS) * n_test,
    }
    return {
        "naive": {"hessian_row": n_params, **gradients},
        "arnoldi": {"hessian_product": ARNOLDI_STEPS, **gradients},
    }


def complete_run(
    name: str, case: FlowCase, sizes: Mapping[str, int], rank: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Scores ``[n_test, n_train]`` of all quantities by stock captum, and seconds by stage."""
    kinds = {"naive": NaiveInfluenceFunction, "arnoldi": ArnoldiInfluenceFunction}
    step = "hessian_row" if name == "naive" else "hessian_product"
    times = [time.perf_counter()]
    train = DataLoader(case.train, sizes["residual_gradient"])
    more: dict[str, Any] = {} if name == "naive" else {"arnoldi_dim": ARNOLDI_STEPS}
    captum = kinds[name](
        case.model,
        train,
        checkpoint="",
        checkpoints_load_func=no_checkpoint,
        loss_fn=case.loss("all"),
        hessian_dataset=DataLoader(case.train, sizes[step]),
        projection_dim=rank,
        hessian_reg=DAMPING,
        hessian_inverse_tol=THRESHOLD,
        **more,
    )
    times.append(time.perf_counter())
    embeddings = captum.compute_intermediate_quantities(train)
    times.append(time.perf_counter())
    scores = {}
    for quantity in QUANTITIES:
        captum.test_loss_fn = case.loss(quantity)
        gradient = "output_gradient" if quantity in OUTPUTS else "residual_gradient"
        test = captum.compute_intermediate_quantities(
            DataLoader(case.test, sizes[gradient]), test=True
        )
        scores[quantity] = test @ embeddings.T
    times.append(time.perf_counter())
    stages = ("curvature", "training points", "test points")
    return scores, {s: b - a for s, a, b in zip(stages, times, times[1:], strict=False)}
