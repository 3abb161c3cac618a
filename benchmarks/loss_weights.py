"""What a loss weight does to a network: predicted by the diagnosis, and by retraining.

OMP_NUM_THREADS=1 python benchmarks/loss_weights.py [--models heat burgers]

A model is polished (retrained with a proximal weight until it converges); then each loss weight c_k
is multiplied by 1.1 and by 0.9, and the model retrained. The actual change of u with log c_k is the
difference of the two over that of the logarithms. ``slope``: of the regression of the actual on the
predicted change through the origin. ``rank_up``, ``rank_down``: signed rank correlations of the
prediction with each of the two. Each row is written when it is done.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from pinnfluence import load_model
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.factor import inverse_of
from pinnfluence.diagnosis.fresh import FreshPoints
from pinnfluence.diagnosis.loss_weights import weight_steps
from pinnfluence.diagnosis.quantities import evaluate, quantities_of
from pinnfluence.loss.loss import Loss
from pinnfluence.storage.files import write_bytes
from pinnfluence.validation.objective import Objective, flat_parameters, with_parameters
from pinnfluence.validation.retraining import Preconditioner, Retrained, retrain

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "loss_weights.json"
MODELS = ("heat", "burgers")
PROXIMAL, TOLERANCE, FACTOR, N_TEST = 1e-9, 1e-11, 0.1, 500


def train(objective: Objective, theta: torch.Tensor) -> Retrained:
    """Minimise an objective from theta."""
    found = retrain(
        objective,
        theta,
        Preconditioner(objective, theta),
        TOLERANCE,
        lambda at: Preconditioner(objective, at),
    )
    if not found.converged:
        raise RuntimeError(f"retraining ended at a gradient of {found.gradient_norm:.2e}")
    return found


def row_of(name: str) -> dict[str, Any]:
    """Each loss term of a model of the zoo."""
    model = load_model(ROOT / "model_zoo" / name, dtype=torch.float64)
    assert model.problem.reference is not None
    points = model.problem.reference().points
    x = points[np.random.default_rng(0).choice(len(points), N_TEST, replace=False)]
    loss, start = Loss.of_training(model.pinn.at(model.train_x)), flat_parameters(model.pinn)
    objective = Objective(loss, PROXIMAL, start)
    polished = train(objective, start)
    pinn = with_parameters(model.pinn, polished.theta)
    quantities = quantities_of(pinn, ["u"], x)

    def u(of: Any) -> np.ndarray:
        return evaluate(of, x, quantities)["u"]

    here = FreshPoints.all_of(pinn.at(model.train_x)).loss
    inverse = inverse_of(here)
    steps = weight_steps(here, inverse, 2 * PROXIMAL / inverse.largest)
    before, row = u(pinn), {}
    for term, weight in loss.weights.items():
        ends = []
        for factor in (1 + FACTOR, 1 - FACTOR):
            turned = replace(loss, weights={**loss.weights, term: weight * factor})
            moved = train(replace(objective, loss=turned), polished.theta)
            ends.append(u(with_parameters(pinn, moved.theta)) - before)
        actual = (ends[0] - ends[1]) / np.log((1 + FACTOR) / (1 - FACTOR))
        predicted = u(corrected(pinn, steps[term])) - before
        row[term] = {
            "predicted": float(np.linalg.norm(predicted)),
            "actual": float(np.linalg.norm(actual)),
            "slope": float(actual @ predicted / (predicted @ predicted)),
            "rank_up": float(spearmanr(predicted, ends[0]).statistic),
            "rank_down": float(spearmanr(predicted, -ends[1]).statistic),
        }
        print(name, term, {k: f"{v:.4g}" for k, v in row[term].items()}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    for name in parser.parse_args().models:
        began, row = time.perf_counter(), row_of(name)
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows[name] = {"terms": row, "seconds": time.perf_counter() - began}
        write_bytes(RESULTS, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
