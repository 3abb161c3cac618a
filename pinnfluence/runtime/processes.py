"""The same function of many items on all cores, in forked processes that share what it knows."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from pinnfluence.runtime.signals import SIGNALS

Item = TypeVar("Item")
Result = TypeVar("Result")

_function: Callable[[Any], Any]


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_processes: int
) -> Iterator[Result]:
    """Results in the order of the items, as they come; one thread a process.

    In this process where others cannot be forked (Windows), and where PyTorch computes with several
    threads: what they hold when a process is forked stays locked in it for ever.
    """
    global _function
    n_processes = min(n_processes, len(items))
    can_fork = "fork" in multiprocessing.get_all_start_methods() and torch.get_num_threads() == 1
    if n_processes < 2 or not can_fork:
        yield from map(function, items)
        return
    _function = function
    context = multiprocessing.get_context("fork")
    with context.Pool(n_processes, _begin) as pool:
        yield from pool.imap(_call, items)


def _begin() -> None:
    """One thread; an interruption is the parent's to tell, which ends its processes."""
    torch.set_num_threads(1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _call(item: Any) -> Any:
    return _function(item)
