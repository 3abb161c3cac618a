"""Train a physics-informed neural network: the flow around a cylinder, or another problem.

python train.py --save_path model_zoo/good
python train.py --broken --save_path model_zoo/broken
python train.py --num_domain 1500 --num_boundary 500 --save_path model_zoo/bad

The same command goes on where it was stopped.
"""

import argparse
import importlib.metadata
import time
from pathlib import Path
from typing import Any

import torch

from pinnfluence import checkpoint, deepxde_model, devices, loss_step, problems
from pinnfluence.errors import InputError, Parser, run_script
from pinnfluence.problem import Problem
from pinnfluence.reference import load_reference
from pinnfluence.training import Run, Schedule

RESULTS_DEPEND_ON = (
    "problem", "variant", "conditions", "layers", "lr", "n_iterations", "n_iterations_lbfgs",
    "num_domain", "num_boundary", "seed", "dtype",
)  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description="Train a physics-informed neural network with Adam, then L-BFGS.")
    add = parser.add_argument
    add("--problem", default=problems.DEFAULT, choices=problems.names())
    add("--variant", help="a variant of the problem (default: its first)")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="a set of conditions (default: the problem's first)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate")
    add("--layers", type=int, nargs="+", help="widths of all layers, for example 2 64 64 64 64 3")
    add("--n_iterations", type=int, default=100_000, help="Adam steps")
    add("--n_iterations_lbfgs", type=int, default=25_000, help="most L-BFGS iterations")
    add("--num_domain", type=int, help="training points inside the domain")
    add("--num_boundary", type=int, help="training points on the boundary")
    add("--save_path", type=Path, help="run folder (default: model_zoo/<variant>)")
    add("--device", default="auto", choices=devices.NAMES)
    add("--seed", type=int, default=42)
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--compile", default="auto", choices=loss_step.COMPILE_MODES, help="compile the loss")
    add("--threads", type=int, help="processor threads (default: all)")
    add("--restart", action="store_true", help="move an old run aside and begin anew")
    return parser.parse_args()


def configure(arguments: argparse.Namespace) -> tuple[Problem, dict[str, Any]]:
    """The problem, and every setting of the run that the results depend on."""
    problem = problems.load(arguments.problem)
    if arguments.broken and arguments.variant not in (None, "broken"):
        raise InputError(f"--broken contradicts --variant {arguments.variant}; give one of them")
    variant = "broken" if arguments.broken else arguments.variant or next(iter(problem.variants))
    problem = problem.variant(variant)
    settings = {key: getattr(arguments, key) for key in RESULTS_DEPEND_ON}
    settings["variant"] = variant
    settings["conditions"] = arguments.conditions or next(iter(problem.conditions))
    for key in ("layers", "num_domain", "num_boundary"):
        if settings[key] is None:
            settings[key] = getattr(problem, key)
    settings["layers"] = list(settings["layers"])
    settings["variant"] = name_of_points(problem, variant, settings)
    settings |= {"activation": problem.activation, "scale": list(problem.scale)}
    return problem, settings


def name_of_points(problem: Problem, variant: str, settings: dict[str, Any]) -> str:
    """The name of the variant that has these numbers of points and this equation, if any."""
    numbers = {key: settings[key] for key in ("num_domain", "num_boundary")}
    for name in problem.variants:
        other = problem.variant(name)
        if other.pde is problem.pde and all(getattr(other, k) == n for k, n in numbers.items()):
            return name
    return variant


def prepare_folder(folder: Path, settings: dict[str, Any], device: str, restart: bool) -> None:
    """Make the run folder; refuse one that holds a run with other settings."""
    old = checkpoint.load_config(folder / checkpoint.CONFIG)
    if old and restart:
        aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
        print(f"moved the old run to {aside}")
    elif old:
        different = [key for key, value in settings.items() if old.get(key) != value]
        if different:
            key = different[0]
            raise InputError(
                f"{folder} holds a run with {key} = {old.get(key)}, found {settings[key]}; "
                "use the same flags, another --save_path, or --restart"
            )
        return
    packages = ("torch", "deepxde", "numpy", "pinnfluence")
    versions = {package: importlib.metadata.version(package) for package in packages}
    checkpoint.save_config(
        folder / checkpoint.CONFIG, settings | {"device": device, "versions": versions}
    )


def main() -> None:
    arguments = parse_arguments()
    problem, settings = configure(arguments)
    dtype = getattr(torch, arguments.dtype)
    device = devices.select(arguments.device, dtype)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    schedule = Schedule(arguments.n_iterations, arguments.n_iterations_lbfgs, arguments.lr)
    numbers = {key: settings[key] for key in ("layers", "num_domain", "num_boundary", "seed")}
    model = deepxde_model.build(problem, settings["conditions"], **numbers)
    folder = arguments.save_path or Path("model_zoo") / settings["variant"]
    prepare_folder(folder, settings, device.type, arguments.restart)

    model.net.to(device, dtype)
    reference = load_reference(problem.reference) if problem.reference else None
    run = Run(model, folder, schedule, reference)
    if not run.finished:
        step = loss_step.loss_step(model.pinn.at(model.train_x), dtype, device)
        n_steps = schedule.n_iterations + schedule.n_iterations_lbfgs
        model.step, how = loss_step.choose(step, model.params(), arguments.compile, n_steps)
        n_params = model.net.num_trainable_parameters()
        print(f"{len(model.train_x)} points, {n_params} parameters, {device}, {how}")
    state = run.train()
    n_terms = len(model.pinn.terms)
    loss = sum(value or 0.0 for value in state.rows[-1][1 : 1 + n_terms])
    print(f"finished at step {state.step}, loss {loss:.4g}, {state.seconds:.0f} s, in {folder}")


if __name__ == "__main__":
    run_script(main)
