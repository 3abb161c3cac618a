"""Where to compute."""

from __future__ import annotations

import importlib.util

import torch

from pinnfluence.errors import InputError

NAMES = ("auto", "cpu", "cuda", "mps", "xla")


def _available(name: str) -> bool:
    if name == "cuda":
        return torch.cuda.is_available()
    if name == "mps":
        return torch.backends.mps.is_available()
    if name == "xla":
        return importlib.util.find_spec("torch_xla") is not None
    return name == "cpu"


def select(name: str, dtype: torch.dtype = torch.float32) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then XLA, then MPS, then the CPU.

    MPS has no float64: for it, ``auto`` takes the CPU instead.

    Raises:
        InputError: unknown or absent device, or float64 asked of MPS.
    """
    if name not in NAMES:
        raise InputError(f"unknown device {name!r}, expected one of {', '.join(NAMES)}")
    without_float64 = ("mps",) if dtype == torch.float64 else ()
    if name == "auto":
        order = ("cuda", "xla", "mps", "cpu")
        name = next(n for n in order if _available(n) and n not in without_float64)
    if not _available(name):
        found = ", ".join(n for n in NAMES[1:] if _available(n))
        raise InputError(
            f"device {name!r} is not available here, found {found}; or use --device auto"
        )
    if name in without_float64:
        raise InputError(f"device {name!r} has no float64; use --device cpu or --dtype float32")
    if name == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)
