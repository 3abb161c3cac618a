"""Runs every entry point of one model many times on two threads and compares with one thread.

A script of ``test_threads.py``: prints a line of JSON for each entry point, so that a crash of the
process tells which one it was.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from corpus import model_of
from corpus.common import default_float
from torch import Tensor

import pinnfluence
from pinnfluence import GAUSS_NEWTON, PAPER, Influence, Pinn
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.runtime import parallel

REPETITIONS, BATCH_SIZE = 20, 4

MODELS = {
    "plain": "burgers",
    "output transform": "allen_cahn",
    "residual": "residual_network",
    "expression": "burgers_conservative",
}
"""Kinds of models and their names in the corpus; ``envelope`` is a problem of the package."""


def force_threads() -> None:
    """Use threads for work of any size: the one place that knows what the threshold is called."""
    parallel.ENTRIES_WORTH_A_THREAD = 0


def read(kind: str) -> tuple[Pinn, np.ndarray]:
    """A model and its training points."""
    if kind != "envelope":
        pinn = pinnfluence.from_deepxde(model_of(MODELS[kind]))
        return pinn, pinn.training_points
    variant = PROBLEM.variant("best")
    torch.manual_seed(0)
    network = pinnfluence.MLP((2, 6, 6, 3), "gelu", variant.scale, variant.envelope)
    pinn = Pinn.of(variant, "corrected", network.double())
    rng = np.random.default_rng(0)
    inside = rng.random((16, 2)) * [1.9, 0.41] + [0.3, 0]
    y = rng.random(4) * 0.41
    edges = [np.stack([0 * y, y], 1), np.stack([0 * y + 2.2, y], 1)]
    return pinn, np.concatenate([inside, *edges]).astype(np.float32)


def entry_points(pinn: Pinn, train_x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The public ways to scores, by name, each from the beginning."""
    x = train_x[:5] + np.float32(1e-3)
    output = pinn.outputs[0]

    def influence(recipe: Any) -> Influence:
        return Influence(pinn, train_x, recipe=recipe, batch_size=BATCH_SIZE)

    full = replace(GAUSS_NEWTON, damping=1e-3)
    paper = replace(PAPER, rank=8)

    def whole(recipe: Any) -> np.ndarray:
        scores = influence(recipe).influence(x)
        return np.stack([np.asarray(scores[name][:]) for name in (output, "all")])

    return {
        "influence": lambda: whole(full),
        "influence, paper": lambda: whole(paper),
        "scores": lambda: np.asarray(influence(full).scores(x, output)),
        "scores, paper": lambda: np.asarray(influence(paper).scores(x, output)),
        "scores of a loss": lambda: np.asarray(influence(full).scores(x, "all")),
        "exact": lambda: np.asarray(influence(full).exact(x)[output][:]),
        "self-influence": lambda: influence(full).self_influence(),
        "with leverage": lambda: np.asarray(
            influence(replace(full, leverage=True)).scores(x, output)
        ),
    }


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def report(name: str, entry: Callable[[], Any]) -> None:
    """Print by how much repetitions on two threads differ from one thread."""
    torch.set_num_threads(1)
    expected, worst, error = entry(), [], ""
    torch.set_num_threads(2)
    print(json.dumps({"started": name}), flush=True)
    for _ in range(REPETITIONS):
        try:
            worst.append(difference(entry(), expected))
        except Exception as failure:  # whatever the race does
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
            worst.append(float("nan"))
        if torch.get_num_threads() != 2:
            error = f"left {torch.get_num_threads()} threads"
            torch.set_num_threads(2)
    print(json.dumps({"finished": name, "differences": worst, "error": error}), flush=True)


def main(kind: str) -> None:
    """Report on all entry points of one kind of model."""
    warnings.simplefilter("ignore")
    force_threads()
    with default_float():
        for name, entry in entry_points(*read(kind)).items():
            report(name, entry)


if __name__ == "__main__":
    assert isinstance(torch.zeros(0), Tensor)
    main(sys.argv[1])
