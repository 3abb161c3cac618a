"""Do influence scores predict retraining? Scores of a trained model against the real thing.

pinnfluence validate --checkpoint model_zoo/heat --save_path runs/heat_validation
pinnfluence validate --model my_script.py:make_model --polish 1e-4
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pinnfluence.commands import COMMANDS
from pinnfluence.errors import InputError
from pinnfluence.models import flags
from pinnfluence.runtime.script import Parser

if TYPE_CHECKING:
    import numpy as np

    from pinnfluence.models.model import Model

PROXIMAL = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 0.0)


def make_parser() -> Parser:
    parser = Parser(description=COMMANDS["validate"])
    parser.set_defaults(device="cpu")  # retraining is in float64, a process a core
    flags.add_model_flags(parser)
    add = parser.add_argument
    add(
        "--test_x_path",
        type=Path,
        help="test points, .npy (default: some of the reference's; with --model the training's)",
    )
    add("--removed", type=int, help="number of removals (default: all points, or 50 groups)")
    add("--added", type=int, help="number of new points that are added instead")
    add("--test_points", type=int, default=300, help="number of test points, drawn at random")
    add("--proximal", type=float, nargs="+", default=PROXIMAL, help="weights of the proximal term")
    add("--polish", type=float, help="first minimise the loss, with this proximal weight")
    add("--group_size", type=int, default=1, help="training points removed together")
    add("--halves", type=int, default=0, help="random halves, for the linear datamodeling score")
    add("--renormalise", action="store_true", help="divide by the number of points left")
    add("--tolerance", type=float, default=1e-5, help="final gradient, relative to a point's")
    add("--full", action="store_true", help="compare all curvatures, ranks and dampings")
    add("--processes", type=int, default=os.cpu_count() or 1, help="retrainings side by side")
    add("--seed", type=int, default=0, help="random seed of the points that are drawn")
    add("--save_path", type=Path, help="folder of the results (default: <model>_validation)")
    return parser


def check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that cannot be, before anything is read."""
    least = {"removed": 1, "added": 2, "test_points": 2, "group_size": 1, "processes": 1, "seed": 0}
    for name, lowest in least.items():
        value = getattr(arguments, name)
        if value is not None and value < lowest:
            raise InputError(f"expected --{name} of at least {lowest}, found {value}")
    cores = os.cpu_count() or 1
    if arguments.processes > cores:
        raise InputError(
            f"expected --processes of at most the {cores} cores of this machine, found "
            f"{arguments.processes}"
        )
    if arguments.seed >= 2**64:
        raise InputError(f"expected --seed below 2^64, found {arguments.seed}")
    if arguments.halves == 1 or arguments.halves < 0:
        raise InputError(f"expected --halves 0, or at least 2, found {arguments.halves}")
    removing = {"removed": None, "halves": 0, "group_size": 1, "full": False}
    given = [name for name, default in removing.items() if getattr(arguments, name) != default]
    if arguments.added is not None and given:
        raise InputError(f"expected --added without --{given[0]}, found both")
    weights = [*arguments.proximal, *([] if arguments.polish is None else [arguments.polish])]
    if unfit := [weight for weight in weights if not 0 <= weight < float("inf")]:
        raise InputError(f"expected --proximal and --polish of at least 0, found {unfit[0]}")
    if not 0 < arguments.tolerance < 1:
        raise InputError(f"expected --tolerance between 0 and 1, found {arguments.tolerance}")


def groups_of(arguments: argparse.Namespace, model: Model) -> list[np.ndarray]:
    """Groups of training points that are removed: each point, or random ones together."""
    from pinnfluence.validation.experiments import random_groups, spread_points

    n_train, n, size = len(model.train_x), arguments.removed, arguments.group_size
    if size >= n_train:
        raise InputError(f"expected --group_size below the {n_train} training points, found {size}")
    if size > 1:
        return random_groups(n_train, size, n or 50, arguments.seed)
    return spread_points(model.pinn.at(model.train_x), n or n_train, arguments.seed)


def candidates_of(arguments: argparse.Namespace, model: Model) -> np.ndarray:
    """Points that are added: drawn as the training's were, as many of each kind of place."""
    import numpy as np

    from pinnfluence.diagnosis.sampler import sampler_of
    from pinnfluence.validation.experiments import spread_points

    pool = sampler_of(model)(20 * arguments.added, arguments.seed)
    chosen = spread_points(model.pinn.at(pool), arguments.added, arguments.seed)
    return pool[np.concatenate(chosen)]


def main() -> None:
    arguments = make_parser().parse_args()
    check(arguments)

    from pinnfluence.runtime import devices  # here, and in functions: the help comes at once
    from pinnfluence.storage.files import check_target, sweep
    from pinnfluence.storage.lock import held
    from pinnfluence.storage.stage_store import STAGES

    devices.set_threads(1)  # a process a core
    model = flags.model_of(arguments)
    folder = flags.folder_of(arguments, "validation")
    check_target(folder)
    if not (model.pinn.outputs or model.pinn.quantities):
        raise InputError(
            f"{model.title} predicts nothing that could be compared with retraining; name what it "
            "predicts: torch_model(..., quantities={...})"
        )
    test_x = model.test_points(arguments.test_x_path, arguments.test_points, arguments.seed)
    groups = groups_of(arguments, model)
    with held(folder, "a validation"):
        for kept in (folder, *(folder / STAGES).rglob("*")):
            sweep(kept, "*")
        print(f"wrote {study(arguments, model, test_x, folder, groups)}")


def study(
    arguments: argparse.Namespace,
    model: Model,
    test_x: np.ndarray,
    folder: Path,
    groups: list[np.ndarray],
) -> Path:
    """Retrain, compare, and write the results; gives the file of the headline."""
    from pinnfluence.validation.experiments import Settings
    from pinnfluence.validation.study import Plan, Study

    found = Study(model.pinn, model.train_x, test_x, folder)
    found.facts |= model.provenance()
    settings = Settings(0.0, arguments.tolerance, arguments.renormalise)
    if arguments.polish is not None:
        found.polish(Settings(arguments.polish, arguments.tolerance))
    plan = Plan(
        groups,
        arguments.proximal,
        settings,
        arguments.halves,
        arguments.full,
        arguments.processes,
        arguments.seed,
    )
    if arguments.added is not None:
        return found.run_added(candidates_of(arguments, model), plan)
    return found.run(plan)
