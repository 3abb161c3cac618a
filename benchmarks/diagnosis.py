"""The diagnosis of the models in model_zoo/ beside their true errors.

OMP_NUM_THREADS=2 python benchmarks/diagnosis.py [--models best heat ...] [--seed 0]

Each report is saved as by diagnose.py, in model_zoo/. Each row is written when it is done; rows of
other models stay as they are. "broken, right equations" judges the network of ``broken``, which was
trained without a term of the equations, by those with it. The true errors are those against the
problem's reference or exact solution, which the diagnosis does not see.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from pinnfluence import TrainedModel, diagnose, load_model
from pinnfluence.diagnosis import Report, files
from pinnfluence.diagnosis.fresh import FreshPoints
from pinnfluence.diagnosis.sampler import sampler_of
from pinnfluence.runtime.memory import peak_bytes
from pinnfluence.storage.files import write_bytes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "diagnosis.json"
RIGHT = "broken, right equations"
MODELS = (
    *("heat", "heat_bad", "burgers", "burgers_bad", "best", "overfit", "good", "good_float64"),
    *("bad", "bad_43", "bad_44", "broken", RIGHT),
)
N_POOL, NEIGHBOURS = 20_000, 8


def model_of(name: str) -> TrainedModel:
    """A model of the zoo; ``RIGHT`` is the network of ``broken`` with the equations of ``good``."""
    if name != RIGHT:
        return load_model(ROOT / "model_zoo" / name)
    right, broken = load_model(ROOT / "model_zoo" / "good"), load_model(ROOT / "model_zoo/broken")
    pinn = replace(right.pinn, network=broken.pinn.network)
    return replace(right, pinn=pinn, train_x=broken.train_x, path=broken.path)


def solution_at(model: TrainedModel, points: np.ndarray) -> Mapping[str, np.ndarray]:
    """The solution at the reference's points: in float64 where the problem has a formula."""
    exact = getattr(import_module(f"pinnfluence.problems.{model.problem.name}"), "solution", None)
    assert model.problem.reference is not None
    values: Mapping[str, np.ndarray] = exact(points) if exact else model.problem.reference().values
    return values


def error_figures(model: TrainedModel, report: Report) -> dict[str, dict[str, float]]:
    """True and estimated error of each output, at the reference's points."""
    assert model.problem.reference is not None
    points = model.problem.reference().points
    predicted, estimated = model.predict(points), report.error(points)
    found = {}
    for name, value in solution_at(model, points).items():
        true, guess = value - predicted[name], estimated[name]
        norm = np.linalg.norm(true)
        found[name] = {
            "true": float(norm / np.linalg.norm(value)),
            "estimated": float(np.linalg.norm(guess) / np.linalg.norm(predicted[name] + guess)),
            "at_least": report.errors[name].at_least,
            "half_width": report.errors[name].half_width,
            "ratio": float(np.linalg.norm(guess) / norm),
            "left": float(np.linalg.norm(guess - true) / norm),
            "rank": float(spearmanr(guess, true).statistic),
        }
    return found


def press_figures(model: TrainedModel, report: Report) -> dict[str, Any]:
    """Loss by term at training points, PRESS, at a pool of fresh ones; ranks over the points."""
    pool = FreshPoints.all_of(model.pinn.at(sampler_of(model)(N_POOL, 12_345)))
    fresh = pool.loss
    low, size = pool.x.min(0), np.ptp(pool.x, 0)
    tree = cKDTree((pool.x - low) / size)
    nearest = tree.query((model.train_x - low) / size, NEIGHBOURS)[1]
    around = fresh.unweighted().point_losses()[nearest].mean(1)
    training = FreshPoints.all_of(model.pinn.at(model.train_x)).loss
    s, rows = training.residuals(), report.press.rows
    deleted, own = np.zeros(len(model.train_x)), np.zeros(len(model.train_x))
    kept = np.maximum(1 - report.press.leverage, np.finfo(float).eps)
    np.add.at(deleted, training.points[rows], 0.5 * (s[rows] / kept) ** 2)
    np.add.at(own, training.points[rows], 0.5 * s[rows] ** 2)
    seen = np.unique(training.points[rows])
    at_fresh = fresh.term_losses()
    terms = {
        name: {"training": term.training, "press": term.press, "fresh": at_fresh[name]}
        for name, term in report.terms.items()
    }
    totals = {k: sum(t[k] for t in terms.values()) for k in ("training", "press", "fresh")}
    return {
        "terms": terms,
        **totals,
        "ratio": totals["press"] / totals["fresh"],
        "rank": float(spearmanr(deleted[seen], around[seen]).statistic),
        "rank_of_own_loss": float(spearmanr(own[seen], around[seen]).statistic),
        "interpolated": report.press.interpolated,
        "effective_parameters": report.press.effective,
        "n_params": model.pinn.n_params,
        "n_residuals": training.n_rows,
    }


def figures(name: str, seed: int) -> dict[str, Any]:
    model, began, busy = model_of(name), time.perf_counter(), time.process_time()
    report = diagnose(model, seed=seed)
    seconds, processor = time.perf_counter() - began, time.process_time() - busy
    print(f"== {name}: {seconds:.0f} s ({processor:.0f} s processor)\n{report.text()}\n")
    found: Mapping[str, Any] = report.to_dict()
    if seed == 0 and name != RIGHT:
        files.save(report, model, ROOT / "model_zoo" / f"{name}_diagnosis", name)
    return {
        "errors": error_figures(model, report),
        "press": press_figures(model, report),
        "measures": found["measures"],
        "benchmark": dict(model.problem.benchmark or {}),
        "unexplained": found["unexplained"],
        "newton_steps": found["newton_steps"],
        "dampings": found["dampings"],
        "n_train": found["n_train"],
        "n_fresh": found["n_fresh"],
        "seed": seed,
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_bytes": peak_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        row = figures(name, arguments.seed)
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows[name] = row
        ordered = {key: rows[key] for key in MODELS if key in rows}
        write_bytes(RESULTS, (json.dumps(ordered, indent=1, default=float) + "\n").encode())
        for output, e in row["errors"].items():
            print(
                f"  {output}: true {e['true']:.4f}, estimated {e['estimated']:.4f} (at least "
                f"{e['at_least']:.4f}), ratio {e['ratio']:.3f}, left {e['left']:.3f}, rank "
                f"{e['rank']:.4f}"
            )
        p = row["press"]
        print(
            f"  loss {p['training']:.2e}, PRESS {p['press']:.2e}, fresh {p['fresh']:.2e}, rank "
            f"{p['rank']:.3f} (own loss {p['rank_of_own_loss']:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
