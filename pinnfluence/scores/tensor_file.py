"""The score file on disk: arrays and JSON in the format safetensors, with a checksum over both."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from pinnfluence.storage.checksum import checksum
from pinnfluence.storage.files import atomic_writer

FORMAT_VERSION = 2
WITHOUT_CHECKSUM = 1
"""Format of version 0.1, which is the same but for the checksum."""

METADATA_KEY, CHECKSUM_KEY = "pinnfluence", "sha256"

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}

ORDER = ("U64", "I64", "F64", "F32", "U32", "I32", "F16", "U16", "I16")
"""In which safetensors writes arrays by their type, and then by name."""


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata, which JSON can hold, atomically."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    stated = {**metadata, "format_version": FORMAT_VERSION}
    stated[CHECKSUM_KEY] = checksum(_text(stated), contiguous)
    with atomic_writer(path) as stream:  # an array at a time: safetensors itself would copy all
        names, header = _layout(contiguous, {METADATA_KEY: _text(stated)})
        stream.write(header)
        for name in names:
            stream.write(contiguous[name].data)


def _layout(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[list[str], bytes]:
    """Names in the order of safetensors, and the file's bytes before the arrays."""
    kinds = {n: f"{a.dtype.kind.upper()}{8 * a.itemsize}" for n, a in arrays.items()}
    names = sorted(arrays, key=lambda name: (ORDER.index(kinds[name]), name))
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in names:
        offsets = [end, end := end + arrays[name].nbytes]
        shape = list(arrays[name].shape)
        header[name] = {"dtype": kinds[name], "shape": shape, "data_offsets": offsets}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return names, len(text).to_bytes(8, "little") + text


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays, as read-only memory maps, and metadata. The whole file is read once to check it.

    Raises:
        ValueError: not such a file, damaged, or of another version; in one line.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
        arrays = _map(path)
    except (safetensors.SafetensorError, ValueError, RecursionError, LookupError, TypeError):
        raise ValueError(f"{path} is not a score file or is truncated; make it again") from None
    found = metadata.get("format_version") if isinstance(metadata, dict) else "none"
    if found not in (FORMAT_VERSION, WITHOUT_CHECKSUM) or isinstance(found, bool):
        raise ValueError(
            f"{path} has format version {found}, expected {FORMAT_VERSION}; make it again"
        )
    stated = metadata.pop(CHECKSUM_KEY, None)
    if found == WITHOUT_CHECKSUM and stated is None:
        warnings.warn(
            f"{path} has no checksum, so that damage to its numbers would not be noticed; "
            "load_scores(path).save(path) adds one",
            stacklevel=3,
        )
    elif stated != checksum(_text(metadata), arrays):
        raise ValueError(f"{path} is damaged, its checksum is wrong; make it again")
    return arrays, metadata


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, sort_keys=True)


def _map(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a valid safetensors file as read-only memory maps.

    A file begins with the length of its header in 8 bytes; the header is JSON, and gives the type,
    the shape and the place of each array behind it.
    """
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
        if math.prod(shape) == 0:  # nothing can be mapped
            arrays[name] = np.zeros(shape, dtype)
            continue
        start = 8 + length + entry["data_offsets"][0]
        arrays[name] = np.memmap(path, dtype, mode="r", offset=start, shape=shape)
    return arrays
