"""Independent backward passes on all processor cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``[function(item) for item in items]``, one item a processor core.

    For functions that spend their time in one long call of PyTorch, such as a backward pass: each
    is computed by one thread alone, so that the result does not depend on the number of threads
    and small operations do not wait for each other. With many short calls the threads would
    wait for Python's lock instead.
    """
    n_threads = torch.get_num_threads()
    if n_threads < 2 or len(items) < 2:
        return [function(item) for item in items]
    return list(_pool(n_threads).map(function, items))


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
