"""The sampler of a training run, from the flags of ``pinnfluence train``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnfluence.diagnosis.new_points import N_PLACES
from pinnfluence.errors import InputError
from pinnfluence.models.deepxde.drawing import INSIDE, Draw, drawing
from pinnfluence.models.deepxde.model import drawing_of, geometry
from pinnfluence.problem.problem import Problem
from pinnfluence.samplers.by_influence import ByInfluence
from pinnfluence.samplers.sampler import N_ADDED, Sampler
from pinnfluence.samplers.strategies import strategy_of

SETTINGS = ("sampler_every", "sampler_points", "sampler_mode", "sampler_candidates")

QUANTITY = "sampler_quantity"


def sampler_of(given: Mapping[str, Any], problem: Problem) -> tuple[Sampler | None, dict[str, Any]]:
    """The sampler that is asked for, if one is, and its settings for ``config.json``.

    Args:
        given: the flags of ``pinnfluence train`` by name; None where one was not given.

    Raises:
        InputError: flags without a sampler, or that do not fit together.
    """
    name = given["sampler"]
    if name is None:
        if stray := [f"--{key}" for key in (*SETTINGS, QUANTITY) if given[key] is not None]:
            raise InputError(f"{', '.join(stray)} without a sampler: add --sampler, see --help")
        return None, {"sampler": None}
    if given["sampler_every"] is None:
        raise InputError(f"--sampler {name} needs --sampler_every: after how many iterations")
    strategy, mode = strategy_of(name, given["sampler_mode"])
    n = given["sampler_points"]
    if n is None and mode == "add":
        n = N_ADDED
    domain, numbers = geometry(problem.domain), problem.sampling.numbers
    candidates = given["sampler_candidates"]
    if candidates is None:
        candidates = max(strategy.n_candidates, 2 * (n or numbers["num_domain"]))
    inside, quantity = drawing(domain, INSIDE, "pseudo"), given[QUANTITY]
    if quantity is not None and name != "influence":
        raise InputError(f"expected --{QUANTITY} with --sampler influence, found {name}")
    chooser = ByInfluence(drawing_of(problem), *_number(quantity, problem, inside, given["seed"]))
    every, seed = given["sampler_every"], given["seed"]
    sampler = Sampler(name, inside, every, n, mode, seed, candidates, chooser)
    values = (sampler.every, sampler.n, mode, sampler.n_candidates)
    how = dict(zip(SETTINGS, values, strict=True))
    return sampler, {"sampler": name, **how, QUANTITY: quantity}


def _number(name: str | None, problem: Problem, inside: Draw, seed: int) -> tuple[Any, ...]:
    """A quantity, where it is asked for, and weights: see ``ByInfluence``."""
    integrals = {} if problem.integrals is None else problem.integrals()
    if name is None:
        return ()
    if name in integrals:
        found = integrals[name]
        return found.function, found.x, found.weights
    if name not in problem.observables:
        known = ", ".join([*problem.observables, *integrals])
        raise InputError(f"expected --{QUANTITY} to be one of {known}, found {name}")
    return name, inside(N_PLACES, seed)
