"""The same function of many items on all cores, in forked processes that share what it knows."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from pinnfluence.errors import InputError
from pinnfluence.runtime.signals import SIGNALS

Item = TypeVar("Item")
Result = TypeVar("Result")
Processes = dict[Connection, BaseProcess]

SECONDS = 1.0
"""So long it is waited at most: a signal that another thread of this process takes wakes nobody."""


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_processes: int
) -> Iterator[Result]:
    """Results in the order of the items, as they come; one thread a process.

    In this process where others cannot be forked (Windows), and where PyTorch computes with several
    threads: what they hold when a process is forked stays locked in it for ever.

    Each process has a pipe of its own. A ``multiprocessing.Pool`` shares a lock, which a process
    that a signal ends may hold: then the pool's end waits for ever.

    Raises:
        InputError: a process was ended from outside, as a system that is short of memory does.
    """
    n_processes = min(n_processes, len(items))
    can_fork = "fork" in multiprocessing.get_all_start_methods() and torch.get_num_threads() == 1
    if n_processes < 2 or not can_fork:
        yield from map(function, items)
        return
    processes: Processes = {}
    try:
        for _ in range(n_processes):
            _start(processes, function, items)
        yield from _in_order(processes, len(items))
    finally:
        with _signals_held():
            for process in processes.values():
                process.kill()
        for process in processes.values():
            process.join()


def _start(processes: Processes, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Fork a process. Signals stay held in it: an interruption is for the parent, which ends it."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    inherited = [*processes, ours]
    process = context.Process(target=_work, args=(function, items, its, inherited), daemon=True)
    with _signals_held():
        process.start()
        processes[ours] = process
    its.close()


def _work(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    pipe: Connection,
    inherited: Sequence[Connection],
) -> None:
    """Answer numbers of items with results, or with the error, until the parent is gone."""
    torch.set_num_threads(1)
    for connection in inherited:  # else no end would be seen of a parent that was killed
        connection.close()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            number = pipe.recv()
            try:
                pipe.send((function(items[number]), None))
            except Exception as error:
                pipe.send((None, error))


def _in_order(processes: Processes, n_items: int) -> Iterator[Any]:
    """Give each process that is free the next item; yield results in the items' order."""
    waiting, done, first = iter(range(n_items)), dict[int, Any](), 0
    at_work = dict(zip(processes, waiting, strict=False))
    for pipe, number in at_work.items():
        pipe.send(number)
    while at_work:
        ready = wait(list(at_work), SECONDS)
        for pipe in [pipe for pipe in at_work if pipe in ready]:
            try:
                result, error = pipe.recv()
            except EOFError:
                processes[pipe].join()
                raise InputError(
                    f"a process ended with the code {processes[pipe].exitcode}, as where memory "
                    "is short; give fewer --processes"
                ) from None
            if error is not None:
                raise error
            done[at_work.pop(pipe)] = result
            for number in itertools.islice(waiting, 1):
                at_work[pipe] = number
                pipe.send(number)
        while first in done:
            yield done.pop(first)
            first += 1


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Signals that come meanwhile are handled afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
