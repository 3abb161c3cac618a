"""The signals that ask a process to end."""

from __future__ import annotations

import signal

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")

SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""Ctrl-C, a wish to end, a closed terminal, Ctrl-backslash; Windows has the first two."""


def listened() -> tuple[signal.Signals, ...]:
    """Those at which a process should end: a closed terminal is none under ``nohup``."""
    return tuple(n for n in SIGNALS if n in SIGNALS[:2] or signal.getsignal(n) != signal.SIG_IGN)
