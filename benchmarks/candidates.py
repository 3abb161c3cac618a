"""Where new points belong: what adding them does, predicted and by retraining.

OMP_NUM_THREADS=1 python benchmarks/candidates.py [--models heat_bad burgers ...] [--singles 24]

A model is diagnosed without its reference, and asked which of some further points would lower the
estimated squared error. Then it is trained on, by Levenberg-Marquardt, with single points and with
sets of ten: those that ``Candidates.select`` chose, those with the largest changes alone, those
with the largest loss, and random ones. Reported are the true squared errors, over that of the same
training without further points; they are against the problem's solution, which nothing but this
table sees. Each row is written when it is done; rows of other models stay as they are.
"""

import argparse
import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnosis import solution_at
from scipy.stats import spearmanr

from pinnfluence import Influence, TrainedModel, diagnose, load_model
from pinnfluence.diagnosis import Report
from pinnfluence.diagnosis.sampler import sampler_of
from pinnfluence.influence.candidates import Candidates
from pinnfluence.loss.loss import Loss
from pinnfluence.storage.files import write_bytes
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt
from pinnfluence.validation.experiments import spread_points

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "candidates.json"
MODELS = ("heat_bad", "burgers", "burgers_bad")
N_POOL, N_TEST, N_SET, N_RANDOM = 1000, 500, 10, 5
N_STEPS, DAMPING = 15, 1e-6
"""Iterations of Levenberg-Marquardt, and the damping of the first."""


@dataclass(frozen=True)
class Case:
    """A network with its diagnosis, candidates, and the solution at test points."""

    model: TrainedModel
    report: Report
    candidates: Candidates
    test_x: np.ndarray
    solution: np.ndarray

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """Those of the training's points."""
        return Loss.of_training(self.model.pinn.at(self.model.train_x)).weights

    def squared_error(self, added: np.ndarray) -> float:
        """True one at the test points after training on with some candidates, by number."""
        network = copy.deepcopy(self.model.pinn.network)
        pinn = replace(self.model.pinn, network=network)
        points = np.concatenate([self.model.train_x, self.candidates.x[added]])
        solver = LevenbergMarquardt(Loss(pinn.at(points), self.weights), DAMPING)
        for _ in range(N_STEPS):
            if not solver.step():
                break
        with torch.no_grad():
            found = network(torch.as_tensor(self.test_x, dtype=torch.float64))[:, 0].numpy()
        return float(((found - self.solution) ** 2).sum())

    @cached_property
    def before(self) -> float:
        """The squared error without further points."""
        return self.squared_error(np.arange(0))

    def losses(self) -> np.ndarray:
        """Weighted loss of each candidate."""
        return Loss(self.model.pinn.at(self.candidates.x), self.weights).density(500)


def case_of(name: str, seed: int) -> Case:
    """A model of the zoo, diagnosed."""
    model: TrainedModel = load_model(ROOT / "model_zoo" / name, dtype=torch.float64)
    assert model.problem.reference is not None
    points = model.problem.reference().points
    chosen = np.sort(np.random.default_rng(seed).choice(len(points), N_TEST, replace=False))
    pool = sampler_of(model)(N_POOL, 1000 + seed)
    report = diagnose(model, seed=seed)
    influence = Influence(model.pinn, model.train_x, "gauss-newton", damping=report.damping)
    found = influence.candidates(pool, report.target("u", points[chosen]))
    solution = solution_at(model, points)["u"][chosen]
    return Case(model, report, found, points[chosen], solution)


def single_figures(case: Case, n: int, seed: int) -> dict[str, Any]:
    """Rank correlations of actual changes by single points with what was predicted."""
    where = case.model.pinn.at(case.candidates.x)
    spread = np.concatenate(spread_points(where, n, seed))
    after = np.array([case.squared_error(np.array([i])) for i in spread])
    actual = after / case.before - 1
    values = case.candidates.target.values
    assert values is not None
    predicted, losses = case.candidates.changes[spread] / (values @ values), case.losses()[spread]
    return {
        "rank_predicted": float(spearmanr(predicted, actual).statistic),
        "rank_loss": float(spearmanr(-losses, actual).statistic),
        "n": len(spread),
        "n_raise_the_error": int((actual > 0).sum()),
        "signs_right": float((np.sign(predicted) == np.sign(actual)).mean()),
        "actual": actual.tolist(),
        "predicted": predicted.tolist(),
    }


def set_figures(case: Case, seed: int) -> dict[str, Any]:
    """True squared error, a part of what it was, after retraining with ten points."""
    changes, losses, rng = case.candidates.changes, case.losses(), np.random.default_rng(seed)
    selection = case.candidates.select(N_SET)
    sets = {
        "selected": selection.points,
        "largest changes alone": np.argsort(changes)[:N_SET],
        "largest loss": np.argsort(-losses)[:N_SET],
    }
    sets |= {f"random {k}": rng.choice(len(losses), N_SET, replace=False) for k in range(N_RANDOM)}
    found = {key: case.squared_error(chosen) / case.before for key, chosen in sets.items()}
    predicted = selection.squares / selection.squares[0]
    return {"squared_error": found, "predicted": predicted.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--singles", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        began, case = time.perf_counter(), case_of(name, arguments.seed)
        row: dict[str, Any] = {
            "sets": set_figures(case, arguments.seed),
            "estimate_reliable": case.report.reliable,
            "estimated_error": float(case.report.errors["u"].relative),
            "true_error": float(np.sqrt(case.before) / np.linalg.norm(case.solution)),
            "damping": case.report.damping,
        }
        print(name, json.dumps(row["sets"]), flush=True)
        row["singles"] = single_figures(case, arguments.singles, arguments.seed)
        row["seconds"] = time.perf_counter() - began
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows[name] = row
        ordered = {key: rows[key] for key in MODELS if key in rows}
        write_bytes(RESULTS, (json.dumps(ordered, indent=1) + "\n").encode())
        short = {k: v for k, v in row["singles"].items() if not isinstance(v, list)}
        print(name, f"{row['seconds']:.0f} s", json.dumps(short), flush=True)


if __name__ == "__main__":
    main()
