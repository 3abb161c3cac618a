"""Arrays of a safetensors file that are read from the disk where they are used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def map_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a valid safetensors file as read-only memory maps.

    A file begins with the length of its header in 8 bytes; the header is JSON, and gives the type,
    the shape and the place of each array behind it.

    Raises:
        ValueError: a type of numbers that score files do not have.
    """
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name}: unknown type of numbers {entry['dtype']}")
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if math.prod(shape) == 0:  # nothing can be mapped
            arrays[name] = np.zeros(shape, dtype)
            continue
        start = 8 + length + entry["data_offsets"][0]
        arrays[name] = np.memmap(path, dtype, mode="r", offset=start, shape=shape)
    return arrays
