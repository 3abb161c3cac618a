"""The same computations on an accelerator and on the CPU: seconds, and how far the results differ.

python benchmarks/device_check.py [--device cuda] [--checkpoint model_zoo/bad]

Twenty steps of Adam, scores by both recipes and a diagnosis, in float64. A difference is the
largest one, relative to the largest value on the CPU. Above its tolerance the check ends with exit
code 2. Where the device is absent, it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pinnfluence import Influence, TrainedModel, diagnose, load_model
from pinnfluence.runtime import devices
from pinnfluence.runtime.devices import as_array
from pinnfluence.training.loss_step import loss_step

ROOT = Path(__file__).parents[1]
N_STEPS, N_TEST, N_FRESH = 20, 50, 1000


def training(model: TrainedModel) -> np.ndarray:
    """theta ``[n_params]`` after some steps of Adam."""
    pinn = model.pinn
    params = {name: p.clone() for name, p in pinn.params.items()}
    optimizer = torch.optim.Adam(params.values(), lr=1e-4)
    step = loss_step(pinn.at(model.train_x), pinn.like.dtype, pinn.like.device)
    for _ in range(N_STEPS):
        _, gradients = step(params)
        for name, p in params.items():
            p.grad = gradients[name]
        optimizer.step()
    return np.concatenate([as_array(p).ravel() for p in params.values()])


def scores(model: TrainedModel, recipe: str) -> np.ndarray:
    """Of the first output, at some of the training points, without compression."""
    influence = Influence(model.pinn, model.train_x, recipe)
    test_x = model.train_x[:: max(1, len(model.train_x) // N_TEST)]
    return influence.scores(test_x, model.pinn.outputs[0])[:]


def estimated_error(model: TrainedModel) -> np.ndarray:
    """Of all outputs, at the training points."""
    errors = diagnose(model, fresh=min(N_FRESH, len(model.train_x))).error(model.train_x)
    return np.stack(list(errors.values()))


CHECKS: dict[str, tuple[Callable[[TrainedModel], np.ndarray], float]] = {
    "training": (training, 1e-8),
    "scores, paper": (lambda model: scores(model, "paper"), 1e-4),
    "scores, gauss-newton": (lambda model: scores(model, "gauss-newton"), 1e-3),
    "diagnosis": (estimated_error, 1e-2),
}
"""What is computed, and the largest relative difference that rounding explains: the eigensolver and
the sketch in float32 stop where they are near enough, and the damping of a diagnosis is chosen."""


def check(on_cpu: TrainedModel, on_device: TrainedModel) -> bool:
    """Print a row for each computation; whether all differences are within their tolerances."""
    print(f"{'':22}{'CPU, s':>10}{'device, s':>11}{'difference':>12}{'tolerance':>11}")
    is_well = True
    for name, (compute, tolerance) in CHECKS.items():
        seconds, results = [], []
        for model in (on_cpu, on_device):
            began = time.perf_counter()
            results.append(compute(model))
            seconds.append(time.perf_counter() - began)
        expected, found = results
        difference = float(abs(found - expected).max() / abs(expected).max())
        is_well &= difference <= tolerance  # NaN is not
        times = "".join(f"{s:{width}.2f}" for s, width in zip(seconds, (10, 11), strict=True))
        print(f"{name:22}{times}{difference:12.1e}{tolerance:11.0e}", flush=True)
    return is_well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "xla"))
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "model_zoo" / "bad")
    arguments = parser.parse_args()
    if arguments.device not in devices.present():
        print(f"no device {arguments.device} here: nothing was checked")
        return 0
    device = devices.select(arguments.device, torch.float64)
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    print(
        f"{name} beside {torch.get_num_threads()} threads of the CPU, {arguments.checkpoint.name}"
    )
    models = [load_model(arguments.checkpoint, device=where) for where in ("cpu", device)]
    if check(*models):
        return 0
    print("error: a difference is above its tolerance", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
