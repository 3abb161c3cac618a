"""Batches of samples for the interface of captum: loaders, and joining small batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pinnfluence.captum_api.gradients import Loss
from pinnfluence.errors import InputError
from pinnfluence.loss.differentiators.per_sample import flat_gradient, leaves
from pinnfluence.runtime.progress import progress_bar

JOINED_SAMPLES = 256
"""Samples up to which small batches are joined: captum's default is batches of one."""


def loader_of(data: Dataset | DataLoader, batch_size: int | None, argument: str) -> DataLoader:
    """The data as a loader that keeps their order.

    Raises:
        InputError: a dataset without a batch size of at least 1.
    """
    if isinstance(data, DataLoader):
        return data
    if batch_size is None or batch_size < 1:
        raise InputError(
            f"expected a batch_size of at least 1 for the Dataset {argument}, found {batch_size}"
        )
    return DataLoader(data, batch_size, shuffle=False)


def batches_of(data: Sequence[Any] | DataLoader) -> Iterable[Sequence[Any]]:
    """The batches of a loader, or the one batch ``(*features, labels)``.

    Raises:
        InputError: neither.
    """
    if isinstance(data, DataLoader):
        return data
    if not isinstance(data, tuple | list) or len(data) < 2:
        raise InputError(
            f"expected a batch (*features, labels) or a DataLoader, found {type(data).__name__}"
        )
    return [data]


def with_progress(batches: Iterable[Any], description: str) -> Iterator[Any]:
    """The same batches, counted by a progress bar."""
    try:
        total = len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a loader over samples that only come one after the other
        total = None
    with progress_bar(description, total, unit="batch") as bar:
        for batch in batches:
            yield batch
            bar.update()


def joined(batches: Iterable[Any], loss: Loss, theta: dict[str, Tensor]) -> Iterator[Any]:
    """The same samples in the same order, small neighbours as one batch where that is the same.

    It is where the loss of two batches together is the sum of their losses, and not where samples
    of a batch depend on each other. Compared are the gradients at the first two batches.
    """
    rest = iter(batches)
    first = list(islice(rest, 2))
    all_batches = chain(first, rest)
    return _joined(all_batches) if _is_sum_of_parts(first, loss, theta) else all_batches


def _joined(batches: Iterable[Any]) -> Iterator[Any]:
    group: list[Any] = []
    for batch in batches:
        fits = group and _kind(batch) is not None and _kind(batch) == _kind(group[-1])
        if group and not (fits and sum(map(_size, group)) + _size(batch) <= JOINED_SAMPLES):
            yield _join(group)
            group = []
        group.append(batch)
    if group:
        yield _join(group)


def _is_sum_of_parts(parts: Sequence[Any], loss: Loss, theta: dict[str, Tensor]) -> bool:
    joint = list(_joined(parts))
    if len(parts) < 2 or len(joint) > 1:
        return False
    together, first, second = (_gradient(loss, theta, batch) for batch in (*joint, *parts))
    tolerance = torch.finfo(together.dtype).eps ** 0.5
    scale = max(first.abs().max(), second.abs().max())
    return bool((together - first - second).abs().max() <= tolerance * scale)


def _gradient(loss: Loss, theta: dict[str, Tensor], batch: Any) -> Tensor:
    own = leaves(theta)
    with torch.enable_grad():
        total = loss.total(loss.outputs(own, batch[:-1]), batch[-1])
        return flat_gradient(total, own.values())


def _kind(batch: Any) -> list[Any] | None:
    """What two batches must have in common to be joined; None if one cannot be."""
    if not all(isinstance(part, Tensor) and part.ndim > 0 for part in batch):
        return None
    if len({len(part) for part in batch}) > 1:
        return None
    return [(part.shape[1:], part.dtype, part.device) for part in batch]


def _size(batch: Any) -> int:
    return len(batch[-1])


def _join(group: Sequence[Any]) -> Any:
    if len(group) == 1:
        return group[0]
    return [torch.cat(parts) for parts in zip(*group, strict=True)]
