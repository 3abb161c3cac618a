"""Where new points belong: what adding them does, predicted and by retraining.

OMP_NUM_THREADS=1 python benchmarks/candidates.py [--models heat_bad burgers ...] [--singles 60]

A model is polished (retrained with the proximal weight until it converges), diagnosed without its
reference, and asked where further points would lower the estimated squared error. Then it is
retrained with single points and with sets of ten: those that ``Candidates.select`` chose, those
with the largest changes alone, those with the largest loss, and random ones. Reported are the true
squared errors, against the problem's solution, which nothing but this table sees. Each row is
written when it is done; rows of other models stay as they are.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnosis import solution_at
from scipy.stats import spearmanr

from pinnfluence import Influence, TrainedModel, diagnose, load_model
from pinnfluence.diagnosis import Report
from pinnfluence.diagnosis.fresh import sampler_of
from pinnfluence.influence.candidates import Candidates
from pinnfluence.loss.loss import Loss
from pinnfluence.storage.files import write_bytes
from pinnfluence.validation.experiments import Experiment, Settings, spread_points

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "candidates.json"
MODELS = ("heat", "heat_bad", "burgers", "burgers_bad")
TOLERANCE = {"burgers": 1e-4}
PROXIMAL = 1e-9
N_POOL, N_TEST, N_SET, N_RANDOM = 1000, 500, 10, 5


@dataclass(frozen=True)
class Case:
    """A polished network with its diagnosis, candidates, and what the truth is at test points."""

    experiment: Experiment
    report: Report
    candidates: Candidates
    test_x: np.ndarray
    error: np.ndarray

    def true_changes(self, groups: list[np.ndarray]) -> np.ndarray:
        """Change of the true squared error by retraining with each group, relative, ``[n]``.

        NaN where a retraining did not converge.
        """
        outcome = self.experiment.run(groups)
        after = self.error + outcome.changes[..., 0]
        changes: np.ndarray = (after**2).sum(1) / (self.error**2).sum() - 1
        return np.where(outcome.converged, changes, np.nan)

    def losses(self) -> np.ndarray:
        """Weighted loss of each candidate."""
        weights = self.experiment.loss.weights
        return Loss(self.report.pinn.at(self.candidates.x), weights).density(500)


def case_of(name: str, seed: int) -> Case:
    """Polish and diagnose a model of the zoo."""
    model: TrainedModel = load_model(ROOT / "model_zoo" / name, dtype=torch.float64)
    assert model.problem.reference is not None
    points = model.problem.reference().points
    chosen = np.sort(np.random.default_rng(seed).choice(len(points), N_TEST, replace=False))
    pool = sampler_of(model)(N_POOL, 1000 + seed)
    settings = Settings(PROXIMAL, TOLERANCE.get(name, 1e-5))
    polish = Experiment(model.pinn, model.train_x, points[chosen], settings)
    polished = replace(model, pinn=polish.minimum())
    experiment = Experiment(polished.pinn, model.train_x, points[chosen], settings, pool)
    report = diagnose(polished, seed=seed)
    influence = Influence(polished.pinn, model.train_x, "gauss-newton")
    found = influence.candidates(pool, report.target("u", points[chosen]))
    control = replace(model, pinn=experiment.minimum()).predict(points[chosen])["u"]
    error = control - solution_at(model, points)["u"][chosen]
    return Case(experiment, report, found, points[chosen], error)


def single_figures(case: Case, n: int, seed: int) -> dict[str, Any]:
    """Rank correlations of actual changes by single points with what was predicted."""
    where = case.report.pinn.at(case.candidates.x)
    spread = np.concatenate(spread_points(where, n, seed))
    actual = case.true_changes([np.array([i]) for i in spread])
    good = np.isfinite(actual)
    predicted, losses = case.candidates.changes[spread], case.losses()[spread]
    return {
        "n": len(spread),
        "n_converged": int(good.sum()),
        "rank_predicted": float(spearmanr(predicted[good], actual[good]).statistic),
        "rank_loss": float(spearmanr(-losses[good], actual[good]).statistic),
        "n_raise_the_error": int((actual[good] > 0).sum()),
        "signs_right": float((np.sign(predicted[good]) == np.sign(actual[good])).mean()),
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
    after = 1 + case.true_changes(list(sets.values()))
    found: dict[str, Any] = dict(zip(sets, after.tolist(), strict=True))
    predicted = selection.squares / selection.squares[0]
    return {"squared_error": found, "predicted": predicted.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--singles", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        began, case = time.perf_counter(), case_of(name, arguments.seed)
        row: dict[str, Any] = {
            "sets": set_figures(case, arguments.seed),
            "estimate_reliable": case.report.reliable,
            "relative_error": float(case.report.errors["u"].relative),
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
