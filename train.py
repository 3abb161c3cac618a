"""Train a physics-informed neural network: the flow around a cylinder, or another problem.

python train.py --save_path runs/good
python train.py --broken --save_path runs/broken
python train.py --num_domain 1500 --num_boundary 500 --save_path runs/bad

The same command goes on where it was stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pinnfluence import checkpoint, devices, problems
from pinnfluence.deepxde import model as deepxde_model
from pinnfluence.errors import InputError, Parser, input_errors, run_script
from pinnfluence.plots.drawing import save
from pinnfluence.plots.history import history_figure
from pinnfluence.problem import Problem
from pinnfluence.reference import load_reference
from pinnfluence.training import loss_step, run_folder
from pinnfluence.training.history import read_history
from pinnfluence.training.run import Run, Schedule

RESULTS_DEPEND_ON = (
    "problem", "variant", "conditions", "layers", "lr", "n_iterations", "n_iterations_lbfgs",
    "n_iterations_lm", "num_domain", "num_boundary", "seed", "dtype",
)  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = Parser(
        description="Train a physics-informed network: Adam, L-BFGS, Levenberg-Marquardt."
    )
    add = parser.add_argument
    add("--problem", default=problems.DEFAULT, choices=problems.names())
    add("--variant", help="a variant of the problem (default: its first)")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="a set of conditions (default: the problem's first)")
    add("--lr", type=float, default=1e-3, help="Adam's learning rate")
    add("--layers", type=int, nargs="+", help="widths of all layers, for example 2 64 64 64 64 3")
    add("--n_iterations", type=int, default=100_000, help="Adam steps")
    add("--n_iterations_lbfgs", type=int, default=25_000, help="most L-BFGS iterations")
    add("--n_iterations_lm", type=int, default=0, help="most Levenberg-Marquardt iterations")
    add("--num_domain", type=int, help="training points inside the domain")
    add("--num_boundary", type=int, help="training points on the boundary")
    add("--save_path", type=Path, help="run folder (default: runs/<variant>)")
    add("--device", default="auto", choices=devices.NAMES)
    add("--seed", type=int, default=42)
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--compile", default="auto", choices=loss_step.COMPILE_MODES, help="compile the loss")
    add("--threads", type=int, help="processor threads (default: all)")
    add("--save_seconds", type=float, default=30, help="save the state so often, at least")
    add("--restart", action="store_true", help="move an old run aside and begin anew")
    return parser.parse_args()


def configure(arguments: argparse.Namespace) -> tuple[Problem, dict[str, Any]]:
    """The problem, and every setting of the run that the results depend on."""
    whole = problems.load(arguments.problem)
    if arguments.broken and arguments.variant not in (None, "broken"):
        raise InputError(f"--broken contradicts --variant {arguments.variant}; give one of them")
    variant = "broken" if arguments.broken else arguments.variant or next(iter(whole.variants))
    settings = {key: getattr(arguments, key) for key in RESULTS_DEPEND_ON}
    settings["conditions"] = arguments.conditions or next(iter(whole.conditions))
    with input_errors():
        problem = whole.variant(variant)
        problem.equations(settings["conditions"])
    for key in ("layers", "num_domain", "num_boundary"):
        if settings[key] is None:
            settings[key] = getattr(problem, key)
    settings["layers"] = list(settings["layers"])
    settings["variant"] = name_of_points(whole, variant, settings)
    settings |= {"activation": problem.activation, "scale": list(problem.scale)}
    settings["loss_weights"] = dict(problem.loss_weights)
    return problem, settings


def name_of_points(whole: Problem, variant: str, settings: dict[str, Any]) -> str:
    """The name of the variant that differs at most in these numbers of points, if there is one."""
    problem, numbers = whole.variant(variant), ("num_domain", "num_boundary")
    for name in whole.variants:
        other = whole.variant(name)
        points = {key: getattr(other, key) for key in numbers}
        if replace(problem, **points) == other and points.items() <= settings.items():
            return name
    return variant


def prepare(run: Run, arguments: argparse.Namespace, device: torch.device) -> str:
    """Choose how to evaluate the loss; says what is trained, and how."""
    model, schedule = run.model, run.schedule
    step = loss_step.loss_step(
        model.pinn.at(model.train_x), getattr(torch, arguments.dtype), device
    )
    n_steps = schedule.end("lbfgs")  # also of a run that goes on
    model.step, how = loss_step.choose(step, model.params(), arguments.compile, n_steps)
    n_params = model.net.num_trainable_parameters()
    goes_on = f", from step {run.state.step}" if run.state.step else ""
    return f"{len(model.train_x)} points, {n_params} parameters, {device}, {how}{goes_on}"


def main() -> None:
    arguments = parse_arguments()
    problem, settings = configure(arguments)
    device = devices.select(arguments.device, getattr(torch, arguments.dtype))
    devices.set_threads(arguments.threads)
    schedule = Schedule(
        arguments.n_iterations,
        arguments.n_iterations_lbfgs,
        arguments.n_iterations_lm,
        arguments.lr,
        save_seconds=arguments.save_seconds,
    )
    numbers = {key: settings[key] for key in ("layers", "num_domain", "num_boundary", "seed")}
    model = deepxde_model.build(problem, settings["conditions"], **numbers)
    folder = arguments.save_path or Path("runs") / settings["variant"]
    for note in run_folder.prepare(folder, settings, device.type, arguments.restart):
        print(note)

    model.net.to(device, getattr(torch, arguments.dtype))
    reference = load_reference(problem.reference) if problem.reference else None
    run = Run(model, folder, schedule, reference)
    finished = "was finished before," if run.finished else "finished"
    if not run.finished:
        print(prepare(run, arguments, device))
    state = run.train()
    curves = history_figure(read_history(folder / checkpoint.HISTORY), folder.name)
    save(curves, folder / checkpoint.CURVES)
    loss = run.history.loss()
    print(f"{finished} at step {state.step}, loss {loss:.4g}, {state.seconds:.0f} s, in {folder}")


if __name__ == "__main__":
    run_script(main)
