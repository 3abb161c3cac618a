"""Where to compute."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError

NAMES = ("auto", "cpu", "cuda", "mps", "xla")
ORDER = ("cuda", "xla", "mps", "cpu")
"""The order in which ``auto`` looks."""

MAX_THREADS = 1024

WITHOUT_FLOAT64 = ("mps",)
"""Devices that have float32 only."""


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


def present() -> tuple[str, ...]:
    """Names of the devices that can compute here, the CPU first."""
    return tuple(name for name in NAMES[1:] if _available(name))


def select(name: str, dtype: torch.dtype = torch.float32) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then XLA, then MPS, then the CPU.

    MPS has no float64: for it, ``auto`` takes the CPU instead and says so.

    Raises:
        InputError: unknown or absent device, or float64 asked of MPS.
    """
    if name not in NAMES:
        raise InputError(f"unknown device {name!r}, expected one of {', '.join(NAMES)}")
    without_float64 = WITHOUT_FLOAT64 if dtype == torch.float64 else ()
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
        raise InputError(
            f"device {name!r} is not available here, found {', '.join(present())}; "
            "or use --device auto"
        )
    if name in without_float64:
        raise InputError(f"device {name!r} has no float64; use --device cpu or --dtype float32")
    if name == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def in_float64(tensor: Tensor) -> Tensor:
    """A tensor in float64 on its device; on the CPU, if its device has none."""
    return (tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor).double()


def tensor_like(array: np.ndarray, like: Tensor) -> Tensor:
    """An array as a tensor in the dtype and the place of another, whatever the default device is.

    Cast before it is moved, since not every device has float64. Arrays that cannot be written to,
    such as mapped files, are copied: PyTorch warns of them.
    """
    own = array if array.flags.writeable else array.copy()
    return torch.as_tensor(own, dtype=like.dtype, device="cpu").to(like.device)


def as_array(values: np.ndarray | Tensor) -> np.ndarray:
    """Numbers as an array, in their dtype if PyTorch and NumPy both have it, wherever they are.

    Raises:
        InputError: no array; some are masked, which would be taken as if they were not.
    """
    if np.ma.is_masked(values):
        raise InputError("expected plain numbers, found masked ones; give the others alone")
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu().to_dense()
            return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"expected an array, found {type(values).__name__}: {reason}") from None
    return array.astype(float) if array.dtype == np.longdouble else array


def float64_array(tensor: Tensor) -> np.ndarray:
    """A tensor as an array in float64; moved first, since not every device has float64."""
    return tensor.detach().cpu().double().numpy()


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
