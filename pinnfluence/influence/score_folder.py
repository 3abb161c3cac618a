"""Scores in a folder: what is there already, what they will cost, and how they are written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pinnfluence.influence import estimate
from pinnfluence.influence.engine import Influence
from pinnfluence.influence.report import report
from pinnfluence.models.model import Model
from pinnfluence.runtime import distributed
from pinnfluence.runtime.progress import Stages
from pinnfluence.scores.dense import DENSE_FILE_NAME
from pinnfluence.scores.file import FILE_NAME, Scores, find_scores
from pinnfluence.storage.files import check_target, sweep
from pinnfluence.storage.lock import held
from pinnfluence.storage.stage_store import STAGES


@dataclass(frozen=True)
class ScoreFolder:
    """Scores of a model at test points, and the folder in which they are to be.

    influence: of the model, with ``STAGES`` of the folder as its ``stages_path``. stages: receives
    the writing, and has the times. dense: whether whole matrices are written as well. All
    methods print what they do; of several processes, all must call them.
    """

    model: Model
    influence: Influence
    test_x: np.ndarray
    folder: Path
    stages: Stages
    dense: bool = False

    def has_scores(self) -> bool:
        """Whether the folder has these scores; then whole matrices that are wanted are written."""
        first, scores = distributed.is_first(), None
        if first:
            scores = find_scores(self.folder, self.influence.key(self.test_x))
        if not distributed.from_first(scores is not None):
            return False
        print(f"{self.folder} holds these scores already; --restart makes them again")
        if scores is not None and self.dense:
            check_target(self.folder, 0, [DENSE_FILE_NAME])
            with _writing_into(self.folder):
                print(f"wrote {scores.save_dense(self.folder)}")
        return True

    def cost(self, restart: bool = False) -> estimate.Cost:
        """What it will take; printed."""
        print(f"batch size {self.influence.executor.batch_size}")
        cost = estimate.cost(self.influence, self.test_x, self.dense, restart)
        print(cost)
        return cost

    def compute(self, cost: estimate.Cost, restart: bool = False) -> None:
        """Compute the scores and write them.

        Args:
            cost: see ``cost``; there must be room for it.
            restart: whether stages that are kept are removed first.
        """
        files = [FILE_NAME, *([DENSE_FILE_NAME] if self.dense else [])]
        check_target(self.folder, cost.disk_bytes + cost.passing_bytes, files)
        with _writing_into(self.folder):
            if restart:
                self.influence.discard_stages()
            with np.errstate(over="ignore", invalid="ignore"):  # numbers that overflow are refused
                scores = self.influence.influence(self.test_x)
            if distributed.is_first():
                scores.metadata |= self.model.provenance()
                self._write(scores)
                self.influence.discard_test_stages()

    def _write(self, scores: Scores) -> None:
        """Write the files of the scores, and say what is in them."""
        if self.model.problem is None and self.model.pinn.outputs:  # nothing else will find them
            scores.predicted = self.model.predict(self.test_x)
        with self.stages.stage("file", 1) as advance:
            paths = [scores.save(self.folder)]
            paths += [scores.save_dense(self.folder)] if self.dense else []
            advance(1)
        lines, warnings = report(scores, self.stages.seconds)
        print("\n".join(lines))
        print("".join(f"warning: {warning}\n" for warning in warnings), end="", file=sys.stderr)
        print("\n".join(f"wrote {path}" for path in paths))


@contextlib.contextmanager
def _writing_into(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes, and sweep what killed ones left in it."""
    if not distributed.is_first():
        yield
        return
    with held(folder, "influence scores"):
        sweep(folder, "influence*")
        sweep(folder / STAGES, "*")
        yield
