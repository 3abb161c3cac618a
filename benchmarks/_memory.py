"""This process's memory, where Linux tells of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path


def memory(name: str) -> float | None:
    """One of Linux's figures, GB: VmRSS, VmHWM (peak) or MemAvailable; None elsewhere."""
    path = Path("/proc/meminfo" if name.startswith("Mem") else "/proc/self/status")
    try:
        return int(path.read_text().split(f"{name}:")[1].split()[0]) / 1e6
    except (OSError, IndexError):
        return None


def release() -> None:
    """Give unused memory back to the system, and let the peak begin anew."""
    gc.collect()  # graphs of gradients of gradients hold themselves
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
