"""What determines the bytes of influence scores, as a hash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence.loss.collocation import Collocation, Pinn
from pinnfluence.runtime import distributed
from pinnfluence.storage import stage_store

BATCH_SIZE = 4096
SAMPLE_POINTS = 1000
"""Test points at which the quantities are evaluated to tell them from others."""

PACKAGES = ("torch", "numpy", "scipy")
SOURCES = ("curvature/*.py", "influence/*.py", "field.py", "gradients.py", "network.py", "terms.py")
"""The modules that compute scores. Equations are recognised by their values."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def fitting_key(
    collocation: Collocation,
    weights: Mapping[str, float],
    recipe: Mapping[str, Any],
    batch_size: int,
    settings: Mapping[str, Any],
) -> str:
    """SHA-256 of all that does not depend on test points.

    Equations are functions, whose text says little: they are told apart by the values of their
    residuals at the training points, besides their names, points and data.

    Args:
        recipe: its settings, of which those that matter.
        settings: what else the user knows of the model, such as names of problem and variant.
    """
    pinn = collocation.pinn
    facts = {
        "format": stage_store.FORMAT_VERSION,
        "sources": _sources(),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "machine": _machine(next(iter(pinn.params.values()))),
        "recipe": dict(recipe),
        "batch_size": batch_size,
        "weights": dict(weights),
        "parameters": {name: list(p.shape) for name, p in pinn.params.items()},
        "settings": dict(settings),
    }
    arrays = [p.cpu().numpy() for p in pinn.params.values()]
    return _hash(facts, [*arrays, *_fingerprint(collocation)])


def scores_key(key: str, pinn: Pinn, test_x: np.ndarray) -> str:
    """The same of scores at test points, from the ``fitting_key``."""
    few = test_x[np.linspace(0, len(test_x) - 1, min(SAMPLE_POINTS, len(test_x))).astype(int)]
    places = (pinn.at(few, [pinn.observables]), pinn.at(few))
    found = [array for collocation in places for array in _fingerprint(collocation)]
    return _hash({"fit": key}, [test_x, *found])


def _fingerprint(collocation: Collocation) -> list[np.ndarray]:
    """Points, rows and data of the equations, and the values of their residuals."""
    arrays = [collocation.x, *collocation.rows]
    arrays += [a for a in (*collocation.data, *collocation.images) if a is not None]
    for chunk in collocation.chunks(BATCH_SIZE):
        with torch.no_grad():
            residuals = chunk.residuals(chunk.pinn.params)
        for name, values in residuals.items():
            arrays += [np.frombuffer(name.encode(), np.uint8), values.detach().cpu().numpy()]
    return arrays


def _machine(some: torch.Tensor) -> dict[str, Any]:
    """What changes the last bits: kind of processor, threads, processes."""
    device = some.device
    processor = torch.backends.cpu.get_cpu_capability()
    threads: list[Any] = [os.environ.get(name) for name in THREADS]
    if hasattr(os, "sched_getaffinity"):
        threads.append(len(os.sched_getaffinity(0)))
    return {
        "dtype": str(some.dtype),
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "threads": [torch.get_num_threads(), *threads],
        "processes": distributed.world_size(),
    }


@cache
def _sources() -> str:
    """Hash of the modules that compute: other code may give other bytes."""
    folder = Path(__file__).parents[1]
    paths = sorted(path for pattern in SOURCES for path in folder.glob(pattern))
    names = [str(path.relative_to(folder)) for path in paths]
    return _hash(names, [np.frombuffer(path.read_bytes(), np.uint8) for path in paths])


def _hash(facts: Any, arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()
