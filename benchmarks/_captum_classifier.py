"""A small classifier: captum's own ``NaiveInfluenceFunction`` and this package's drop-in."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from _captum_costs import batch_cost, batch_sizes, hessian_timer
from captum.influence import NaiveInfluenceFunction as Captum
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.captum_api import NaiveInfluenceFunction as DropIn
from pinnfluence.validation.arnoldi import no_checkpoint

MOST_SECONDS = 60.0
"""Estimated time above which captum is not run completely at a batch size."""


def samples(n: int, seed: int) -> TensorDataset:
    """Points of the plane in three classes with curved borders."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long() + (x.norm(dim=1) > 1.5))


def trained(widths: tuple[int, ...], train: TensorDataset) -> nn.Module:
    """A classifier after 300 Adam steps."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    model = nn.Sequential(*layers[:-1]).double()
    optimizer, loss = torch.optim.Adam(model.parameters(), 1e-2), nn.CrossEntropyLoss()
    x, labels = train.tensors
    for _ in range(300):
        optimizer.zero_grad()
        loss(model(x), labels).backward()
        optimizer.step()
    return model


def timed(
    kind: Any, model: nn.Module, train: TensorDataset, test: TensorDataset, batch: int, rank: int
) -> tuple[Tensor, float]:
    """Scores ``[n_test, n_train]`` and the seconds from the constructor to them."""
    began = time.perf_counter()
    influence = kind(
        model,
        train,
        checkpoint="",
        checkpoints_load_func=no_checkpoint,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        batch_size=batch,
        sample_wise_grads_per_batch=True,  # captum's fast path for linear layers
        projection_dim=rank,
    )
    scores = influence.influence(DataLoader(test, batch))
    return scores, time.perf_counter() - began


def compare(
    widths: tuple[int, ...], n_train: int, n_test: int, rank: int, budget: float
) -> dict[str, Any]:
    """Seconds and scores of both on the same classifier, captum at its best batch size.

    Batch sizes at which captum's Hessian alone would take more than a minute are not run.
    """
    train, test = samples(n_train, 0), samples(n_test, 1)
    model = trained(widths, train)
    n_params = sum(p.numel() for p in model.parameters())
    estimates, seconds, scores = {}, {}, {}
    for size in batch_sizes(n_train):
        timer = hessian_timer(model, nn.CrossEntropyLoss(reduction="sum"), train[:size])
        cost = batch_cost(timer, n_params, budget)
        estimates[size] = n_train / size * cost.seconds(n_params)
    for size, estimate in estimates.items():
        if estimate <= MOST_SECONDS:
            scores[size], seconds[size] = timed(Captum, model, train, test, size, rank)
    best = min(seconds, key=seconds.__getitem__)
    ours, ours_seconds = timed(DropIn, model, train, test, best, rank)
    return {
        "widths": widths,
        "n_params": n_params,
        "n_train": n_train,
        "n_test": n_test,
        "rank": rank,
        "captum_seconds_by_batch_size": seconds,
        "captum_hessian_seconds_estimated_by_batch_size": estimates,
        "best_batch_size": best,
        "captum_seconds": seconds[best],
        "pinnfluence_seconds": ours_seconds,
        "captum_over_pinnfluence": seconds[best] / ours_seconds,
        "relative_difference": float((ours - scores[best]).abs().max() / scores[best].abs().max()),
    }
