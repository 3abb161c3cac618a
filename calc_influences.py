"""Influence of every training point on every prediction and loss of a trained model.

python calc_influences.py --checkpoint runs/good --save_path runs/good_influences
torchrun --nproc_per_node 2 calc_influences.py --checkpoint runs/good
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pinnfluence import problems
from pinnfluence.errors import InputError, Parser, run_script

if TYPE_CHECKING:
    from pinnfluence.curvature.recipe import Recipe
    from pinnfluence.models.trained_model import TrainedModel
    from pinnfluence.runtime.progress import ProgressStages
    from pinnfluence.scores.file import Scores


def parse_arguments() -> argparse.Namespace:
    parser = Parser(
        description="Influence of all training points on all predictions and losses.",
        epilog="What is computed is kept in .stages of --save_path as it completes: the same "
        "command goes on after an interruption, and with other test points the curvature and the "
        "training side are taken from there. It may be removed. Scores that are there are not "
        "made again. Under torchrun, all processes share the points.",
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a .pt file of DeepXDE, or its folder")
    add("--train_x_path", type=Path, help="training points (default: beside the checkpoint)")
    add("--test_x_path", type=Path, help="test points, .npy (default: the reference's points)")
    add("--test_points", type=int, help="so many of the test points, drawn at random")
    add("--problem", choices=problems.names(), help="what was trained")
    add("--variant", help="the variant that was trained")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="the set of conditions that was trained")
    add("--layers", type=int, nargs="+", help="widths of all layers, to be checked")
    add("--activation", help="gelu, sigmoid, silu, sin, swish or tanh")
    add("--scale", type=float, nargs="+", help="length by which each input is divided")
    add("--recipe", default="paper", help="paper or gauss-newton: sets the next five")
    add("--curvature", help="matrix that is inverted: hessian, gauss-newton, ...")
    add("--weighting", help="of loss terms: uniform (all 1), or training (as they were trained)")
    add("--rank", help="number of eigenpairs, or full")
    add("--inverse", help="method: full (the cheapest), dense, randomised, residual-space, ...")
    add("--damping", help="number added to the diagonal, or auto")
    leverage = "a removed point takes its curvature along (gauss-newton at full rank)"
    add("--leverage", action="store_true", default=None, help=leverage)
    add("--batch_size", type=int, help="points whose derivatives are held at a time")
    add("--save_path", type=Path, help="folder of the scores (default: <checkpoint>_influences)")
    add("--device", default="auto", help="auto (an accelerator if any), cpu, cuda, mps or xla")
    add("--dtype", default="float64", choices=("float32", "float64"), help="of gradients")
    add("--threads", type=int, help="processor threads (default: all)")
    add("--dense", action="store_true", help="write influence_arrs.npz with whole matrices, too")
    add("--restart", action="store_true", help="compute all again, whatever is there")
    add("--dry-run", action="store_true", help="print what it would cost, and stop")
    return parser.parse_args()


def load(arguments: argparse.Namespace) -> TrainedModel:
    import torch

    from pinnfluence.models.trained_model import load_model
    from pinnfluence.runtime import devices

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
        scale=arguments.scale,
    )


def target(arguments: argparse.Namespace) -> Path:
    """The folder of the scores."""
    from pinnfluence.models.trained_model import folder_beside

    if arguments.save_path is None:
        return folder_beside(arguments.checkpoint, "influences")
    if arguments.save_path.suffix in (".safetensors", ".npz"):
        raise InputError(f"--save_path must be a folder, found {arguments.save_path}")
    return arguments.save_path


def describe(model: TrainedModel) -> None:
    print(f"{model.path}: {model.settings()}")
    for name, loss in model.mean_losses().items():
        print(f"  {name:12s} {loss:.3e}")
    for warning in model.warnings():
        print(f"warning: {warning}", file=sys.stderr)


def recipe(arguments: argparse.Namespace) -> Recipe:
    """The named recipe, with the settings that were given."""
    from pinnfluence.curvature.recipe import damping_of, rank_of, recipe_of

    names = ("curvature", "weighting", "leverage", "inverse")
    changes = {name: getattr(arguments, name) for name in names}
    rank, damping = arguments.rank, arguments.damping
    changes["rank"] = None if rank is None else rank_of(rank)
    changes["damping"] = None if damping is None else damping_of(damping)
    return recipe_of(arguments.recipe, **changes)


def main() -> None:
    arguments = parse_arguments()

    import numpy as np  # here, and in the functions: the help comes at once

    from pinnfluence.influence import Influence, estimate
    from pinnfluence.models.trained_model import load_test_points
    from pinnfluence.runtime import devices, distributed
    from pinnfluence.runtime.progress import ProgressStages
    from pinnfluence.scores.dense import DENSE_FILE_NAME
    from pinnfluence.scores.file import FILE_NAME, find_scores
    from pinnfluence.storage.files import check_target
    from pinnfluence.storage.stage_store import STAGES

    devices.set_threads(arguments.threads)
    chosen = recipe(arguments)
    model = load(arguments)
    test_x = load_test_points(arguments.test_x_path, model.problem, arguments.test_points)
    folder, stages = target(arguments), ProgressStages()
    settings = model.pinn, model.train_x, chosen, arguments.batch_size, stages
    influence = Influence(*settings, folder / STAGES, model.provenance())
    describe(model)
    if not (arguments.restart or arguments.dry_run):
        scores = find_scores(folder, influence.key(test_x)) if distributed.is_first() else None
        if distributed.from_first(scores is not None):
            print(f"{folder} holds these scores already; --restart makes them again")
            if scores is not None and arguments.dense:
                check_target(folder, 0, [DENSE_FILE_NAME])
                with writing_into(folder):
                    print(f"wrote {scores.save_dense(folder)}")
            return
    print(f"batch size {influence.executor.batch_size}")
    cost = estimate.cost(influence, test_x, arguments.dense, arguments.restart)
    print(cost)
    if arguments.dry_run:
        return
    files = [FILE_NAME, *([DENSE_FILE_NAME] if arguments.dense else [])]
    check_target(folder, cost.disk_bytes + cost.passing_bytes, files)
    with writing_into(folder):
        if arguments.restart:
            influence.discard_stages()
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that overflow are refused
            scores = influence.influence(test_x)
        if distributed.is_first():
            scores.metadata |= model.provenance()
            write(scores, folder, stages, arguments.dense)
            influence.discard_test_stages()


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes, and sweep what killed ones left in it."""
    from pinnfluence.runtime import distributed
    from pinnfluence.storage.files import sweep
    from pinnfluence.storage.lock import held
    from pinnfluence.storage.stage_store import STAGES

    if not distributed.is_first():
        yield
        return
    with held(folder, "influence scores"):
        sweep(folder, "influence*")
        sweep(folder / STAGES, "*")
        yield


def write(scores: Scores, folder: Path, stages: ProgressStages, dense: bool) -> None:
    """Write the files of the scores, and say what is in them."""
    from pinnfluence.influence.report import report

    with stages.stage("file", 1) as advance:
        paths = [scores.save(folder), *([scores.save_dense(folder)] if dense else [])]
        advance(1)
    lines, warnings = report(scores, stages.seconds)
    print("\n".join(lines))
    print("".join(f"warning: {warning}\n" for warning in warnings), end="", file=sys.stderr)
    print("\n".join(f"wrote {path}" for path in paths))


def together() -> None:
    """``main`` as one of several processes, where ``torchrun`` started them."""
    from pinnfluence.runtime import distributed

    distributed.together(main)()


if __name__ == "__main__":
    run_script(together if "WORLD_SIZE" in os.environ else main)
