"""Runs every entry point of one model many times on two threads and compares with one thread.

A script of ``test_threads.py``: prints a line of JSON for each kind of model and recipe, so that
a crash of the process tells which one it was.
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

import pinnfluence
from pinnfluence import GAUSS_NEWTON, PAPER, Influence, Pinn
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.runtime import executor

BATCH_SIZE = 4

MODELS = {
    "plain": "burgers",
    "output transform": "allen_cahn",
    "residual": "residual_network",
    "expression": "burgers_conservative",
}
"""Kinds of models and their names in the corpus; ``envelope`` is a problem of the package."""


def force_threads() -> None:
    """Use threads for work of any size: the one place that knows what the threshold is called."""
    executor.ENTRIES_WORTH_A_THREAD = 0


def read(kind: str) -> tuple[Pinn, np.ndarray]:
    """A model and its training points."""
    if kind != "envelope":
        pinn = pinnfluence.from_deepxde(model_of(MODELS[kind]))
        return pinn, pinn.training_points[::2]
    variant = PROBLEM.variant("best")
    torch.manual_seed(0)
    network = pinnfluence.MLP((2, 6, 6, 3), "gelu", variant.network.scale, variant.network.envelope)
    pinn = Pinn.of(variant, "corrected", network.double())
    rng = np.random.default_rng(0)
    inside = rng.random((16, 2)) * [1.9, 0.41] + [0.3, 0]
    y = rng.random(4) * 0.41
    edges = [np.stack([0 * y, y], 1), np.stack([0 * y + 2.2, y], 1)]
    return pinn, np.concatenate([inside, *edges]).astype(np.float32)


def recipes(pinn: Pinn, train_x: np.ndarray) -> dict[str, Callable[[], dict[str, np.ndarray]]]:
    """By recipe: a function that asks a new ``Influence`` at all its entry points, by name."""
    x, output = train_x[:5] + np.float32(1e-3), pinn.outputs[0]

    def ask(recipe: Any) -> dict[str, np.ndarray]:
        influence = Influence(pinn, train_x, recipe=recipe, batch_size=BATCH_SIZE)
        if recipe.leverage:
            return {
                "scores": np.asarray(influence.scores(x, output)),
                "self-influence": influence.self_influence(),
            }
        scores = influence.influence(x)
        return {
            "influence": np.stack([np.asarray(scores[name][:]) for name in (output, "all")]),
            "scores": np.asarray(influence.scores(x, output)),
            "scores of a loss": np.asarray(influence.scores(x, "all")),
            "all at once": np.asarray(influence.scores_by_quantity(x, [output])[output]),
            "self-influence": influence.self_influence(),
        }

    full = replace(GAUSS_NEWTON, damping=1e-3)
    return {
        "gauss-newton": lambda: ask(full),
        "leverage": lambda: ask(replace(full, leverage=True)),
        "paper": lambda: ask(replace(PAPER, rank=2)),
    }


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    if not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def report(name: str, ask: Callable[[], dict[str, np.ndarray]], n: int) -> None:
    """Print by how much n repetitions on two threads differ from one thread."""
    torch.set_num_threads(1)
    expected, error = ask(), ""
    worst: dict[str, list[float]] = {name: [] for name in expected}
    torch.set_num_threads(2)
    for _ in range(n):
        try:
            found = ask()
            for entry, values in found.items():
                worst[entry].append(difference(values, expected[entry]))
        except Exception as failure:  # whatever the race does
            error = f"{type(failure).__name__}: {failure}".splitlines()[0]
        if torch.get_num_threads() != 2:
            error = f"left {torch.get_num_threads()} threads"
            torch.set_num_threads(2)
    print(json.dumps({"name": name, "differences": worst, "error": error}), flush=True)


def main(kinds: list[str], repetitions: dict[str, int]) -> None:
    """Report on all recipes and entry points of some kinds of models."""
    warnings.simplefilter("ignore")
    force_threads()
    with default_float():
        for kind in kinds:
            for recipe, ask in recipes(*read(kind)).items():
                if recipe in repetitions:
                    report(f"{kind}, {recipe}", ask, repetitions[recipe])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
