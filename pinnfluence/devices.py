"""Where to compute."""

from __future__ import annotations

import importlib
import sys

import torch

from pinnfluence.errors import InputError

NAMES = ("auto", "cpu", "cuda", "mps", "xla")
ORDER = ("cuda", "xla", "mps", "cpu")
"""The order in which ``auto`` looks."""

MAX_THREADS = 1024


def _available(name: str) -> bool:
    if name == "cuda":
        return torch.cuda.is_available()
    if name == "mps":
        return torch.backends.mps.is_available()
    if name == "xla":
        return _imports("torch_xla")
    return name == "cpu"


def _imports(module: str) -> bool:
    """Whether a module can be imported; that of XLA makes PyTorch know the device."""
    try:
        importlib.import_module(module)
    except Exception:  # whatever a module built for another PyTorch raises
        return False
    return True


def select(name: str, dtype: torch.dtype = torch.float32) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then XLA, then MPS, then the CPU.

    MPS has no float64: for it, ``auto`` takes the CPU instead and says so.

    Raises:
        InputError: unknown or absent device, or float64 asked of MPS.
    """
    if name not in NAMES:
        raise InputError(f"unknown device {name!r}, expected one of {', '.join(NAMES)}")
    without_float64 = ("mps",) if dtype == torch.float64 else ()
    if name == "auto":
        found = [n for n in ORDER if _available(n)]
        name = next(n for n in found if n not in without_float64)
        if found[0] in without_float64:
            print(
                f"{found[0]} has no float64: computing on the {name}; "
                f"--dtype float32 would use {found[0]}",
                file=sys.stderr,
            )
    if not _available(name):
        present = ", ".join(n for n in NAMES[1:] if _available(n))
        raise InputError(
            f"device {name!r} is not available here, found {present}; or use --device auto"
        )
    if name in without_float64:
        raise InputError(f"device {name!r} has no float64; use --device cpu or --dtype float32")
    if name == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def set_threads(n: int | None) -> None:
    """Compute with n processor threads; None leaves PyTorch's choice.

    Raises:
        InputError: fewer than 1 thread, or more than any machine has.
    """
    if n is None:
        return
    if not 1 <= n <= MAX_THREADS:
        raise InputError(f"--threads must be from 1 to {MAX_THREADS}, found {n}")
    torch.set_num_threads(n)
