"""Influence of every training point on every prediction and loss of a trained model.

pinnfluence scores --checkpoint runs/good --save_path runs/good_influences
pinnfluence scores --model my_script.py:make_model --recipe gauss-newton
torchrun --nproc_per_node 2 -m pinnfluence scores --checkpoint runs/good
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pinnfluence.commands import COMMANDS
from pinnfluence.models import flags
from pinnfluence.runtime.script import Parser

if TYPE_CHECKING:
    from pinnfluence.curvature.recipe import Recipe
    from pinnfluence.models.model import Model


def make_parser() -> Parser:
    parser = Parser(
        description=COMMANDS["scores"],
        epilog="Finished parts are kept in .stages of --save_path, which may be removed: the same "
        "command goes on after an interruption, and with other test points it reuses the curvature "
        "and the training side. Scores that exist are not computed again. Under torchrun, all "
        "processes share the points.",
    )
    flags.add_model_flags(parser)
    add = parser.add_argument
    add(
        "--test_x_path",
        type=Path,
        help="test points, .npy (default: the reference's; with --model the training's)",
    )
    add("--test_points", type=int, help="number of these, drawn at random (default: all)")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--layers", type=int, nargs="+", help="widths of all layers, compared with the checkpoint")
    add("--activation", help="activation: gelu, sigmoid, silu, sin, swish or tanh")
    add("--scale", type=float, nargs="+", help="length by which each input is divided")
    _add_recipe_flags(parser)
    add("--batch_size", type=int, help="number of points whose derivatives are in memory at a time")
    add("--save_path", type=Path, help="folder of the scores (default: <model>_influences)")
    add(
        "--device",
        default="auto",
        help="auto (an accelerator if any; of --model, where it is), cpu, ...",
    )
    add("--dtype", default="float64", choices=("float32", "float64"), help="precision")
    add("--threads", type=int, help="number of processor threads (default: all)")
    add("--dense", action="store_true", help="also write whole matrices, influence_arrs.npz")
    add("--restart", action="store_true", help="compute everything again")
    add("--dry-run", action="store_true", help="print time, memory and disk needed, and stop")
    return parser


def _add_recipe_flags(parser: Parser) -> None:
    """``--recipe`` and the settings of a recipe."""
    add = parser.add_argument
    add(
        "--recipe",
        help="paper or gauss-newton: sets the next five (default: paper, the published scores; "
        "with --model gauss-newton, which predicts retraining)",
    )
    add("--curvature", help="matrix that is inverted: hessian or gauss-newton")
    add("--weighting", help="of loss terms: uniform (all 1) or training (as trained)")
    add("--rank", help="number of eigenpairs, or full")
    add("--inverse", help="by full (the cheapest), dense, randomised, residual-space, ...")
    add("--damping", help="number added to the diagonal, or auto")
    leverage = "account for the curvature that is removed with a point"
    add("--leverage", action="store_true", default=None, help=leverage)


def describe(model: Model) -> None:
    print(f"{model.title}: {model.settings()}")
    print("mean squared residuals at the training points:")
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
    usual = "gauss-newton" if arguments.model else "paper"
    return recipe_of(arguments.recipe or usual, **changes)


def main() -> None:
    """Compute the scores, alone or as one of the processes that ``torchrun`` started."""
    if "WORLD_SIZE" not in os.environ:
        return compute()

    from pinnfluence.runtime import distributed

    distributed.together(compute)()


def compute() -> None:
    arguments = make_parser().parse_args()

    from pinnfluence.influence import Influence  # here, and in functions: the help comes at once
    from pinnfluence.influence.score_folder import ScoreFolder
    from pinnfluence.runtime import devices
    from pinnfluence.runtime.progress import ProgressStages
    from pinnfluence.storage.stage_store import STAGES

    devices.set_threads(arguments.threads)
    chosen = recipe(arguments)
    model = flags.model_of(arguments)
    test_x = model.test_points(arguments.test_x_path, arguments.test_points)
    folder, stages = flags.folder_of(arguments, "influences"), ProgressStages()
    settings = model.pinn, model.train_x, chosen, arguments.batch_size, stages
    influence = Influence(*settings, folder / STAGES, model.provenance())
    describe(model)
    scores = ScoreFolder(model, influence, test_x, folder, stages, arguments.dense)
    if not (arguments.restart or arguments.dry_run) and scores.has_scores():
        return
    cost = scores.cost(arguments.restart)
    if not arguments.dry_run:
        scores.compute(cost, arguments.restart)
