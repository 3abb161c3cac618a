"""A checksum over named arrays, so that a damaged file is an error and never a number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np


def checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over a text and over names, types, shapes and numbers of the arrays."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        if array.size:
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
