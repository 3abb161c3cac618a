"""Embeddings of points, block by block, of which finished ones are kept."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pinnfluence.loss.collocation import Collocation
from pinnfluence.loss.gradients import Advance, Projection, project_gradients
from pinnfluence.runtime import distributed
from pinnfluence.scores.embedding import Embedding
from pinnfluence.storage.stage_store import StageStore

BLOCK_POINTS = 4000
"""Points of a process that are a block, about: what a killed run may have to compute again."""


def embed(
    collocation: Collocation,
    basis: Tensor,
    batch_size: int,
    weights: Mapping[str, float] | None,
    store: StageStore,
    stage: str,
    advance: Advance,
) -> dict[str, Embedding]:
    """Embeddings ``basis^T grad f`` of all quantities, ``[n, rank]`` by name, float32.

    Blocks are the same whatever was kept, so that the result is, too, to the last bit. Of several
    processes, the first gets them and the others none.

    Args:
        weights: of loss terms, whose quantities are ``w_k r_k^2``, with the gradient
            ``2 w_k r_k grad r_k``; None: the quantities are those of the equations themselves.
        store, stage: where finished blocks are kept, under which name.
    """
    blocks = _blocks(collocation, batch_size)
    kept = _Blocks(store, stage)
    for b, (_, block) in enumerate(blocks):
        if b not in kept.finished:
            found = project_gradients(block, basis, batch_size)
            kept.add(b, [_values(p, name, weights) for name, p in found.items()])
        advance(len(block.x) * len(block.names[0]))
    kept.finish()
    embeddings: dict[str, Embedding] = {}
    if not distributed.is_first():
        return embeddings
    for number, names in enumerate(collocation.names):
        mine = [b for b, (n, _) in enumerate(blocks) if n == number]
        for k, name in enumerate(names):
            empty = np.zeros((0, basis.shape[1]), np.float32)
            values = np.concatenate([empty, *(kept.values(b, k) for b in mine)])
            embeddings[name] = Embedding(values, collocation.rows[number].astype(np.int32))
    return embeddings


def n_arrays(collocation: Collocation, batch_size: int) -> int:
    """Number of arrays that ``embed`` keeps: one for each quantity of each block."""
    return sum(len(block.names[0]) for _, block in _blocks(collocation, batch_size))


def _blocks(collocation: Collocation, batch_size: int) -> list[tuple[int, Collocation]]:
    """Points of one equation each, and its number."""
    on_cpu = next(iter(collocation.pinn.params.values())).device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1
    n_batches = max(-(-BLOCK_POINTS // batch_size), 2 * threads) * distributed.world_size()
    n_points = n_batches * batch_size
    return [
        (number, block)
        for number in range(len(collocation.names))
        for block in collocation.only(number).chunks(n_points)
    ]


def _values(p: Projection, name: str, weights: Mapping[str, float] | None) -> np.ndarray:
    gradients = p.gradients
    if weights is not None:
        gradients = 2 * weights[name] * p.values[:, None] * gradients
    return gradients.float().cpu().numpy()


class _Blocks:
    """Embeddings of the finished blocks: those that were kept, and those that are new."""

    def __init__(self, store: StageStore, stage: str) -> None:
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
        self.finished = distributed.from_first({int(key.split(".")[0]) for key in self._done})

    def values(self, block: int, k: int) -> np.ndarray:
        return self._done[_key(block, k)]

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
