"""How wrong a trained network is, where, and why; no reference is needed.

pinnfluence diagnose --checkpoint runs/good
pinnfluence diagnose --model my_script.py:make_model --fresh_model my_script.py:make_fresh
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pinnfluence.commands import COMMANDS
from pinnfluence.errors import InputError
from pinnfluence.models import flags
from pinnfluence.runtime.script import Parser

if TYPE_CHECKING:
    import numpy as np

    from pinnfluence.loss.pinn import Pinn
    from pinnfluence.models.model import Model


def make_parser() -> Parser:
    parser = Parser(
        description=COMMANDS["diagnose"],
        epilog="Writes report.json and report.html, which works offline, into --save_path.",
    )
    flags.add_model_flags(parser)
    add = parser.add_argument
    add(
        "--fresh",
        type=int,
        help="number of fresh points (default: twice the training points, at least 1000; fewer for "
        "a large network)",
    )
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--fresh_x_path", type=Path, help="your own fresh points, .npy")
    own.add_argument(
        "--fresh_model",
        metavar="SCRIPT.PY:FUNCTION",
        help="for a --model of torch_model or from_pina: a function that returns it of the same "
        "network at fresh points of each term",
    )
    add("--seed", type=int, default=0, help="random seed of the fresh points")
    add(
        "--quantities",
        nargs="+",
        help="outputs, derived quantities such as speed, or derivatives such as u_x, whose errors "
        "are estimated (default: the outputs)",
    )
    add("--save_path", type=Path, help="folder of the report (default: <model>_diagnosis)")
    add("--threads", type=int, help="number of processor threads (default: all)")
    return parser


def fresh_points(arguments: argparse.Namespace, model: Model) -> np.ndarray | Pinn | None:
    """Those of the user's own; None: they are drawn."""
    from pinnfluence.models.script import load_script

    if arguments.fresh_x_path is not None:
        return model.points_of(arguments.fresh_x_path, "fresh")
    return load_script(arguments.fresh_model).pinn if arguments.fresh_model is not None else None


def main() -> None:
    arguments = make_parser().parse_args()

    from pinnfluence.diagnosis import diagnose, files  # here: the help comes at once
    from pinnfluence.runtime import devices
    from pinnfluence.runtime.progress import ProgressStages
    from pinnfluence.storage.files import check_target
    from pinnfluence.storage.lock import held
    from pinnfluence.storage.stage_store import STAGES

    devices.set_threads(arguments.threads)
    if arguments.fresh is not None and arguments.fresh < 2:
        raise InputError(f"expected --fresh of at least 2, found {arguments.fresh}")
    if not 0 <= arguments.seed < 2**31:
        raise InputError(f"expected --seed from 0 to {2**31 - 1}, found {arguments.seed}")
    model = flags.model_of(arguments)
    folder = flags.folder_of(arguments, "diagnosis")
    check_target(folder)
    print(f"{model.title}: {model.settings()}", file=sys.stderr)
    title = folder.name.removesuffix("_diagnosis")
    with held(folder, "a diagnosis"):
        report = diagnose(
            model,
            arguments.fresh,
            fresh_points(arguments, model),
            arguments.seed,
            arguments.quantities,
            stages=ProgressStages(),
            folder=folder / STAGES,
        )
        print(report.text())
        paths = files.save(report, model, folder, title)
    print("\n".join(f"wrote {path}" for path in paths))
