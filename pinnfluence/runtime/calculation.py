"""What holds while something is calculated, whatever the caller's thread has set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import TypeVar

import torch

Class = TypeVar("Class", bound=type)

_LOCK = threading.RLock()


@contextmanager
def calculation() -> Iterator[None]:
    """Derivatives are recorded, in full precision; calculations of several threads take turns.

    The caller may stand inside of ``torch.no_grad``, ``torch.inference_mode`` or
    ``torch.autocast``. A user's own functions hold the user's own network, whose parameters are
    exchanged for a while, and DeepXDE keeps derivatives for the whole process: two threads at once
    would see each other's. A calculation uses all cores by itself.
    """
    exactly = torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False)
    with _LOCK, torch.inference_mode(False), torch.enable_grad(), exactly[0], exactly[1]:
        yield


def calculations(cls: Class) -> Class:
    """A class whose public methods, and whose making, are calculations."""
    for name, method in list(vars(cls).items()):
        if isfunction(method) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, calculation()(method))
    return cls
