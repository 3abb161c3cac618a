"""What a training run is to do, from the flags of ``pinnfluence train``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence import problems
from pinnfluence.errors import InputError, input_errors
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.model import drawing_of
from pinnfluence.problem.parts import NUMBERS
from pinnfluence.problem.problem import Problem
from pinnfluence.storage import checkpoint
from pinnfluence.storage.files import sha256
from pinnfluence.training import optimizers
from pinnfluence.training.early_stopping import EarlyStopping

LEAST_FRESH = 1000
"""Fresh points of early stopping, at least; else twice as many as there are training points."""

CHANGES = ("layers", *NUMBERS, "distribution", "lr", "dtype")
"""Flags that change a field of the problem or of its parts."""


def configure(given: Mapping[str, Any]) -> tuple[Problem, dict[str, Any]]:
    """The problem as it is trained, and every setting of the run that the results depend on.

    Args:
        given: the flags of ``pinnfluence train`` by name; None where one was not given.

    Raises:
        InputError: flags that contradict each other, unknown names, numbers that cannot be.
    """
    whole = problems.load(given["problem"])
    variant = problems.variant_of(given) or next(iter(whole.variants))
    conditions = given["conditions"] or next(iter(whole.conditions))
    changes = {name: given[name] for name in CHANGES if given[name] is not None}
    if "layers" in changes:
        changes["layers"] = tuple(changes["layers"])
    with input_errors():
        problem = whole.variant(variant)
        asked = {name: given[optimizers.flag(name)] for name in optimizers.names()}
        iterations = {name: n for name, n in asked.items() if n is not None}
        changes["iterations"] = {**problem.schedule.iterations, **iterations}
        problem = problem.changed(**changes)
        problem.equations(conditions)
    first, schedule, network = given["start_from"], problem.schedule, problem.network
    return problem, {
        "problem": problem.name,
        "variant": whole.variant_with(variant, problem.sampling.numbers),
        "conditions": conditions,
        "seed": given["seed"],
        **problem.sampling.numbers,
        "distribution": problem.sampling.distribution,
        "layers": list(network.layers),
        "activation": network.activation,
        "scale": list(network.scale),
        "loss_weights": dict(problem.loss_weights),
        **{optimizers.flag(name): schedule.iterations.get(name, 0) for name in optimizers.names()},
        "lr": schedule.lr,
        "dtype": schedule.dtype,
        "patience": given["patience"],
        "start_from": sha256(checkpoint.find_checkpoint(first)) if first else None,
    }


def early_stopping_of(
    patience: int | None, problem: Problem, pinn: Pinn, seed: int
) -> EarlyStopping | None:
    """Early stopping by points that are drawn, once, uniformly and by a seed of their own.

    Args:
        patience: in iterations; without one there is no early stopping.
        seed: of the run.

    Raises:
        InputError: see ``EarlyStopping``.
    """
    if patience is None:
        return None
    n = max(LEAST_FRESH, 2 * sum(problem.sampling.numbers.values()))
    of_its_own = np.random.default_rng([seed, 0, 1]).integers(2**32)  # samplers take [seed, step]
    return EarlyStopping(pinn, drawing_of(problem)(n, int(of_its_own)), patience)


def start_from(pinn: Pinn, path: Path) -> None:
    """Give a network the weights of a checkpoint, which must be of a network like it."""
    path = checkpoint.find_checkpoint(path)
    weights = checkpoint.load_weights(path, len(pinn.inputs), len(pinn.outputs))
    found = checkpoint.layers_of(weights)
    expected = checkpoint.layers_of(pinn.network.state_dict())
    if found != expected:
        raise InputError(f"expected --start_from of layers {expected}, found {found} in {path}")
    pinn.network.load_state_dict(weights)
