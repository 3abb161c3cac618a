"""Where new points belong: strategies against each other, with everything else the same.

OMP_NUM_THREADS=1 python experiments/resampling.py --problems heat burgers --modes add --seeds 10
python experiments/resampling_report.py

The conditions hold exactly: the network's output is ``u0(x) + a(x, t) z(x, t)`` with the initial
values u0 and a factor that is 0 where the values are known; on a circle z is a function of cos x,
sin x and t. Of each seed all strategies begin with the same network, trained on the same points,
and choose among the same candidates. A cycle is some iterations of Levenberg-Marquardt on the
present points; then points are added, or all are placed anew. Errors are relative L2 norms over
held-out points, which no strategy sees. Each run is written when it is done, as a line of
``results/resampling.jsonl``; what is there is not run again.

``published`` is the score of arXiv 2506.16443 at a candidate x, ``sum_z |grad l(z)^T H^-1 grad
l(x)|`` over fresh points z, with the 50 largest eigenpairs of the Gauss-Newton matrix of these
points in the place of their Hessian.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from small_network import Equation, Jet, Residual, SmallNetwork, train

from pinnfluence.influence.point_rows import PointRows
from pinnfluence.models.deepxde.drawing import INSIDE, Draw, drawing
from pinnfluence.models.deepxde.model import geometry
from pinnfluence.problem.problem import Problem
from pinnfluence.problems import allen_cahn, burgers, drift_diffusion, heat
from pinnfluence.samplers.by_influence import largest_left
from pinnfluence.samplers.strategies import STRATEGIES as BY_NAME
from pinnfluence.samplers.strategies import Pool, relative, weighted

RESULTS = Path(__file__).parent / "results" / "resampling.jsonl"
STRATEGIES = {
    "add": ("influence", "rard", "rad", "rar", "random", "static", "published"),
    "replace": ("influence", "rad", "r3", "rard", "random", "static", "published"),
}
N_CANDIDATES, N_TEST = 1000, 4000
CYCLES, ITERATIONS = 20, 10
WIDTH = 20
"""Of the two hidden layers."""
DECAY = 0.1
"""Time in which a factor leaves the initial values of a circle behind."""


@dataclass(frozen=True)
class Setup:
    """A problem with exact conditions.

    begin, add: numbers of points at the beginning, and that are added each time.
    """

    problem: Problem
    solution: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    equation: Equation
    begin: int
    add: int

    def draw(self, kind: str) -> Draw:
        """Draws points inside the domain."""
        return drawing(geometry(self.problem.domain), INSIDE, kind)


def wave(sign: float, number: float, phase: float = 0.0) -> Callable[[np.ndarray], Jet]:
    """``sign sin(number x + phase)``."""

    def jet(x: np.ndarray) -> Jet:
        s, c = sign * np.sin(number * x + phase), sign * np.cos(number * x + phase)
        return s, number * c, np.zeros_like(x), -(number**2) * s

    return jet


def bump(x: np.ndarray) -> Jet:
    """``x^2 cos(pi x)``."""
    c, s = np.cos(math.pi * x), np.sin(math.pi * x)
    second = (2 - math.pi**2 * x**2) * c - 4 * math.pi * x * s
    return x**2 * c, 2 * x * c - math.pi * x**2 * s, np.zeros_like(x), second


def at_start(x: np.ndarray, t: np.ndarray) -> Jet:
    """The factor ``1 - exp(-t / DECAY)``: z is the solution less its initial values, soon.

    With the factor t a loss of 5e-9 on 1,000 points went along with an error of 0.9.
    """
    rest = np.exp(-t / DECAY)
    return 1 - rest, np.zeros_like(t), rest / DECAY, np.zeros_like(t)


def at_start_and_ends(x: np.ndarray, t: np.ndarray) -> Jet:
    """The factor ``t (1 - x^2)``."""
    return t * (1 - x**2), -2 * x * t, 1 - x**2, -2 * t


def linear(speed: float, source: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Residual:
    """``u_t - u_xx + speed u_x - source``."""

    def residual(x: np.ndarray, t: np.ndarray, u: Jet) -> tuple[np.ndarray, Jet]:
        one = np.ones_like(x)
        r = u[2] - u[3] + speed * u[1] - source(x, t)
        return r, (0 * one, speed * one, one, -one)

    return residual


def heating(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The source of ``problems.heat``."""
    source: np.ndarray = (math.pi**2 - 1) * np.exp(-t) * np.sin(math.pi * x)
    return source


def of_burgers(x: np.ndarray, t: np.ndarray, u: Jet) -> tuple[np.ndarray, Jet]:
    """``u_t + u u_x - nu u_xx``."""
    one = np.ones_like(x)
    return u[2] + u[0] * u[1] - burgers.NU * u[3], (u[1], u[0], one, -burgers.NU * one)


def of_allen_cahn(x: np.ndarray, t: np.ndarray, u: Jet) -> tuple[np.ndarray, Jet]:
    """``u_t - D u_xx + R (u^3 - u)``."""
    one, rate, diffusion = np.ones_like(x), allen_cahn.RATE, allen_cahn.DIFFUSION
    r = u[2] - diffusion * u[3] + rate * (u[0] ** 3 - u[0])
    return r, (rate * (3 * u[0] ** 2 - 1), 0 * one, one, -diffusion * one)


DRIFT = linear(drift_diffusion.SPEED, lambda x, t: np.zeros_like(x))
SETUPS = {
    "heat": Setup(
        heat.PROBLEM.variant("wide"),
        heat.solution,
        Equation(linear(0.0, heating), wave(1.0, math.pi), at_start_and_ends),
        30,
        5,
    ),
    "burgers": Setup(
        burgers.PROBLEM,
        burgers.solution,
        Equation(of_burgers, wave(-1.0, math.pi), at_start_and_ends),
        300,
        20,
    ),
    "allen_cahn": Setup(
        allen_cahn.PROBLEM,
        allen_cahn.solution,
        Equation(of_allen_cahn, bump, at_start_and_ends),
        200,
        15,
    ),
    "drift_diffusion": Setup(
        drift_diffusion.PROBLEM,
        drift_diffusion.solution,
        Equation(DRIFT, wave(1.0, 2.0, math.pi / 4), at_start, periodic=True, time=DECAY),
        300,
        35,
    ),
}


def rows_of(network: SmallNetwork, x: np.ndarray, n: int) -> PointRows:
    """Residuals and gradients at points, scaled as in a training on n points."""
    r, gradients = network.rows(x)
    scale = np.full(len(x), math.sqrt(2 / n))
    return PointRows(
        len(x), np.arange(len(x)), 0 * np.arange(len(x)), scale, r, scale[:, None] * gradients
    )


def published(network: SmallNetwork, x: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """See this module, ``[n]``."""
    (_, A), (r, F) = network.rows(x), network.rows(fresh)
    values, vectors = np.linalg.eigh(F.T @ F)
    basis = vectors[:, -50:] / np.sqrt(values[-50:])
    g, there = network.residuals(x)[:, None] * (A @ basis), r[:, None] * (F @ basis)
    scores: np.ndarray = np.abs(g @ there.T).sum(1)
    return scores


def next_points(
    setup: Setup,
    network: SmallNetwork,
    points: np.ndarray,
    strategy: str,
    mode: str,
    key: list[int],
) -> np.ndarray:
    """The training points of the next cycle; key: seed and cycle."""
    if strategy == "static":
        return points
    rng, draw = np.random.default_rng(key), setup.draw("pseudo")
    x = draw(N_CANDIDATES, int(rng.integers(2**32))).astype(float)
    kept = points
    if mode == "replace":
        keeps = None if strategy == "published" else BY_NAME[strategy].keeps
        mask = np.zeros(len(points), bool)
        kept = points[mask if keeps is None else keeps(np.abs(network.residuals(points)))]
    n = setup.add if mode == "add" else len(points) - len(kept)
    if strategy == "published":
        sizes = relative(published(network, x, draw(1000, int(rng.integers(2**32))).astype(float)))
        chosen = weighted(sizes**2 if mode == "add" else sizes + 1, n, rng)
    else:

        def by_influence(n: int) -> np.ndarray:
            total = len(kept) + n
            return largest_left(rows_of(network, kept, total), rows_of(network, x, total), n)

        pool = Pool(x, np.abs(network.residuals(x)), by_influence)
        chosen = BY_NAME[strategy].choose(pool, n, rng)
    return np.concatenate([kept, x[chosen]])


@cache
def held_out(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Points ``[N_TEST, 2]`` and the solution there."""
    x = SETUPS[name].draw("pseudo")(N_TEST, 2**32 - 1).astype(float)
    return x, np.asarray(SETUPS[name].solution(x)["u"])


def run(name: str, mode: str, strategy: str, seed: int) -> dict[str, Any]:
    """One run: errors, losses and numbers of points after each cycle."""
    setup, begin = SETUPS[name], time.process_time()
    points = setup.draw("Hammersley")(setup.begin, 0).astype(float)
    test_x, exact = held_out(name)
    network, damping = SmallNetwork(setup.equation, WIDTH, seed), 1e-2
    rows = []
    for cycle in range(CYCLES + 1):
        if cycle:
            points = next_points(setup, network, points, strategy, mode, [seed, cycle])
        damping = max(train(network, points, ITERATIONS, damping), 1e-12)
        error = np.linalg.norm(network.values(test_x) - exact) / np.linalg.norm(exact)
        loss = np.mean(network.residuals(points) ** 2)
        rows.append((len(points), float(f"{error:.6g}"), float(f"{loss:.6g}")))
    n_points, errors, losses = zip(*rows, strict=True)
    return {
        "problem": name,
        "mode": mode,
        "strategy": strategy,
        "seed": seed,
        "points": n_points,
        "errors": errors,
        "losses": losses,
        "seconds": round(time.process_time() - begin, 1),
    }


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """The runs that are asked for, all strategies of a seed in turn."""
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for name in arguments.problems:
            for mode in arguments.modes:
                for strategy in STRATEGIES[mode]:
                    if strategy in arguments.strategies:
                        yield name, mode, strategy, seed


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are done."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Strategies for new points against each other.")
    parser.add_argument("--problems", nargs="+", default=["heat", "burgers"], choices=SETUPS)
    parser.add_argument("--modes", nargs="+", default=["add", "replace"], choices=STRATEGIES)
    parser.add_argument("--strategies", nargs="+", default=[*BY_NAME, "static", "published"])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    keys = ("problem", "mode", "strategy", "seed")
    done = {tuple(row[key] for key in keys) for row in read(arguments.results)}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    for asked in wanted(arguments):
        if asked in done:
            continue
        row = run(*asked)
        with arguments.results.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(
            *asked,
            f"{row['errors'][0]:.2e} -> {row['errors'][-1]:.2e}, {row['seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
