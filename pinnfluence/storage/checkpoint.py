"""Run folders: checkpoints in DeepXDE's format and training points, safely read."""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.storage.config import CONFIG, ITERATIONS, load_config
from pinnfluence.storage.files import check_unpacked_size, read_npy, write_bytes
from pinnfluence.storage.point_checks import check_points

POINTS, HISTORY, CURVES, STATE = "train_x.npy", "history.csv", "history.png", "state.pt"
PHASES = ("adam", "lbfgs", "lm")
"""Phases whose checkpoints ``<phase>-<step>.pt`` are known without a ``config.json``."""

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """``torch.save`` to ``path``, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path) -> bytes:
    """The bytes of a ``.pt`` file.

    Raises:
        InputError: no such file.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; expected a .pt file or a folder that holds one")
    return path.read_bytes()


def read_tensors(path: Path, content: bytes | None = None) -> Any:
    """Content of a ``.pt`` file, loaded as data only: code in it is never run.

    Args:
        content: its bytes, where they were read already.

    Raises:
        InputError: no such file, not a checkpoint, truncated, or holding code.
    """
    stream = io.BytesIO(read_checkpoint(path) if content is None else content)
    broken = InputError(
        f"{path} is truncated or not a PyTorch checkpoint of plain weights; it was not loaded"
    )
    try:
        _check_checksums(stream, path)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(stream, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        if not re.search("global|class|instantiate", str(error), re.IGNORECASE):
            raise broken from None
        raise InputError(
            f"{path} holds code, not only weights; it was not loaded: save model_state_dict alone"
        ) from None
    except Exception:  # damaged bytes make PyTorch's reader raise all kinds of errors
        raise broken from None


def _check_checksums(content: io.BytesIO, path: Path) -> None:
    """Read each record whose checksum is known, at which PyTorch does not look."""
    if zipfile.is_zipfile(content):
        with zipfile.ZipFile(content) as archive:
            check_unpacked_size(archive, content.getbuffer().nbytes, path)
            for record in archive.infolist():
                if record.CRC:  # 0: torch.serialization.set_crc32_options(False)
                    archive.read(record)
    content.seek(0)


def save_checkpoint(
    path: Path, state_dict: Mapping[str, Tensor], optimizer_state: Mapping[str, Any]
) -> None:
    """Write a checkpoint for DeepXDE's ``Model.restore``; the optimiser's memory is left out."""
    content = {
        "model_state_dict": {name: p.detach().cpu() for name, p in state_dict.items()},
        "optimizer_state_dict": {**optimizer_state, "state": {}},
    }
    write_tensors(path, content)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file at ``path``; of a folder, the last of its run.

    Steps count through all phases, so the largest is the last; two of one step hold the same
    weights, since the later phase made no step.

    Raises:
        InputError: no checkpoint there.
    """
    if not path.is_dir():
        return path
    steps = [(step, file) for file in path.glob("*.pt") if (step := _step(file)) is not None]
    if steps:
        return max(steps)[1]
    expected = f"no checkpoint adam-, lbfgs- or lm-<step>.pt in {path}"
    runs = sorted({file.parent.name for file in path.glob("*/*.pt") if _step(file) is not None})
    if runs:
        raise InputError(f"{expected}, but runs in its folders {', '.join(runs)}; give one of them")
    others = sorted(file.name for file in path.glob("*.pt") if file.name != STATE)
    if others:
        raise InputError(f"{expected}, but {', '.join(others[:3])}; give the file instead")
    raise InputError(f"{expected}; train one first")


def is_run_file(file: Path) -> bool:
    """Whether a run writes files of that name."""
    return file.name in (CONFIG, POINTS, HISTORY, CURVES, STATE) or _step(file) is not None


def _step(file: Path) -> int | None:
    """The step of a checkpoint at the end of a phase of a run; None for other files."""
    match = re.fullmatch(r"([a-z]\w*)-([0-9]{1,18})\.pt", file.name)
    return int(match[2]) if match and match[1] in {*PHASES, *_phases(file.parent)} else None


def _phases(folder: Path) -> list[str]:
    """The phases that the settings of a run name; none where these cannot be read."""
    try:
        config = load_config(folder / CONFIG)
    except InputError:
        return []
    lengths = {} if config is None else config.iterations
    return [key.removeprefix(ITERATIONS) for key in lengths if key.startswith(ITERATIONS)]


def load_weights(
    path: Path, n_inputs: int, n_outputs: int, content: bytes | None = None
) -> dict[str, Tensor]:
    """Weights ``linears.<n>.weight``, ``linears.<n>.bias`` of a multilayer perceptron.

    Args:
        content: the bytes of the file, where they were read already.

    Raises:
        InputError: unreadable, not in DeepXDE's format, wrong ends, or not finite.
    """
    content = read_tensors(path, content)
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
        _check_weight(weight, 2 if name.endswith("weight") else 1, f"{path}: {name}")
    layers = layers_of(weights)
    if (layers[0], layers[-1]) != (n_inputs, n_outputs):
        raise InputError(
            f"{path} maps {layers[0]} inputs to {layers[-1]} outputs, "
            f"expected {n_inputs} to {n_outputs}"
        )
    return weights


def _check_weight(weight: Tensor, n_axes: int, where: str) -> None:
    """Refuse what is no matrix or vector of finite floats that the file holds number by number."""
    if weight.is_nested:
        raise InputError(f"{where}: expected a dense matrix or vector, found a nested tensor")
    dense = weight.layout is torch.strided and weight.device.type == "cpu"
    if not dense or weight.dtype not in WEIGHT_DTYPES or weight.ndim != n_axes:
        raise InputError(
            f"{where}: expected a dense matrix or vector of floats, found shape "
            f"{tuple(weight.shape)}, {weight.dtype}, {weight.layout}"
        )
    if weight.numel() == 0:
        raise InputError(f"{where} has shape {tuple(weight.shape)}, an empty layer")
    if weight.numel() * weight.itemsize > weight.untyped_storage().nbytes():
        raise InputError(f"{where} has more numbers, {tuple(weight.shape)}, than the file holds")
    if not torch.isfinite(weight).all():
        raise InputError(f"{where} has NaN or infinite values; the training failed")


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
    if zipfile.is_zipfile(path):
        raise InputError(f"{path}: expected {what} points in an array, found an archive")
    try:
        with path.open("rb") as stream:
            points = read_npy(stream, path.stat().st_size)
    except Exception:  # damaged bytes make NumPy's reader raise all kinds of errors
        raise InputError(
            f"{path} is not a readable .npy file of plain numbers; write it with numpy.save"
        ) from None
    if points.ndim == 2 and points.dtype not in (np.float32, np.float64):
        raise InputError(f"{path}: expected float32 or float64, found {points.dtype}")
    check_points(points, n_inputs, what, str(path))
    with np.errstate(over="ignore"):  # infinity is outside of every domain
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
