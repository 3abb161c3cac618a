"""How wrong a trained network is, where, and why; no reference is needed.

python diagnose.py --checkpoint runs/good
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from pinnfluence import problems
from pinnfluence.diagnosis import diagnose, files
from pinnfluence.errors import InputError
from pinnfluence.models.trained_model import folder_beside, load_model, load_points_inside
from pinnfluence.runtime import devices
from pinnfluence.runtime.progress import ProgressStages
from pinnfluence.runtime.script import Parser, run_script
from pinnfluence.storage.files import check_target
from pinnfluence.storage.lock import held
from pinnfluence.storage.stage_store import STAGES


def parse_arguments() -> argparse.Namespace:
    parser = Parser(
        description="How wrong a trained network is, where, and why, without a reference.",
        epilog="Writes report.json and report.html, which works offline, into --save_path.",
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a .pt file of DeepXDE, or its folder")
    add("--train_x_path", type=Path, help="training points (default: beside the checkpoint)")
    add("--problem", choices=problems.names(), help="what was trained")
    add("--variant", help="the variant that was trained")
    add("--conditions", help="the set of conditions that was trained")
    add("--fresh", type=int, help="fresh points to draw (default: twice the training's)")
    add("--fresh_x_path", type=Path, help="fresh points of your own, .npy")
    add("--seed", type=int, default=0, help="of the fresh points")
    add(
        "--quantities",
        nargs="+",
        help="whose errors are asked for: outputs, derived quantities such as speed, derivatives "
        "such as u_x (default: the outputs)",
    )
    add("--save_path", type=Path, help="folder of the report (default: <checkpoint>_diagnosis)")
    add("--threads", type=int, help="processor threads (default: all)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    devices.set_threads(arguments.threads)
    if arguments.fresh is not None and arguments.fresh < 2:
        raise InputError(f"expected --fresh of at least 2, found {arguments.fresh}")
    if not 0 <= arguments.seed < 2**31:
        raise InputError(f"expected --seed from 0 to {2**31 - 1}, found {arguments.seed}")
    model = load_model(
        arguments.checkpoint,
        arguments.train_x_path,
        problem=arguments.problem,
        variant=arguments.variant,
        conditions=arguments.conditions,
    )
    fresh_x: np.ndarray | None = None
    if arguments.fresh_x_path is not None:
        fresh_x = load_points_inside(arguments.fresh_x_path, model.problem, "fresh")
    folder = arguments.save_path or folder_beside(arguments.checkpoint, "diagnosis")
    check_target(folder)
    print(f"{model.path}: {model.settings()}", file=sys.stderr)
    with held(folder, "a diagnosis"):
        report = diagnose(
            model,
            arguments.fresh,
            fresh_x,
            arguments.seed,
            arguments.quantities,
            stages=ProgressStages(),
            folder=folder / STAGES,
        )
        print(report.text())
        paths = files.save(report, model, folder, arguments.checkpoint.resolve().stem)
    print("\n".join(f"wrote {path}" for path in paths))


if __name__ == "__main__":
    run_script(main)
