"""The executor: batches, threads, processes and progress of a computation over points.

Mathematics says what is computed of a batch of points; how many points a batch has, which thread
and which process takes it, and who receives the progress is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from pinnfluence.runtime import distributed
from pinnfluence.runtime.parallel import map_in_threads, pays_in_threads
from pinnfluence.runtime.progress import Count, Stages

BATCH_SIZE = 500

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

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes; a single one does."""
        return distributed.is_first()

    @property
    def n_processes(self) -> int:
        """Number of processes that share the computation."""
        return distributed.world_size()

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of the items; the parts of all, in turn, are the whole."""
        return distributed.share(items)

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

        Args:
            in_threads: whether several threads may call the function at once.
            n_params: parameters by which it differentiates a batch; few are not worth a thread.
        """
        parallel = in_threads and pays_in_threads(self.batch_size * n_params)
        return map_in_threads(function, items, parallel)

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

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape, in place."""
        return distributed.sum_over_ranks(tensor)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in turn, on the first; the others get their own back."""
        return distributed.gather_rows(rows)

    def from_first(self, value: T) -> T:
        """The first process's value, in all of them."""
        return distributed.from_first(value)

    def on_first(self, work: Callable[[Any], T], target: Any = None, *methods: str) -> T:
        """``work(target)`` on the first process; the others join in the named methods.

        See ``distributed.on_first``.
        """
        return distributed.on_first(work, target, *methods)
