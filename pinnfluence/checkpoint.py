"""Run folders: checkpoints in DeepXDE's format, training points and configuration, safely read."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.files import write_bytes

CONFIG, POINTS, HISTORY, STATE = "config.json", "train_x.npy", "history.csv", "state.pt"


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """``torch.save`` to ``path``, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_bytes(path, buffer.getvalue())


def read_tensors(path: Path) -> Any:
    """Content of a ``.pt`` file, loaded as data only: code in it is never run.

    Raises:
        InputError: no such file, not a checkpoint, truncated, or holding code.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; expected a .pt file or a folder that holds one")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "weights only" not in str(error).lower():
            raise InputError(f"{path} is not a PyTorch checkpoint or is truncated") from None
        raise InputError(f"{path} holds code, not only weights; it was not loaded") from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, KeyError, ValueError, AttributeError):
        raise InputError(f"{path} is not a PyTorch checkpoint or is truncated") from None


def save_checkpoint(
    path: Path, state_dict: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint for DeepXDE's ``Model.restore``; the optimiser's memory is left out."""
    content = {
        "model_state_dict": {name: p.detach().cpu() for name, p in state_dict.items()},
        "optimizer_state_dict": {**optimizer.state_dict(), "state": {}},
    }
    write_tensors(path, content)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file at ``path``; of a folder, the last of its run (L-BFGS after Adam).

    Raises:
        InputError: no checkpoint there.
    """
    if not path.is_dir():
        return path
    found = [(_step(file), file) for file in path.glob("*.pt") if _step(file) is not None]
    if not found:
        raise InputError(
            f"no checkpoint adam-<step>.pt or lbfgs-<step>.pt in {path}; train one first"
        )
    return max(found)[1]


def _step(file: Path) -> tuple[bool, int] | None:
    match = re.fullmatch(r"(adam|lbfgs)-(\d+)\.pt", file.name)
    return (match[1] == "lbfgs", int(match[2])) if match else None


def load_weights(path: Path, n_inputs: int, n_outputs: int) -> dict[str, Tensor]:
    """Weights ``linears.<n>.weight``, ``linears.<n>.bias`` of a multilayer perceptron.

    Raises:
        InputError: unreadable, not in DeepXDE's format, wrong ends, or not finite.
    """
    content = read_tensors(path)
    weights = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise InputError(
            f"{path} has no model_state_dict; expected a checkpoint in DeepXDE's format"
        )
    depth = len(weights) // 2
    expected = {f"linears.{n}.{part}" for n in range(depth) for part in ("weight", "bias")}
    if set(weights) != expected or not all(isinstance(w, Tensor) for w in weights.values()):
        names = ", ".join(sorted(map(str, weights))[:4])
        raise InputError(
            f"{path} holds {names}, ..., expected linears.0.weight, linears.0.bias, ..."
        )
    for name, weight in weights.items():
        if weight.ndim != (2 if name.endswith("weight") else 1) or not weight.is_floating_point():
            raise InputError(
                f"{path}: {name} has shape {tuple(weight.shape)} and dtype {weight.dtype}"
            )
        if not torch.isfinite(weight).all():
            raise InputError(f"{path}: {name} has NaN or infinite values; the training failed")
    layers = layers_of(weights)
    if (layers[0], layers[-1]) != (n_inputs, n_outputs):
        raise InputError(
            f"{path} maps {layers[0]} inputs to {layers[-1]} outputs, "
            f"expected {n_inputs} to {n_outputs}"
        )
    return weights


def layers_of(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Widths of the layers that the weights imply.

    Raises:
        InputError: weights that do not fit onto each other.
    """
    matrices = [weights[f"linears.{n}.weight"] for n in range(len(weights) // 2)]
    layers = [matrices[0].shape[1]]
    for n, matrix in enumerate(matrices):
        fits = matrix.shape[1] == layers[-1] and len(weights[f"linears.{n}.bias"]) == len(matrix)
        if not fits:
            raise InputError(
                f"layer {n} of the checkpoint does not fit the layer before it or its bias"
            )
        layers.append(matrix.shape[0])
    return tuple(layers)


def load_points(path: Path, n_inputs: int, what: str) -> np.ndarray:
    """Points ``[n, n_inputs]`` as float32.

    Raises:
        InputError: missing or broken file, wrong shape or dtype, no points, NaN.
    """
    if not path.is_file():
        raise InputError(f"no {what} points at {path}; expected an .npy file")
    try:
        points = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise InputError(f"{path} is not a readable .npy file of numbers") from None
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] != n_inputs:
        shape = getattr(points, "shape", "an archive")
        raise InputError(f"{path}: expected {what} points of shape [n, {n_inputs}], found {shape}")
    if points.dtype not in (np.float32, np.float64):
        raise InputError(f"{path}: expected float32 or float64, found {points.dtype}")
    if len(points) == 0:
        raise InputError(f"{path} holds no {what} points")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(
            f"{path}: {len(bad)} points are NaN or infinite, the first is row {bad[0]}"
        )
    return points.astype(np.float32)


def check_inside(excess: np.ndarray, points: np.ndarray, tolerance: float, path: Path) -> None:
    """Raise if points lie outside the domain by more than ``tolerance``.

    Raises:
        InputError: says how many points and the first of them.
    """
    outside = np.flatnonzero(excess > tolerance)
    if len(outside):
        first = ", ".join(f"{c:g}" for c in points[outside[0]])
        raise InputError(
            f"{path}: {len(outside)} of {len(points)} points lie outside the domain, "
            f"the first is row {outside[0]} ({first}), {excess[outside[0]]:.2g} away"
        )


def load_config(path: Path) -> dict[str, Any]:
    """``config.json``, or an empty dictionary if there is none.

    Raises:
        InputError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object; repair or remove it")
    return config


def save_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` atomically."""
    write_bytes(path, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def save_history(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write ``history.csv`` atomically; missing values are empty."""
    lines = [",".join(names)]
    lines += [",".join("" if v is None else f"{v:.9g}" for v in row) for row in rows]
    write_bytes(path, ("\n".join(lines) + "\n").encode())
