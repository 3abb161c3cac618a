"""Train a physics-informed neural network: the flow around a cylinder, or another problem.

python train.py --save_path runs/good
python train.py --broken --save_path runs/broken
python train.py --num_domain 1500 --num_boundary 500 --save_path runs/bad
python train.py --problem heat

The same command goes on where it was stopped.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from pinnfluence import problems
from pinnfluence.errors import InputError, Parser, input_errors, run_script
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.plots.drawing import save
from pinnfluence.plots.history import history_figure
from pinnfluence.problem.problem import NUMBERS, TRAINING, Problem
from pinnfluence.runtime import devices
from pinnfluence.storage import checkpoint
from pinnfluence.storage.files import sha256
from pinnfluence.training import loss_step, run_folder
from pinnfluence.training.history import read_history
from pinnfluence.training.run import Run, Schedule

RESULTS_DEPEND_ON = ("problem", "variant", "conditions", "layers", "seed", *NUMBERS, *TRAINING)


def parse_arguments() -> argparse.Namespace:
    paper = ", ".join(f"{key} {value}" for key, value in TRAINING.items())
    parser = Parser(
        description="Train a physics-informed network: Adam, L-BFGS, Levenberg-Marquardt.",
        epilog="Numbers of points and iterations, layers, lr and dtype that are not given are those"
        f" of the problem's variant; where it has none: {paper}.",
    )
    add = parser.add_argument
    add("--problem", default=problems.DEFAULT, choices=problems.names(), help="what to solve")
    add("--variant", help="a variant of the problem (default: its first)")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="a set of conditions (default: the problem's first)")
    add("--layers", type=int, nargs="+", help="widths of all layers, for example 2 64 64 64 64 3")
    add("--n_iterations", type=int, help="Adam steps")
    add("--n_iterations_lbfgs", type=int, help="most L-BFGS iterations")
    add("--n_iterations_lm", type=int, help="most Levenberg-Marquardt iterations")
    add("--start_from", type=Path, help="checkpoint with the first weights (default: random)")
    add("--lr", type=float, help="Adam's learning rate")
    add("--dtype", choices=("float32", "float64"), help="of parameters and points")
    add("--num_domain", type=int, help="training points inside the domain")
    add("--num_boundary", type=int, help="training points on the boundary")
    add("--num_initial", type=int, help="training points at the initial time")
    add("--save_path", type=Path, help="run folder (default: runs/[<problem>_]<variant>)")
    add("--device", default="auto", choices=devices.NAMES, help="auto takes an accelerator if any")
    add("--seed", type=int, default=42, help="of weights and points")
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
    own = {key: getattr(problem, key) for key in ("layers", *NUMBERS)}
    for key, value in {**own, **TRAINING, **problem.training}.items():
        if settings[key] is None:
            settings[key] = value
    settings["layers"] = list(settings["layers"])
    settings["variant"] = whole.variant_with(variant, {key: settings[key] for key in NUMBERS})
    settings |= {"activation": problem.activation, "scale": list(problem.scale)}
    settings["loss_weights"] = dict(problem.loss_weights)
    first = arguments.start_from
    settings["start_from"] = sha256(checkpoint.find_checkpoint(first)) if first else None
    return problem, settings


def folder_of(settings: dict[str, Any]) -> Path:
    """Where a run lives by default; the flow's variants bear the paper's names alone."""
    of_problem = "" if settings["problem"] == problems.DEFAULT else f"{settings['problem']}_"
    return Path("runs") / (of_problem + settings["variant"])


def prepare(run: Run, compile_mode: str, dtype: torch.dtype, device: torch.device) -> str:
    """Choose how to evaluate the loss; says what is trained, and how."""
    model, schedule = run.model, run.schedule
    step = loss_step.loss_step(Loss.of_training(model.pinn.at(model.train_x)), dtype, device)
    n_steps = schedule.end("lbfgs")  # also of a run that goes on
    model.step, how = loss_step.choose(step, model.params(), compile_mode, n_steps)
    n_params = model.net.num_trainable_parameters()
    goes_on = f", from step {run.state.step}" if run.state.step else ""
    return f"{len(model.train_x)} points, {n_params} parameters, {device}, {how}{goes_on}"


def start_from(model: deepxde_model.PinnModel, path: Path) -> None:
    """Give a model the weights of a checkpoint, which must be of a network like its own."""
    path = checkpoint.find_checkpoint(path)
    weights = checkpoint.load_weights(path, len(model.pinn.inputs), len(model.pinn.outputs))
    found, expected = checkpoint.layers_of(weights), checkpoint.layers_of(model.net.state_dict())
    if found != expected:
        raise InputError(f"expected --start_from of layers {expected}, found {found} in {path}")
    model.net.load_state_dict(weights)


def main() -> None:
    arguments = parse_arguments()
    problem, settings = configure(arguments)
    dtype = getattr(torch, settings["dtype"])
    device = devices.select(arguments.device, dtype)
    devices.set_threads(arguments.threads)
    lengths = {key: settings[key] for key in TRAINING if key != "dtype"}
    schedule = Schedule(**lengths, save_seconds=arguments.save_seconds)
    numbers = {key: settings[key] for key in ("layers", "seed", *NUMBERS)}
    model = deepxde_model.build(problem, settings["conditions"], **numbers)
    model.net.to(device, dtype)
    if arguments.start_from:
        start_from(model, arguments.start_from)
    folder = arguments.save_path or folder_of(settings)
    for note in run_folder.prepare(folder, settings, device.type, arguments.restart):
        print(note)

    run = Run(model, folder, schedule, problem.reference() if problem.reference else None)
    finished = "was finished before," if run.finished else "finished"
    if not run.finished:
        print(prepare(run, arguments.compile, dtype, device))
    state = run.train()
    history = read_history(folder / checkpoint.HISTORY)
    curves = history_figure(history, folder.name, problem.labels, settings)
    save(curves, folder / checkpoint.CURVES)
    loss = run.history.loss()
    print(f"{finished} at step {state.step}, loss {loss:.4g}, {state.seconds:.0f} s, in {folder}")


if __name__ == "__main__":
    run_script(main)
