"""Independent backward passes on all processor cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

ENTRIES_WORTH_A_THREAD = 10**6
"""Gradient entries of an item, points times parameters, from which on threads are used."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], parallel: bool
) -> list[Result]:
    """``[function(item) for item in items]``, if ``parallel`` one item a processor core.

    For functions that spend their time in one long call of PyTorch, such as a backward pass: each
    is computed by one thread alone, so that small operations do not wait for each other. With
    many short calls the threads would wait for Python's lock instead.
    """
    n_threads = torch.get_num_threads()
    if not parallel or n_threads < 2 or len(items) < 2:
        return [function(item) for item in items]
    try:
        return list(_pool(n_threads).map(function, items))
    finally:
        torch.set_num_threads(n_threads)  # else threads started later would get the pool's one


def pays_in_threads(n_entries: int) -> bool:
    """Whether items of that many gradient entries are worth a thread each."""
    return n_entries >= ENTRIES_WORTH_A_THREAD


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
