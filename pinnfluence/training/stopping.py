"""Stopping a long run at a moment of its own choice."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from pinnfluence.runtime.signals import listened


class StopRequest:
    """The first signal to end asks a run to stop when it can, the second stops it at once."""

    def __init__(self) -> None:
        self.made = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of the signals within the block; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in listened()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.made:
            raise KeyboardInterrupt("stopped at once; the same command goes on from the last save")
        self.made = True
