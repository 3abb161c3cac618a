"""What determines the bytes of influence scores, as a hash."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence.loss.fingerprint import fingerprint
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.executor import Executor
from pinnfluence.storage import stage_store
from pinnfluence.storage.checksum import checksum

SAMPLE_POINTS = 1000
"""Test points at which the quantities are evaluated to distinguish them from others."""

PACKAGES = ("torch", "numpy", "scipy")
NOT_ON_THE_WAY = (
    "captum_api",
    "commands",
    "diagnosis",
    "explorer",
    "plots",
    "reference",
    "training",
    "validation",
)
"""Rooms of the package whose code does not compute scores; all other source files do."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def fitting_key(
    loss: Loss, recipe: Mapping[str, Any], executor: Executor, settings: Mapping[str, Any]
) -> str:
    """SHA-256 of all that does not depend on test points.

    Args:
        loss: at the training points.
        recipe: its settings, of which those that matter.
        executor: whose batches and processes decide the last bits.
        settings: what else the user knows of the model, such as names of problem and variant.
    """
    pinn = loss.pinn
    facts = {
        **circumstances(pinn.like, executor.n_processes),
        "recipe": dict(recipe),
        "batch_size": executor.batch_size,
        "weights": dict(loss.weights),
        "weight_decay": loss.weight_decay,
        "parameters": {name: list(p.shape) for name, p in pinn.params.items()},
        "settings": dict(settings),
    }
    parameters = [p.cpu().numpy() for p in (*pinn.params.values(), *pinn.constants.values())]
    return content_hash(facts, [*parameters, *fingerprint(loss.collocation)])


def scores_key(key: str, pinn: Pinn, test_x: np.ndarray) -> str:
    """SHA-256 of all that determines scores at test points, from the ``fitting_key``."""
    few = test_x[np.linspace(0, len(test_x) - 1, min(SAMPLE_POINTS, len(test_x))).astype(int)]
    targets = (pinn.at(few, [pinn.observables]), pinn.at(few))
    arrays = [array for collocation in targets for array in fingerprint(collocation)]
    return content_hash({"fit": key}, [test_x, *arrays])


def circumstances(
    some: torch.Tensor, n_processes: int = 1, rooms_left_out: tuple[str, ...] = NOT_ON_THE_WAY
) -> dict[str, Any]:
    """Code, versions, and what changes the last bits: kind of processor, threads, processes."""
    return {
        "format": stage_store.FORMAT_VERSION,
        "sources": source_hash(rooms_left_out),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "machine": _machine(some, n_processes),
    }


def _machine(some: torch.Tensor, n_processes: int) -> dict[str, Any]:
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
        "processes": n_processes,
    }


@cache
def source_hash(rooms_left_out: tuple[str, ...] = NOT_ON_THE_WAY) -> str:
    """Hash of all source files but those of some rooms: other code may give other bytes."""
    folder = Path(__file__).parents[1]
    paths = [(path.relative_to(folder), path) for path in sorted(folder.rglob("*.py"))]
    paths = [(name, path) for name, path in paths if name.parts[0] not in rooms_left_out]
    contents = [np.frombuffer(path.read_bytes(), np.uint8) for _, path in paths]
    return content_hash([str(name) for name, _ in paths], contents)


def content_hash(facts: Any, arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of facts that JSON can hold and of arrays, their dtypes and shapes included."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return checksum(text, {f"{number:09d}": array for number, array in enumerate(arrays)})
