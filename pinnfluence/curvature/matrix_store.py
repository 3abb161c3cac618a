"""A symmetric matrix that is saved while it is made."""

from __future__ import annotations

import numpy as np

from pinnfluence.runtime.executor import Executor
from pinnfluence.storage.stage_store import CLOSED, StageStore

COLUMNS = 512
"""Columns of the lower triangle that are one array of the file."""

STAGE = "matrix"
FINISHED = -1


class MatrixStore:
    """The lower triangle of a matrix that is made step by step, and how many steps are done.

    In float64, half the size of the matrix on disk; the sums go on from it to the last bit.
    Several processes have a sum each: of those only the finished one is saved.

    Args:
        store: where to; by default nowhere.
        executor: of the processes that take part.
    """

    def __init__(self, store: StageStore = CLOSED, executor: Executor | None = None) -> None:
        self._store, self._executor = store, executor or Executor()
        self._finished = False

    def begin(self, n_params: int, n_steps: int) -> tuple[np.ndarray, int]:
        """The matrix as far as it was made, Fortran-ordered, and how many of its steps are done."""
        saved = self._store.load(STAGE)
        done = 0
        matrix = np.zeros((n_params, n_params), order="F")
        if saved is not None:
            done = saved.facts["n_steps"]
            for name, block in saved.arrays.items():
                matrix[int(name) :, int(name) : int(name) + COLUMNS] = block.T
        self._finished = self._executor.from_first(done == FINISHED)
        return matrix, n_steps if self._finished else done

    def note(self, matrix: np.ndarray, n_steps: int) -> None:
        """A step is done: save what there is, now and then."""
        if self._executor.n_processes == 1 and self._store.is_due():
            self._save(matrix, n_steps)

    def finish(self, matrix: np.ndarray) -> None:
        """Save the whole matrix, if it came not from there."""
        if not self._finished:
            self._save(matrix, FINISHED)

    def _save(self, matrix: np.ndarray, n_steps: int) -> None:
        starts = range(0, len(matrix), COLUMNS)
        blocks = {f"{s:06d}": matrix[s:, s : s + COLUMNS].T for s in starts}
        self._store.save(STAGE, blocks, {"n_steps": n_steps})
