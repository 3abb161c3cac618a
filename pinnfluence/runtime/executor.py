"""The executor: batches, threads, processes and progress of a computation over points.

Mathematics says what is computed of a batch of points; how many points a batch has, which thread
and which process takes it, and who receives the progress is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from pinnfluence.runtime import distributed
from pinnfluence.runtime.progress import Count, Stages

BATCH_SIZE = 500
"""Points whose derivatives are held at a time, where nobody asks for another number."""

ENTRIES_WORTH_A_THREAD = 10**6
"""Gradient entries of an item, points times parameters, from which on threads are used."""

T = TypeVar("T")
Result = TypeVar("Result")


class Divisible(Sized, Protocol):
    """Something that acts at points and can be divided into batches of them."""

    def chunks(self, size: int) -> Iterator[Any]:
        """``size`` points at a time."""
        ...


class Executor:
    """Carries out a computation over points, on all threads and processes that there are.

    Args:
        batch_size: points whose derivatives are held at a time; results do not depend on it beyond
            rounding.
        stages: receives the stages and their progress.
    """

    def __init__(self, batch_size: int = BATCH_SIZE, stages: Stages | None = None) -> None:
        self.batch_size, self.stages = batch_size, stages or Stages()
        self._count: Count | None = None

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[None]:
        """A stage of ``total`` units, which ``advance`` counts; stages do not nest."""
        with self.stages.stage(name, total) as self._count:
            yield
        self._count = None

    def advance(self, n: int = 1) -> None:
        """Tell of n more finished units of the stage, if there is one."""
        if self._count is not None:
            self._count(n)

    def expect(self, n: int) -> None:
        """Tell that at least n units are still to come."""
        if self._count is not None:
            self._count.expect(n)

    share = staticmethod(distributed.share)
    sum = staticmethod(distributed.sum_over_ranks)
    gather = staticmethod(distributed.gather_rows)
    from_first = staticmethod(distributed.from_first)
    on_first = staticmethod(distributed.on_first)

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes; a single one does."""
        return distributed.is_first()

    @property
    def n_processes(self) -> int:
        """Number of processes that share the computation."""
        return distributed.world_size()

    def batches(self, points: Divisible) -> Sequence[Any]:
        """This process's batches of something that acts at points."""
        return self.share(list(points.chunks(self.batch_size)))

    def map(
        self,
        function: Callable[[T], Result],
        items: Sequence[T],
        in_threads: bool = False,
        n_params: int = 0,
    ) -> list[Result]:
        """``[function(item) for item in items]``, an item a thread where that is safe and pays.

        It pays for one long call of PyTorch, such as a backward pass: each is computed by one
        thread alone, so that small operations do not wait for each other. With many short calls
        the threads would wait for Python's lock instead.

        Args:
            in_threads: whether several threads may call the function at once.
            n_params: parameters by which it differentiates a batch; few are not worth a thread.
        """
        n_threads = torch.get_num_threads()
        pays = in_threads and self.batch_size * n_params >= ENTRIES_WORTH_A_THREAD
        if not pays or n_threads < 2 or len(items) < 2:
            return [function(item) for item in items]
        try:
            return list(_pool(n_threads).map(function, items))
        finally:
            torch.set_num_threads(n_threads)  # else threads started later would get the pool's one

    def add_up(
        self,
        total: Tensor,
        function: Callable[[T], Tensor],
        items: Sequence[T],
        in_threads: bool = False,
        n_params: int = 0,
    ) -> None:
        """Add ``function(item)`` of all items to a tensor in turn, a few held at a time; as map."""
        n = torch.get_num_threads()
        for start in range(0, len(items), n):
            for part in self.map(function, items[start : start + n], in_threads, n_params):
                total += part


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
