"""Embeddings of points, block by block, of which finished ones are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnfluence.loss.differentiators import Gradients, projection
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime.executor import Executor
from pinnfluence.scores.embedding import Embedding
from pinnfluence.storage.stage_store import StageStore

BLOCK_POINTS = 4000
"""Points of a process that are a block, about: what a killed run may have to compute again."""


@dataclass(frozen=True)
class Projection:
    """A quantity at the points on which it acts, and its gradients in a basis.

    values: ``r(z_i; theta)``, ``[n]``. gradients: ``basis^T grad r(z_i; theta)``, ``[n, rank]``.
    """

    values: Tensor
    gradients: Tensor


def project(collocation: Collocation, basis: Tensor, executor: Executor) -> dict[str, Projection]:
    """Per-point gradients of all quantities, projected on a basis ``[n_params, rank]``.

    The products have the basis's dtype, which may be narrower than that of the parameters. A
    quantity costs only at the points on which it acts. Of several processes, the first gets the
    whole, the others their own part.
    """
    projections: dict[str, Projection] = {}
    for one in collocation.singles():

        def of_batch(chunk: Collocation) -> Gradients:
            return projection(chunk, basis)

        batches = executor.batches(one)
        parts = executor.map(of_batch, batches, one.in_threads, len(basis))
        like = collocation.pinn.like
        empty = (like.new_zeros(0), basis.new_zeros(0, basis.shape[1]))
        for name in one.names[0]:
            found = [part[name] for part in parts] or [empty]
            pair = (executor.gather(torch.cat(t)) for t in zip(*found, strict=True))
            projections[name] = Projection(*pair)
    return projections


def embed(
    target: Collocation | Loss, basis: Tensor, executor: Executor, store: StageStore, stage: str
) -> dict[str, Embedding]:
    """Embeddings ``basis^T grad f`` of all quantities, ``[n, rank]`` by name, float32.

    Blocks do not depend on what was kept, so neither does the result, to the last bit. Of several
    processes, the first gets them and the others none.

    Args:
        target: quantities at points, or a loss: then the quantities are ``w_k r_k^2``, with the
            gradient ``2 w_k r_k grad r_k``.
        store, stage: where finished blocks are kept, under which name.
    """
    loss = target if isinstance(target, Loss) else None
    collocation = target.collocation if isinstance(target, Loss) else target
    blocks = _blocks(collocation, executor)
    kept = _Blocks(store, stage, executor)
    for b, (_, block) in enumerate(blocks):
        if b not in kept.finished:
            found = project(block, basis, executor)
            kept.add(b, [_values(p, name, loss) for name, p in found.items()])
        executor.advance(block.n_residuals)
    kept.finish()
    embeddings: dict[str, Embedding] = {}
    if not executor.is_first:
        return embeddings
    for number, names in enumerate(collocation.names):
        mine = [b for b, (n, _) in enumerate(blocks) if n == number]
        for k, name in enumerate(names):
            empty = np.zeros((0, basis.shape[1]), np.float32)
            values = np.concatenate([empty, *(kept.pop(b, k) for b in mine)])
            rows = collocation.points.rows[number].astype(np.int32)
            embeddings[name] = Embedding(values, rows)
    return embeddings


def n_arrays(collocation: Collocation, executor: Executor) -> int:
    """Number of arrays that ``embed`` keeps: one for each quantity of each block."""
    return sum(len(block.names[0]) for _, block in _blocks(collocation, executor))


def _blocks(collocation: Collocation, executor: Executor) -> list[tuple[int, Collocation]]:
    """Points of one equation each, and its number."""
    size = executor.batch_size
    threads = torch.get_num_threads() if collocation.pinn.like.device.type == "cpu" else 1
    n_batches = max(-(-BLOCK_POINTS // size), 2 * threads) * executor.n_processes
    return [
        (number, block)
        for number, one in enumerate(collocation.singles())
        for block in one.chunks(n_batches * size)
    ]


def _values(p: Projection, name: str, loss: Loss | None) -> np.ndarray:
    gradients = p.gradients
    if loss is not None:
        gradients = loss.slopes(name, p.values)[:, None] * gradients
    return gradients.float().cpu().numpy()


class _Blocks:
    """Embeddings of the finished blocks: those that were kept, and those that are new."""

    def __init__(self, store: StageStore, stage: str, executor: Executor) -> None:
        self._store, self._stage = store, stage
        whole = store.load(stage)
        kept = [whole] if whole else store.load_parts(stage)
        if whole:
            store.remove_parts(stage)  # of a run that was killed before it could
        self._done: dict[str, np.ndarray] = {}
        for saved in kept:
            self._done |= saved.arrays
        self._n_parts, self._is_whole = len(kept), whole is not None
        self._new: dict[str, np.ndarray] = {}
        self.finished = executor.from_first({int(key.split(".")[0]) for key in self._done})

    def pop(self, block: int, k: int) -> np.ndarray:
        return self._done.pop(_key(block, k))

    def add(self, block: int, values: list[np.ndarray]) -> None:
        """Take the embeddings of a block, and keep what is new, now and then."""
        self._new |= {_key(block, k): v for k, v in enumerate(values)}
        if self._store.is_due():
            self._store.save_part(self._stage, self._n_parts, self._new)
            self._n_parts += 1
            self._done |= self._new
            self._new = {}

    def finish(self) -> None:
        """Keep all in one file."""
        self._done |= self._new
        if not self._is_whole:
            self._store.save(self._stage, self._done)
            self._store.remove_parts(self._stage)


def _key(block: int, k: int) -> str:
    return f"{block:06d}.{k}"
