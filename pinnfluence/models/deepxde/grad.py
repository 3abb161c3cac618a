"""``dde.grad.jacobian`` and ``dde.grad.hessian``, answered by another than DeepXDE for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor

from pinnfluence.field.network import MultiIndex
from pinnfluence.models.deepxde.model import dde

Answer = Callable[[Tensor, Tensor, int, Sequence[MultiIndex]], Tensor]
"""From ys, xs, a column of ys and multi-indices to derivatives ``[n, len(indices)]``."""

_local = threading.local()
_lock = threading.Lock()
_n_answering = 0
_originals: dict[str, Any] = {}


@contextmanager
def answering(answer: Answer) -> Iterator[None]:
    """``dde.grad`` is answered by a function, in this thread, until the block ends."""
    _install()
    before = getattr(_local, "answer", None)
    _local.answer = answer
    try:
        yield
    finally:
        _local.answer = before
        _uninstall()


def _install() -> None:
    global _n_answering
    reverse = dde.grad.gradients_reverse
    with _lock:
        _n_answering += 1
        if _n_answering == 1:
            _originals.update(jacobian=reverse.jacobian, hessian=reverse.hessian)
            reverse.jacobian = _dispatching(reverse.jacobian, _jacobian)
            reverse.hessian = _dispatching(reverse.hessian, _hessian)


def _uninstall() -> None:
    global _n_answering
    with _lock:
        _n_answering -= 1
        if _n_answering == 0:
            for name, function in _originals.items():
                setattr(dde.grad.gradients_reverse, name, function)


def _dispatching(original: Any, asked: Any) -> Any:
    """The answer of this thread; DeepXDE's own function in threads that have none."""

    @wraps(original)
    def function(ys: Tensor, xs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        answer = getattr(_local, "answer", None)
        if answer is None:
            return original(ys, xs, *args, **kwargs)
        return asked(answer, ys, xs, *args, **kwargs)

    return function


def _jacobian(
    answer: Answer, ys: Tensor, xs: Tensor, i: int | None = None, j: int | None = None
) -> Tensor:
    n_columns, n_inputs = ys.shape[-1], xs.shape[-1]
    if i is None and n_columns > 1:
        raise ValueError(f"dde.grad.jacobian needs i, one of {n_columns} columns")
    if j is None and i is None and n_inputs > 1:
        raise ValueError("dde.grad.jacobian needs i or j")
    _check(i or 0, n_columns, "column")
    _check(j or 0, n_inputs, "input")
    directions = range(n_inputs) if j is None else (j,)
    return answer(ys, xs, i or 0, [(direction,) for direction in directions])


def _hessian(
    answer: Answer, ys: Tensor, xs: Tensor, component: int = 0, i: int = 0, j: int = 0
) -> Tensor:
    _check(component, ys.shape[-1], "column")
    for number in (i, j):
        _check(number, xs.shape[-1], "input")
    return answer(ys, xs, component, [tuple(sorted((i, j)))])


def _check(number: int, size: int, what: str) -> None:
    if not 0 <= number < size:
        raise ValueError(f"dde.grad: no {what} {number}, there are {size}")
