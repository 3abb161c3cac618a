"""Influence scores: their time and memory, and stock captum's for the same numbers.

python benchmarks/influence.py [--only full captum extrapolation growth classifier] [--small]

``full``: the model good of model_zoo/, each recipe in a process of its own, from its start to the
closed file. ``captum``: a small network, complete runs side by side. ``extrapolation``: captum at
the full size, from the costs of its single steps. ``growth``: seconds by size. ``classifier``: the
drop-in for captum's class. Parts that were not asked for stay in the results as they were.
``--small`` tries everything on tiny networks in seconds, and writes no results without a path.
Ends with exit code 1 where scores differ from those of captum's dense Hessian.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _captum_classifier
import _captum_costs as costs
import numpy as np
from _captum_flow import QUANTITIES, FlowCase
from _influence_runs import growth, machine, run_script_once, test_points, untrained
from torch import Tensor

from pinnfluence import Influence, Pinn, load_model
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.loss.loss import Loss
from pinnfluence.storage.checkpoint import POINTS, save_checkpoint
from pinnfluence.storage.files import write_bytes
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "influence.json"
LIMIT = 1e-4
"""Largest relative difference from captum's scores by a dense Hessian."""

PARTS = ("full", "captum", "extrapolation", "growth", "classifier")
RUNS = {
    "paper float64": ("--recipe", "paper"),
    "paper float32": ("--recipe", "paper", "--dtype", "float32"),
    "gauss-newton float64": ("--recipe", "gauss-newton"),
    "gauss-newton float64 dense": ("--recipe", "gauss-newton", "--inverse", "dense"),
}


@dataclass(frozen=True)
class Sizes:
    """How large the parts are.

    layers, n_train, n_test, n_steps: the network beside captum, its points, and the steps of
    Levenberg-Marquardt that train it. rank: eigenpairs. budget: seconds for the cost of a step.
    base, growing, n_hidden: see ``growth``. classifier: widths, training and test samples.
    """

    layers: tuple[int, ...] = (2, 32, 32, 32, 3)
    n_train: int = 2000
    n_test: int = 2000
    n_steps: int = 30
    rank: int = 50
    budget: float = 5.0
    base: tuple[int, int, int] = (2000, 5000, 64)
    growing: tuple[tuple[int, ...], ...] = (
        (1000, 2000, 4000, 8000),
        (2500, 5000, 10_000, 20_000),
        (32, 64, 96, 128),
    )
    n_hidden: int = 4
    classifier: tuple[tuple[int, ...], int, int] = ((2, 32, 32, 3), 1000, 500)


SMALL = Sizes(
    layers=(2, 6, 3),
    n_train=120,
    n_test=20,
    n_steps=3,
    rank=8,
    budget=0.01,
    base=(120, 20, 8),
    growing=((120, 160), (20, 30), (6, 8)),
    n_hidden=1,
    classifier=((2, 5, 3), 20, 10),
)


def trained(sizes: Sizes) -> tuple[Pinn, np.ndarray]:
    """A briefly trained network of the flow, and its points."""
    pinn, train_x = untrained(sizes.layers, sizes.n_train)
    optimizer = LevenbergMarquardt(Loss.of_training(pinn.at(train_x)))
    for _ in range(sizes.n_steps):
        optimizer.step()
    return pinn, train_x


def full(sizes: Sizes, small: bool) -> dict[str, Any]:
    """The recipes in processes of their own."""
    if not small:
        return {name: run_script_once(ROOT / "model_zoo/good", RUNS[name]) for name in RUNS}
    pinn, train_x = untrained(sizes.layers, sizes.n_train)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(folder / "adam-0.pt", pinn.network.state_dict(), {})
        np.save(folder / POINTS, train_x)
        np.save(folder / "test_x.npy", test_points(sizes.n_test))
        flags = (*RUNS["gauss-newton float64"], "--test_x_path", folder / "test_x.npy")
        return {"gauss-newton float64": run_script_once(folder, flags)}


def beside_captum(sizes: Sizes) -> dict[str, Any]:
    """Complete runs of both on one network, with all scores compared."""
    pinn, train_x = trained(sizes)
    test_x = test_points(sizes.n_test)
    case = FlowCase(pinn, train_x, test_x)
    unit = costs.unit_costs(case, sizes.rank, sizes.budget)
    best = unit.best_sizes()
    scores, ours = own_run(pinn, train_x, test_x, sizes.rank)
    found: dict[str, Any] = {
        "layers": sizes.layers,
        "n_params": pinn.n_params,
        "n_train": len(train_x),
        "n_test": len(test_x),
        "rank": sizes.rank,
        "note": "complete runs at captum's best batch sizes, found from the costs of single steps",
        "best_batch_sizes": best,
        "step_seconds_by_batch_size": unit.seconds,
        "step_gigabytes_by_batch_size": unit.gigabytes,
        "pinnfluence_seconds": ours,
    }
    for name, kinds in costs.counts(len(train_x), len(test_x), pinn.n_params).items():
        expected, stages = costs.complete_run(name, case, best, sizes.rank)
        seconds = sum(stages.values())
        differences = {q: difference(scores[q], expected[q]) for q in QUANTITIES}
        found[name] = {
            "seconds": seconds,
            "stages": stages,
            "seconds_from_single_steps": sum(unit.best()[k] * n for k, n in kinds.items()),
            "captum_over_pinnfluence": seconds / ours,
            "relative_difference": max(differences.values()),
            "relative_differences": differences,
        }
    return found


def own_run(
    pinn: Pinn, train_x: np.ndarray, test_x: np.ndarray, rank: int
) -> tuple[dict[str, np.ndarray], float]:
    """Our scores ``[n_test, n_train]`` of all quantities, as whole matrices, and the seconds."""
    began = time.perf_counter()
    found = Influence(pinn, train_x, recipe_of("paper", rank=rank)).influence(test_x)
    scores = {quantity: np.asarray(found[quantity]) for quantity in QUANTITIES}
    return scores, time.perf_counter() - began


def difference(found: np.ndarray, expected: Tensor) -> float:
    """Largest difference of two scores over the largest score."""
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


def extrapolated(sizes: Sizes, small: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    """Captum's cost for the model good, from the costs of single steps times their counts."""
    if small:
        (pinn, train_x), test_x = untrained(sizes.layers, sizes.n_train), test_points(sizes.n_test)
    else:
        model = load_model(ROOT / "model_zoo/good")
        pinn, train_x, test_x = model.pinn, model.train_x, test_points(None)
    unit = costs.unit_costs(FlowCase(pinn, train_x, test_x[:1]), sizes.rank, sizes.budget)
    best = unit.best_sizes()
    comparable = known.get("machine", {}).get("full") == machine()
    ours = known["full"]["paper float64"]["seconds"] if comparable and not small else None
    found: dict[str, Any] = {
        "label": "extrapolated",
        "note": "cost of one step at captum's best batch size times the number of steps; without "
        "captum's eigendecomposition, and with the training side computed once; null: a batch "
        "that would not fit into memory",
        "n_params": pinn.n_params,
        "n_train": len(train_x),
        "n_test": len(test_x),
        "pinnfluence_seconds": ours,
        "best_batch_sizes": best,
        "step_seconds_by_batch_size": unit.seconds,
        "step_gigabytes_by_batch_size": unit.gigabytes,
    }
    for name, kinds in costs.counts(len(train_x), len(test_x), pinn.n_params).items():
        parts = {kind: unit.best()[kind] * n for kind, n in kinds.items()}
        seconds = sum(parts.values())
        found[name] = {
            "counts": kinds,
            "extrapolated_seconds_by_step": parts,
            "extrapolated_seconds": seconds,
            "captum_over_pinnfluence": seconds / ours if ours else None,
        }
    return found


def measure(part: str, sizes: Sizes, small: bool, known: Mapping[str, Any]) -> dict[str, Any]:
    if part == "full":
        return full(sizes, small)
    if part == "captum":
        return beside_captum(sizes)
    if part == "extrapolation":
        return extrapolated(sizes, small, known)
    if part == "growth":
        names = ("n_train", "n_test", "n_params")
        return growth(sizes.base, dict(zip(names, sizes.growing, strict=True)), sizes.n_hidden)
    return _captum_classifier.compare(*sizes.classifier, sizes.rank, sizes.budget)


def table(found: Mapping[str, Any]) -> list[str]:
    """The results' main figures, a line each."""
    lines = [f"{'what':44s} {'seconds':>10s} {'GB':>6s} {'ratio':>8s} {'difference':>10s}"]

    def add(what: str, seconds: float, peak: Any = None, ratio: Any = None, d: Any = None) -> None:
        cells = ("" if v is None else f"{v:{f}}" for v, f in ((peak, ".2f"), (ratio, ".1f")))
        shown = "" if d is None else f"{d:.1e}"
        lines.append("{:44s} {:10.2f} {:>6s} {:>8s} {:>10s}".format(what, seconds, *cells, shown))

    for name, run in found.get("full", {}).items():
        add(f"full: {name}", run["seconds"], run["peak_gigabytes"])
        for stage, seconds in run["stages"].items():
            add(f"    {stage}", seconds)
    if side := found.get("captum"):
        add(f"small {side['n_params']} parameters: pinnfluence", side["pinnfluence_seconds"])
        for name in ("naive", "arnoldi"):
            run = side[name]
            ratio, worst = run["captum_over_pinnfluence"], run["relative_difference"]
            add(f"small: captum {name}", run["seconds"], ratio=ratio, d=worst)
    for name in ("naive", "arnoldi") if "extrapolation" in found else ():
        run = found["extrapolation"][name]
        ratio = run["captum_over_pinnfluence"]
        add(f"full: captum {name}, extrapolated", run["extrapolated_seconds"], ratio=ratio)
    for name, grown in found.get("growth", {}).items():
        for row in grown["rows"]:
            add(f"growth: {name} {row[name]}, {row['n_products']} products", row["seconds"])
    if side := found.get("classifier"):
        add("classifier: pinnfluence", side["pinnfluence_seconds"])
        ratio, worst = side["captum_over_pinnfluence"], side["relative_difference"]
        add("classifier: captum", side["captum_seconds"], ratio=ratio, d=worst)
    return lines


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--small", action="store_true", help="tiny networks")
    parser.add_argument("--results", type=Path, help=f"default: {RESULTS.name} beside the others'")
    arguments = parser.parse_args(words)
    small, path = arguments.small, arguments.results
    path = path or (None if small else RESULTS)
    found = json.loads(path.read_text()) if path and path.exists() else {}
    for part in (part for part in PARTS if part in arguments.only):  # the order matters: see `full`
        print(f"-- {part}", flush=True)
        found[part] = measure(part, SMALL if small else Sizes(), small, found)
        found.setdefault("machine", {})[part] = machine()
        if path:
            write_bytes(path, (json.dumps(found, indent=1) + "\n").encode())
    print("\n".join(table(found)))
    compared = [found["captum"]["naive"]] if "captum" in found else []
    compared += [found["classifier"]] if "classifier" in found else []
    if any(not side["relative_difference"] <= LIMIT for side in compared):
        raise SystemExit(f"scores differ from captum's by more than {LIMIT:g}")


if __name__ == "__main__":
    main()
