"""Where new points belong: strategies against each other, with everything else the same.

OMP_NUM_THREADS=1 python experiments/resampling.py --problems heat burgers --modes add --seeds 10
python experiments/resampling_report.py

The conditions hold exactly: the network's output is ``u0(x) + t a(x) z(x, t)`` with the initial
values u0 and a factor a that is 0 on the boundary. Of each seed all strategies begin with the same
network, trained on the same points, and choose among the same candidates. A cycle is some
iterations of Levenberg-Marquardt on the present points; then points are added, or all are placed
anew. Errors are relative L2 norms over held-out points, which no strategy sees. Each run is written
when it is done, as a line of ``results/resampling.jsonl``; what is there is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence import MLP, Equation, Influence, Pinn
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.model import geometry
from pinnfluence.problem.problem import Problem
from pinnfluence.problems import allen_cahn, burgers, heat
from pinnfluence.reference.comparison import predict
from pinnfluence.samplers.by_influence import ByInfluence
from pinnfluence.samplers.sampler import Sampler
from pinnfluence.samplers.strategies import relative, weighted
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt

RESULTS = Path(__file__).parent / "results" / "resampling.jsonl"
STRATEGIES = {
    "add": ("static", "random", "rar", "rard", "published", "influence"),
    "replace": ("static", "random", "rad", "r3", "published", "influence"),
}
N_CANDIDATES, N_TEST = 2000, 10_000
CYCLES, ITERATIONS = 20, 10


@dataclass(frozen=True)
class Setup:
    """A problem with exact conditions.

    start: u0 and its derivatives by name, functions of x. begin, add: numbers of points at the
    beginning, and that are added each time. width: of the two hidden layers.
    """

    problem: Problem
    solution: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    start: Mapping[str, Callable[[Tensor], Tensor]]
    begin: int
    add: int
    width: int = 20


def sine(sign: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """``sign sin(pi x)`` and its derivatives."""
    return {
        "u": lambda x: sign * torch.sin(math.pi * x),
        "u_x": lambda x: sign * math.pi * torch.cos(math.pi * x),
        "u_xx": lambda x: -sign * math.pi**2 * torch.sin(math.pi * x),
    }


def _bump(x: Tensor) -> Tensor:
    return x**2 * torch.cos(math.pi * x)


def _bump_xx(x: Tensor) -> Tensor:
    c, s = torch.cos(math.pi * x), torch.sin(math.pi * x)
    return (2 - math.pi**2 * x**2) * c - 4 * math.pi * x * s


SETUPS = {
    "heat": Setup(heat.PROBLEM.variant("wide"), heat.solution, sine(1.0), 30, 5),
    "burgers": Setup(burgers.PROBLEM, burgers.solution, sine(-1.0), 300, 20),
    "allen_cahn": Setup(
        allen_cahn.PROBLEM, allen_cahn.solution, {"u": _bump, "u_xx": _bump_xx}, 300, 20
    ),
}


class Lifted:
    """A field to which initial values are added: what the equations of a problem see."""

    def __init__(self, field: Any, start: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self._field, self._start = field, start

    def __getattr__(self, name: str) -> Tensor:
        value: Tensor = getattr(self._field, name)
        return value + self._start[name](self._field.x) if name in self._start else value


def envelope(x: Tensor) -> Tensor:
    """``t (1 - x^2)``, ``[n, 1]``: zero at the start and at both ends."""
    return (x[:, 1] * (1 - x[:, 0] ** 2))[:, None]


def pinn_of(setup: Setup, seed: int) -> Pinn:
    """A network at its random first weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MLP((2, setup.width, setup.width, 1), "tanh", (1.0, 1.0), envelope).double()
    for linear in network.linears:
        torch.nn.init.xavier_normal_(
            linear.weight,  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(seed),
        )
        torch.nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
    pde = setup.problem.pde
    equation = Equation(lambda f: pde(Lifted(f, setup.start)))  # type: ignore[arg-type]
    return Pinn(network, ("x", "t"), ("u",), (equation,))


def trained(pinn: Pinn, points: np.ndarray, n: int, damping: float) -> tuple[float, float]:
    """Train the network in place; gives the damping at the end and the loss."""
    algorithm = LevenbergMarquardt(Loss.of_training(pinn.at(points)), damping)
    for _ in range(n):
        if not algorithm.step():
            break
    loss = Loss.of_training(pinn.at(points)).density(1000).sum()
    return max(algorithm.damping, 1e-12), float(loss)


def error_of(setup: Setup, pinn: Pinn, x: np.ndarray, exact: np.ndarray) -> float:
    """Relative L2 error over the held-out points."""
    u = predict(pinn.network, x, ("u",))["u"]
    u = u + setup.start["u"](torch.as_tensor(x[:, 0], dtype=torch.float64)).numpy()
    return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))


def published_scores(pinn: Pinn, x: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """``sum_z |grad l(z)^T H^-1 grad l(x)|`` at candidates x, H of the fresh points z, 50 pairs."""
    influence = Influence(replace(pinn, training=pinn.at(fresh).points), recipe="paper")
    term = pinn.terms[0]
    scores: np.ndarray = np.abs(np.asarray(influence.scores(x, term))).sum(1)
    return scores


def next_points(
    setup: Setup, pinn: Pinn, points: np.ndarray, strategy: str, mode: str, seed: int, cycle: int
) -> np.ndarray:
    """The training points of the next cycle."""
    if strategy == "static":
        return points
    domain = geometry(setup.problem.domain)
    draw, even = drawing(domain, INSIDE, "pseudo"), drawing(domain, INSIDE, "Hammersley")
    n = setup.add if mode == "add" else None
    name = "random" if strategy == "published" else strategy
    sampler = Sampler(
        name, draw, 1, n, mode, seed, N_CANDIDATES, ByInfluence(draw, even)
    )  # the same candidates for all: they depend on seed and cycle alone
    if strategy != "published":
        return sampler.resample(pinn, points, cycle).of(points)
    rng = np.random.default_rng([seed, cycle])
    x = draw(N_CANDIDATES, int(rng.integers(2**32, size=2)[0]))
    sizes = relative(published_scores(pinn, x, draw(1000, seed + 10_000 * cycle)))
    chosen = weighted(sizes**2 if mode == "add" else sizes + 1, n or len(points), rng)
    return np.concatenate([points, x[chosen]]) if mode == "add" else x[chosen]


def run(name: str, mode: str, strategy: str, seed: int) -> dict[str, Any]:
    """One run: errors, losses and numbers of points after each cycle."""
    setup, begin = SETUPS[name], time.perf_counter()
    domain = geometry(setup.problem.domain)
    points = drawing(domain, INSIDE, "Hammersley")(setup.begin, 0)
    test_x = drawing(domain, INSIDE, "pseudo")(N_TEST, 2**32 - 1)
    exact = np.asarray(setup.solution(test_x)["u"])
    pinn, damping = pinn_of(setup, seed), 1e-2
    pinn = replace(pinn, network=copy.deepcopy(pinn.network))
    rows = []
    for cycle in range(CYCLES + 1):
        if cycle:
            points = next_points(setup, pinn, points, strategy, mode, seed, cycle)
        damping, loss = trained(pinn, points, ITERATIONS, damping)
        rows.append((len(points), error_of(setup, pinn, test_x, exact), loss))
    n_points, errors, losses = zip(*rows, strict=True)
    return {
        "problem": name,
        "mode": mode,
        "strategy": strategy,
        "seed": seed,
        "points": n_points,
        "errors": errors,
        "losses": losses,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def wanted(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """The runs that are asked for, all strategies of a seed in turn."""
    for seed in range(arguments.seeds):
        for name in arguments.problems:
            for mode in arguments.modes:
                for strategy in STRATEGIES[mode]:
                    yield name, mode, strategy, seed


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are done."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description="Strategies for new points against each other.")
    parser.add_argument("--problems", nargs="+", default=["heat", "burgers"], choices=SETUPS)
    parser.add_argument("--modes", nargs="+", default=["add", "replace"], choices=STRATEGIES)
    parser.add_argument("--seeds", type=int, default=5)
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
        print(*asked, f"{row['errors'][0]:.2e} -> {row['errors'][-1]:.2e}, {row['seconds']} s")


if __name__ == "__main__":
    main()
