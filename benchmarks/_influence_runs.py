"""Runs of the package itself: the script in a process of its own, and the library by size."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence import Influence, Pinn, problems
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.models.trained_model import load_test_points
from pinnfluence.runtime.progress import Stages

SCRIPT = Path(__file__).parents[1] / "calc_influences.py"
PROBLEM = problems.load("cylinder_flow")
LEAST_BOUNDARY = 40
"""Boundary points with which some lie at the inflow and at the outflow."""

PACKAGES = ("torch", "captum", "deepxde", "numpy", "scipy")


def machine() -> dict[str, Any]:
    """What times depend on, beside the processor."""
    return {
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "torch_threads": torch.get_num_threads(),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
    }


def own_peak() -> float:
    """Peak memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def run_script_once(checkpoint: Path, flags: Sequence[Any]) -> dict[str, Any]:
    """``calc_influences.py`` from the start of its process to its end, in a new folder.

    A child's peak memory begins with that of its parent, on Linux: where it is no larger than
    ours, it is unknown, None.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [SCRIPT, "--checkpoint", checkpoint, "--save_path", folder, *flags]
        before, began = own_peak(), time.perf_counter()
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen([sys.executable, *map(str, words)], stdout=out)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - began
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                raise SystemExit(f"calc_influences.py ended with exit code {child.returncode}")
            out.seek(0)
            stages = _stage_seconds(out.read())
        n_bytes = sum(f.stat().st_size for f in Path(folder).glob("*.safetensors"))
    peak = usage.ru_maxrss / 1e6
    return {
        "seconds": seconds,
        "stages": stages | {"start, report": seconds - sum(stages.values())},
        "peak_gigabytes": peak if peak > before else None,
        "score_file_gigabytes": n_bytes / 1e9,
    }


def _stage_seconds(printed: str) -> dict[str, float]:
    """Seconds by stage from the script's line ``eigenpairs 60.1 s, ...; peak memory 1.00 GB``."""
    line = next(line for line in printed.splitlines() if "; peak memory" in line)
    found = re.findall(r"([a-z ]+?) ([0-9.]+) s", line)
    return {name.strip(): float(seconds) for name, seconds in found}


def untrained(layers: Sequence[int], n_train: int) -> tuple[Pinn, np.ndarray]:
    """The flow's network as training begins, float64, and its points: a quarter on the boundary."""
    n_boundary = max(n_train // 4, LEAST_BOUNDARY)
    problem = PROBLEM.changed(
        layers=tuple(layers), num_domain=n_train - n_boundary, num_boundary=n_boundary
    )
    model = deepxde_model.build(problem, "corrected", seed=42)
    model.net.double()
    return model.pinn, model.train_x


def test_points(n: int | None) -> np.ndarray:
    """``n`` of the reference solution's points, evenly spread over their order; None: all."""
    points = load_test_points(None, PROBLEM)
    return points if n is None else points[np.linspace(0, len(points) - 1, n).round().astype(int)]


def growth(
    base: tuple[int, int, int], sizes: dict[str, Sequence[int]], n_hidden: int
) -> dict[str, Any]:
    """Seconds of the paper recipe as one of n_train, n_test and n_params grows.

    Args:
        base: n_train, n_test and width of the layers, of which one changes at a time.
        sizes: their values by name; n_params by the width.
        n_hidden: hidden layers.

    The network is untrained: what a product costs does not depend on its weights; how many the
    eigensolver needs does, and is stated. ``exponent`` is the slope of log seconds over log size.
    """
    known: dict[tuple[int, int, int], dict[str, Any]] = {}
    found: dict[str, Any] = {}
    for axis, (name, values) in enumerate(sizes.items()):
        rows = []
        for value in values:
            changed = list(base)
            changed[axis] = value
            case = changed[0], changed[1], changed[2]
            if case not in known:
                known[case] = _timed(*case, n_hidden)
                print(case, known[case], flush=True)
            rows.append(known[case])
        logs = np.log([[row[name], row["seconds"]] for row in rows])
        slope = np.polyfit(logs[:, 0], logs[:, 1], 1)[0]
        found[name] = {"rows": rows, "exponent": float(slope)}
    return found


def _timed(n_train: int, n_test: int, width: int, n_hidden: int) -> dict[str, Any]:
    pinn, train_x = untrained((2, *[width] * n_hidden, 3), n_train)
    test_x = test_points(n_test)
    stages, began = Stages(), time.perf_counter()
    scores = Influence(pinn, train_x, stages=stages).influence(test_x)
    return {
        "n_train": len(train_x),
        "n_test": len(test_x),
        "n_params": pinn.n_params,
        "n_products": scores.metadata["n_products"],
        "seconds": time.perf_counter() - began,
        "stages": dict(stages.seconds),
    }
