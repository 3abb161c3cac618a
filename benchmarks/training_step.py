"""One Adam step of the flow: this package, plain DeepXDE and, if installed, JAX, in one process.

python benchmarks/training_step.py [--points 1000 2000 10000 100000] [--rounds 7]

The three take turns, so that a noisy machine disturbs all alike; medians are reported.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch

from pinnfluence import problems
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.storage.files import write_bytes
from pinnfluence.training import loss_step

RESULTS = Path(__file__).parent / "results" / "training_step.json"
Step = Callable[[], None]


def build(n_points: int) -> deepxde_model.PinnModel:
    problem = problems.load(problems.DEFAULT)
    n_boundary = n_points // 4
    return deepxde_model.build(
        problem, "corrected", problem.layers, n_points - n_boundary, n_boundary, seed=42
    )


def deepxde_step(n_points: int) -> Step:
    """DeepXDE as it is: losses through dde.grad, Adam."""
    model = build(n_points)
    model.compile("adam", lr=1e-3, verbose=0)
    inputs = model.data.train_next_batch()
    return lambda: model._train_step(*inputs)


def compiled_step(n_points: int) -> Step:
    """This package: one compiled function, fused Adam."""
    model = build(n_points)
    step = loss_step.loss_step(
        Loss.of_training(model.pinn.at(model.train_x)), torch.float32, torch.device("cpu")
    )
    model.step = loss_step.compiled(step, model.params())
    model.compile("adam", lr=1e-3, verbose=0)
    return lambda: model._train_step(None, None, None)


def jax_step(n_points: int) -> Step:
    """The same loss in JAX: derivatives by jvp of jvp, one jitted step."""
    from _jax_flow import make_step

    model = build(n_points)
    return make_step(model.train_x, [p.detach().numpy() for p in model.params().values()])


def seconds(step: Step, n_calls: int) -> float:
    began = time.perf_counter()
    for _ in range(n_calls):
        step()
    return (time.perf_counter() - began) / n_calls


def peak_gigabytes(step: Step) -> float | None:
    """Peak memory of the process during one step; None where Linux's reset is not available."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        step()
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


def measure(n_points: int, makers: Mapping[str, Callable[[int], Step]], rounds: int) -> dict:
    steps = {name: make(n_points) for name, make in makers.items()}
    n_calls = {}
    for name, step in steps.items():
        seconds(step, 2)
        n_calls[name] = max(1, min(20, round(0.5 / seconds(step, 1))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, n_calls[name]))
    found: dict = {"points": n_points}
    for name, step in steps.items():
        median = statistics.median(times[name])
        found[name] = {
            "milliseconds": round(1e3 * median, 2),
            "points_per_second": round(n_points / median),
            "peak_gigabytes": peak_gigabytes(step),
        }
    ratios = [b / a for a, b in zip(times["pinnfluence"], times["deepxde"], strict=True)]
    found["deepxde_over_pinnfluence"] = round(statistics.median(ratios), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 2000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    makers = {"pinnfluence": compiled_step, "deepxde": deepxde_step}
    if find_spec("jax"):
        makers["jax"] = jax_step
    rows = []
    print(f"{torch.get_num_threads()} threads, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    print(f"{'points':>8} {'step of':>12} {'ms':>9} {'points/s':>10} {'peak GB':>8} {'ratio':>6}")
    for n_points in arguments.points:
        row = measure(n_points, makers, arguments.rounds)
        rows.append(row)
        for name in makers:
            cell = row[name]
            ratio = row["deepxde_over_pinnfluence"] if name == "pinnfluence" else ""
            peak = "" if cell["peak_gigabytes"] is None else f"{cell['peak_gigabytes']:.2f}"
            line = f"{n_points:8d} {name:>12} {cell['milliseconds']:9.1f}"
            print(f"{line} {cell['points_per_second']:10d} {peak:>8} {ratio:>6}", flush=True)
    result = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": arguments.rounds,
        "rows": rows,
        "peak_gigabytes_of_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    write_bytes(RESULTS, (json.dumps(result, indent=2) + "\n").encode())
    print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
