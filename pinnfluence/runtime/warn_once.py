"""Warnings of one line that are shown once for a network or a model."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Hashable
from pathlib import Path
from weakref import WeakKeyDictionary

OWN = (str(Path(__file__).parents[1] / "_")[:-1], contextlib.__file__)
"""Beginnings of the paths of this package, and of what it wraps its functions in."""

REASON_LENGTH = 200

_shown: WeakKeyDictionary[Hashable, set[str]] = WeakKeyDictionary()


def warn_once(subject: Hashable, message: str) -> None:
    """Warn with ``message``, once for a subject (a network, a model) as long as it lives.

    The warning points at the line outside of this package from which all this was called.
    """
    shown = _shown.setdefault(subject, set())
    if message not in shown:
        shown.add(message)
        warnings.warn(message, UserWarning, stacklevel=_level())


def reason_of(error: Exception) -> str:
    """Why something was refused: the first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:REASON_LENGTH]


def _level() -> int:
    """Number of frames from ``warn_once`` to the first one outside of the package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OWN):
        frame, level = frame.f_back, level + 1
    return level
