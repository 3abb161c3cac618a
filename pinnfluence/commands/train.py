"""Train a physics-informed neural network: the flow around a cylinder, or another problem.

pinnfluence train --save_path runs/good
pinnfluence train --broken --save_path runs/broken
pinnfluence train --num_domain 1500 --num_boundary 500 --save_path runs/bad
pinnfluence train --problem heat
pinnfluence train --problem burgers --sampler rad --sampler_every 100

The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnfluence import problems
from pinnfluence.commands import COMMANDS
from pinnfluence.problem.parts import DISTRIBUTIONS, Schedule
from pinnfluence.runtime.script import Parser
from pinnfluence.samplers.strategies import MODES, STRATEGIES
from pinnfluence.training import optimizers

if TYPE_CHECKING:
    from pinnfluence.problem.problem import Problem
    from pinnfluence.samplers.sampler import Sampler
    from pinnfluence.training.early_stopping import EarlyStopping
    from pinnfluence.training.objective import TrainingLoss

TITLES = {"adam": "Adam", "lbfgs": "L-BFGS", "lm": "Levenberg-Marquardt"}
"""For the help; the phases themselves would have to be imported, with PyTorch."""


def make_parser() -> Parser:
    paper = Schedule()
    lengths = ", ".join(f"{optimizers.flag(name)} {n}" for name, n in paper.iterations.items())
    parser = Parser(
        description=COMMANDS["train"],
        epilog="Numbers of points and iterations, layers, lr and dtype that are not given are those"
        f" of the problem's variant; where it has none: {lengths}, lr {paper.lr}, {paper.dtype}.",
    )
    add = parser.add_argument
    add("--problem", default=problems.DEFAULT, choices=problems.names(), help="equation to solve")
    add("--variant", help="variant of the problem, such as bad (default: its first)")
    add("--broken", action="store_true", help="short for --variant broken")
    add("--conditions", help="set of boundary conditions (default: the problem's first)")
    add("--layers", type=int, nargs="+", help="widths of all layers, for example 2 64 64 64 64 3")
    add_length_flags(parser)
    add("--start_from", type=Path, help="checkpoint with the initial weights (default: random)")
    add("--lr", type=float, help="learning rate of Adam")
    add("--dtype", choices=("float32", "float64"), help="precision of parameters and points")
    add("--num_domain", type=int, help="number of training points inside the domain")
    add("--num_boundary", type=int, help="number of training points on the boundary")
    add("--num_initial", type=int, help="number of training points at the initial time")
    add("--distribution", choices=DISTRIBUTIONS, help="how points inside the domain are drawn")
    add_sampler_flags(parser)
    add("--save_path", type=Path, help="folder of the run (default: runs/[<problem>_]<variant>)")
    add("--device", default="auto", help="auto (an accelerator if any), cpu, cuda, mps or xla")
    add("--seed", type=int, default=42, help="random seed of weights and points")
    add("--compile", default="auto", choices=("auto", "on", "off"), help="compile the loss")
    add("--threads", type=int, help="number of processor threads (default: all)")
    add("--save_seconds", type=float, default=30, help="seconds between two saves, at most")
    add("--restart", action="store_true", help="move an old run aside and begin anew")
    return parser


def add_length_flags(parser: Parser) -> None:
    """How long each phase of the training is."""
    add = parser.add_argument
    for name in optimizers.names():
        add(
            f"--{optimizers.flag(name)}",
            type=int,
            help=f"iterations of {TITLES.get(name, name)}, at most",
        )
    add(
        "--patience",
        type=int,
        help="end a phase when the loss at fresh points has not fallen for so many iterations, and"
        " keep the weights of the least (default: all iterations, the last weights)",
    )


def add_sampler_flags(parser: Parser) -> None:
    """How training points are chosen while the network is trained."""
    add = parser.add_argument
    add("--sampler", choices=STRATEGIES, help="how points inside the domain are added or replaced")
    add("--sampler_every", type=int, help="iterations between two choices of points")
    add("--sampler_points", type=int, help="points added (10), or kept by replacing (all)")
    add("--sampler_mode", choices=MODES, help="new points join or replace (default: by sampler)")
    add("--sampler_candidates", type=int, help="candidates each time (default: by sampler)")
    add(
        "--sampler_quantity",
        help="with influence: the output or integral, such as drag, whose error shall fall",
    )


def folder_of(settings: dict[str, Any]) -> Path:
    """Where a run lives by default; the flow's variants bear the paper's names alone."""
    of_problem = "" if settings["problem"] == problems.DEFAULT else f"{settings['problem']}_"
    return Path("runs") / (of_problem + settings["variant"])


def main() -> None:
    arguments = make_parser().parse_args()

    import torch  # here, and in the functions below: the help comes at once

    from pinnfluence.models.deepxde.model import build
    from pinnfluence.runtime import devices
    from pinnfluence.samplers.flags import sampler_of
    from pinnfluence.storage.files import check_target
    from pinnfluence.storage.lock import held
    from pinnfluence.training import run_folder
    from pinnfluence.training.objective import TrainingLoss
    from pinnfluence.training.run import check_seconds
    from pinnfluence.training.settings import configure, early_stopping_of, start_from

    check_seconds(arguments.save_seconds)
    problem, settings = configure(vars(arguments))
    sampler, how = sampler_of(vars(arguments), problem)
    settings |= how
    dtype = getattr(torch, settings["dtype"])
    device = devices.select(arguments.device, dtype)
    devices.set_threads(arguments.threads)
    model = build(problem, settings["conditions"], settings["seed"])
    model.net.to(device, dtype)
    if arguments.start_from:
        start_from(model.pinn, arguments.start_from)
    early = early_stopping_of(arguments.patience, problem, model.pinn, arguments.seed)
    folder = arguments.save_path or folder_of(settings)
    check_target(folder)
    with held(folder, "training"):
        for note in run_folder.prepare(folder, settings, device.type, arguments.restart):
            print(note)
        loss = TrainingLoss(model.pinn, model.train_x)
        train(loss, problem, folder, arguments, sampler, early)


def train(
    loss: TrainingLoss,
    problem: Problem,
    folder: Path,
    arguments: argparse.Namespace,
    sampler: Sampler | None,
    early: EarlyStopping | None,
) -> None:
    """Train in the folder, draw the course of the loss, say how it ended."""
    from pinnfluence.plots.history import history_figure
    from pinnfluence.plots.style import save
    from pinnfluence.storage import checkpoint
    from pinnfluence.storage.config import CONFIG, load_config
    from pinnfluence.training.history import read_history
    from pinnfluence.training.run import Run

    reference = problem.reference() if problem.reference else None
    schedule = problem.schedule
    run = Run(loss, folder, schedule, arguments.save_seconds, reference, sampler, early)
    finished = "was finished before," if run.finished else "finished"
    if not run.finished:
        n_steps = sum(schedule.iterations.values())
        loss.compile(arguments.compile, min(n_steps, sampler.every) if sampler else n_steps)
        goes_on = f", from step {run.state.step}" if run.state.step else ""
        where = next(loss.network.parameters()).device
        n_params = loss.pinn.n_params
        print(f"{len(loss.points)} points, {n_params} parameters, {where}, {loss.how}{goes_on}")
    state = run.train()
    history = read_history(folder / checkpoint.HISTORY)
    config = load_config(folder / CONFIG)
    stated = config.stated() if config else {}
    curves = history_figure(history, folder.name, problem.labels, stated)
    save(curves, folder / checkpoint.CURVES)
    best = early.best if early else None
    total = run.history.loss(best.step if best else None)
    kept = f" at step {best.step}" if best else ""
    seconds = f"{state.seconds:.0f} s"
    print(f"{finished} at step {state.step}, loss {total:.4g}{kept}, {seconds}, in {folder}")
