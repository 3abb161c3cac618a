"""Influence of every training point on every prediction and loss of a trained model.

python calc_influences.py --checkpoint model_zoo/good --save_path model_zoo/good_influences
"""

import argparse
import importlib.metadata
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from pinnfluence import devices, estimate, problems
from pinnfluence.errors import InputError, Parser, run_script
from pinnfluence.files import sha256
from pinnfluence.influence import PAPER, STATIONARITY_LIMIT, Influence
from pinnfluence.network import ACTIVATIONS
from pinnfluence.progress import ProgressStages
from pinnfluence.reference import load_reference
from pinnfluence.scores import Scores
from pinnfluence.trained_model import TrainedModel, load_model, load_points_inside


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description="Influence of all training points on all predictions and losses.")
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        required=True,
        help="a .pt file in DeepXDE's format, or its folder",
    )
    add("--train_x_path", type=Path, help="training points (default: beside the checkpoint)")
    add("--test_x_path", type=Path, help="test points, .npy (default: the reference's points)")
    add("--problem", choices=problems.names())
    add("--variant", help="the variant that was trained")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="the set of conditions that was trained")
    add("--layers", type=int, nargs="+", help="widths of all layers, to be checked")
    add("--activation", help=f"one of {', '.join(ACTIVATIONS)}")
    add("--batch_size", type=int, help="points whose derivatives are held at a time")
    add("--save_path", type=Path, help="folder of the scores (default: <checkpoint>_influences)")
    add("--device", default="auto", choices=devices.NAMES)
    add("--dtype", default="float64", choices=("float32", "float64"))
    add("--threads", type=int, help="processor threads (default: all)")
    add("--dense", action="store_true", help="write influence_arrs.npz with whole matrices, too")
    add("--dry-run", action="store_true", help="print what it would cost, and stop")
    return parser.parse_args()


def load(arguments: argparse.Namespace) -> TrainedModel:
    dtype = getattr(torch, arguments.dtype)
    device = devices.select(arguments.device, dtype)
    if arguments.broken and arguments.variant not in (None, "broken"):
        raise InputError(f"--broken contradicts --variant {arguments.variant}; give one of them")
    return load_model(
        arguments.checkpoint,
        arguments.train_x_path,
        dtype,
        device,
        problem=arguments.problem,
        variant="broken" if arguments.broken else arguments.variant,
        conditions=arguments.conditions,
        layers=arguments.layers,
        activation=arguments.activation,
    )


def load_test_points(arguments: argparse.Namespace, model: TrainedModel) -> Any:
    if arguments.test_x_path:
        return load_points_inside(arguments.test_x_path, model.problem, "test")
    if model.problem.reference is None:
        raise InputError(f"{model.problem.name} has no reference points; give --test_x_path")
    return load_reference(model.problem.reference).points


def check_room(folder: Path, n_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise InputError(
            f"the scores need {n_bytes / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free; "
            "leave --dense out or choose another --save_path"
        )


def describe(model: TrainedModel) -> None:
    settings = ", ".join(
        f"{key} {model.config[key]}" for key in ("variant", "conditions", "activation")
    )
    print(f"{model.path}: {settings}")
    for name, loss in model.mean_losses().items():
        print(f"  {name:12s} {loss:.3e}")
    for warning in model.warnings():
        print(f"warning: {warning}", file=sys.stderr)


def report(scores: Scores, seconds: dict[str, float]) -> None:
    found = scores.metadata["stationarity"]
    rank = len(scores.eigenvalues)
    print(
        f"recipe {scores.recipe['name']}: {rank} eigenvalues from {scores.eigenvalues[0]:.3g} to "
        f"{scores.eigenvalues[-1]:.3g} by {scores.metadata['n_products']} products, "
        f"most negative eigenvalue seen {found['most_negative_eigenvalue']:.3g}"
    )
    print(
        f"stationarity: ||grad L|| {found['gradient_norm']:.3g}, median ||grad l_i|| "
        f"{found['median_point_gradient_norm']:.3g}, ratio {found['ratio']:.3g}"
    )
    if found["ratio"] > STATIONARITY_LIMIT:
        print(
            f"warning: the ratio is above {STATIONARITY_LIMIT:g}: the model is not at a minimum of "
            "this loss, so the scores describe the local quadratic model, not a retraining",
            file=sys.stderr,
        )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    times = ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items())
    print(f"{times}; peak memory {memory:.2f} GB")


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = load(arguments)
    test_x = load_test_points(arguments, model)
    stages = ProgressStages()
    influence = Influence(model.pinn, model.train_x, PAPER, arguments.batch_size, stages)
    describe(model)
    cost = estimate.cost(influence, test_x, arguments.dense)
    print(cost)
    if arguments.dry_run:
        return
    default = model.path.parent.with_name(f"{model.path.parent.name}_influences")
    folder = arguments.save_path or default
    check_room(folder, cost.disk_bytes)
    scores = influence.influence(test_x)
    packages = ("pinnfluence", "torch", "numpy", "scipy")
    scores.metadata |= {
        "checkpoint": {"name": model.path.name, "sha256": sha256(model.path)},
        "config": model.config,
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    with stages.stage("file", 1):
        paths = [scores.save(folder)]
        if arguments.dense:
            paths.append(scores.save_dense(folder))
    report(scores, stages.seconds)
    print("\n".join(f"wrote {path}" for path in paths))


if __name__ == "__main__":
    run_script(main)
