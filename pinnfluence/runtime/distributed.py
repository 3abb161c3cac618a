"""Several processes, as ``torchrun`` starts them, that share the points of one computation.

Each process runs the same script and computes its own part of the points; sums go to all, rows and
files to the first. Only ``together`` begins this, and only where ``WORLD_SIZE`` says that there are
others: a program that uses ``torch.distributed`` for something else is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.runtime.script import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from pinnfluence.runtime.signals import SIGNALS

TIMEOUT = timedelta(days=7)
"""How long a process waits for another that computes alone, such as a factorisation."""

SECONDS_TO_FOLLOW = 5.0
"""After an error, how long the others have for ending by themselves."""

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")
"""What the environment must say beside ``WORLD_SIZE``."""

T = TypeVar("T")
_size = 1
_rank = 0


def world_size() -> int:
    """Number of processes that share a computation."""
    return _size


def local_size() -> int:
    """Number of these processes on this machine, which share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if _size > 1 else 1


def is_first() -> bool:
    """Whether this process prints and writes; a single one does."""
    return _rank == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of the items; the parts of all, in turn, are the whole."""
    n = len(items)
    return items[_rank * n // _size : (_rank + 1) * n // _size]


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors of one shape, in place."""
    if _size > 1:
        with _contact():
            dist.all_reduce(tensor)
    return tensor


def gather_rows(tensor: Tensor) -> Tensor:
    """The rows of all processes, in turn, on the first; the others get their own back."""
    if _size == 1:
        return tensor
    lengths: list[Any] = [None] * _size
    with _contact():
        dist.all_gather_object(lengths, len(tensor))
        if not is_first():
            if len(tensor):
                dist.send(tensor.contiguous(), 0)
            return tensor
        parts = [tensor]
        for source, n in enumerate(lengths[1:], 1):
            parts.append(tensor.new_empty(n, *tensor.shape[1:]))
            if n:
                dist.recv(parts[-1], source)
    return torch.cat(parts)


def from_first(value: T) -> T:
    """The first process's value, in all of them."""
    if _size == 1:
        return value
    values = [value]
    with _contact():
        dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
    return values[0]


def on_first(work: Callable[[Any], T], target: Any = None, *methods: str) -> T:
    """``work(target)`` on the first process; the others take part in the methods that it calls.

    The named methods share their points among the processes, all of which must call them. Here
    only the first decides how often (an eigensolver, a search), so that processes on unlike
    machines never wait for each other in vain. Arguments of the methods are arrays.

    Returns:
        The result, in all processes.
    """
    if _size == 1:
        return work(target)
    if is_first():
        result = work(_Joined(target, methods) if methods and target is not None else target)
        from_first(None)
        return from_first(result)
    call: tuple[str, tuple[Any, ...]] | None = None
    while (call := from_first(call)) is not None:
        getattr(target, call[0])(*call[1])
    nothing: Any = None
    return from_first(nothing)


class _Joined:
    """An object whose methods the first process calls in all."""

    def __init__(self, target: Any, methods: Sequence[str]) -> None:
        self._target, self._methods = target, methods

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if name not in self._methods:
            return attribute

        def call(*arguments: Any) -> Any:
            from_first((name, arguments))
            return attribute(*arguments)

        return call


@contextlib.contextmanager
def _contact() -> Any:
    """A process that is no longer there is an error of one line."""
    try:
        yield
    except RuntimeError as error:
        if "memory" in str(error):
            raise
        raise InputError(
            "lost contact with another process; see what it wrote, and run the same command again"
        ) from None


def together(main: Callable[[], None]) -> Callable[[], None]:
    """A script's main function, run as one of several processes where the environment says so.

    ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` are those of ``torchrun``; gloo
    carries what is on the CPU and NCCL what is on CUDA, a device a process. Only the first process
    prints. An error in one of them ends all, with its line, and exit code 2.
    """

    def run() -> None:
        if _asked_for() < 2:
            main()
            return
        group = _Group()
        try:
            main()
            from_first(None)  # else the others would end while the first may still fail
        except BaseException as error:
            group.fail(error)
            raise
        group.end()

    return run


def _asked_for() -> int:
    """How many processes the environment says that there are.

    Raises:
        InputError: no number, or without what ``torchrun`` says besides.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"expected WORLD_SIZE to be a whole number of processes, found {text!r}")
    missing = [name for name in NEEDED if name not in os.environ] if int(text) > 1 else []
    if missing:
        raise InputError(
            f"WORLD_SIZE is {text}, but {', '.join(missing)} of torchrun are missing; start with "
            "torchrun, or without WORLD_SIZE"
        )
    return int(text)


class _Group:
    """The processes of a run, and the store in which they report errors to each other."""

    def __init__(self) -> None:
        global _size, _rank
        self._ending = threading.Event()
        self._decision = threading.Lock()  # an error of one's own, or the end of another's
        cuda = torch.cuda.is_available()
        if cuda:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            torch.cuda.set_device(local % torch.cuda.device_count())
        self._store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(minutes=10)))
        self._store.set_timeout(TIMEOUT)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=dist.PrefixStore("group", self._store),
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
        _rank, _size = rank, size
        if rank:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End this process when another has failed, whatever it is waiting for.

        An error that this process meets meanwhile waits at the lock, and is never printed.
        """
        while not self._ending.wait(0.2):
            try:
                if not self._store.check(["failed"]):
                    continue
                code = int(self._store.get("failed"))
            except RuntimeError:  # the store's process is gone
                code = EXIT_BAD_INPUT
            with self._decision:
                if self._ending.is_set():
                    return
                with contextlib.suppress(RuntimeError):
                    self._followed()
                os._exit(code)

    def _followed(self) -> None:
        """Count this process among those that end, and wait for the others."""
        end = time.monotonic() + SECONDS_TO_FOLLOW
        n = self._store.add("ended", 1)
        while n < _size and time.monotonic() < end:
            time.sleep(0.05)
            n = self._store.add("ended", 0)

    def fail(self, error: BaseException) -> None:
        """Tell the others; only the first to fail returns, to say why."""
        for number in SIGNALS:  # what ends one process ends all at once
            signal.signal(number, signal.SIG_IGN)
        with self._decision:
            self._ending.set()
        code = EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_BAD_INPUT
        is_first_to_fail = is_first()
        with contextlib.suppress(RuntimeError):  # the store's process is gone: it said why
            is_first_to_fail = self._store.add("failures", 1) == 1
            self._store.set("failed", str(code))
            self._followed()
        if not is_first_to_fail:
            os._exit(code)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def end(self) -> None:
        """Leave in good order."""
        global _size, _rank
        self._ending.set()
        dist.destroy_process_group()
        _size, _rank = 1, 0
