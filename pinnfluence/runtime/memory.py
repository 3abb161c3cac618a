"""Memory that is free, and memory that was used."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device: of the machine, or what its control group has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *_group_bytes()])


def peak_bytes() -> int:
    """The largest memory that this process has held; what it holds where no peak is known."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        info = psutil.Process().memory_info()
        return int(getattr(info, "peak_wset", info.rss))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _group_bytes() -> list[int]:
    """What the limits of control groups, versions 2 and 1, leave; none without a limit."""
    root, left = Path("/sys/fs/cgroup"), []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            left.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return [max(0, n) for n in left]
