"""Stopping a long run at a moment of its own choice."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]
"""Signals that ask a run to stop, as far as this system has them."""


class StopRequest:
    """The first of ``SIGNALS`` asks a run to stop when it can, the second stops it at once.

    A signal that is ignored stays ignored, as SIGHUP is under ``nohup``.
    """

    def __init__(self) -> None:
        self.made = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of the signals within the block; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._note) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.made:
            raise KeyboardInterrupt("stopped at once; the same command goes on from the last save")
        self.made = True
