"""Bad input to calc_influences.py and train.py: one line, exit code 2, all files as they were."""

from pathlib import Path
from typing import Any

from helpers import CALC, SMALL, TRAIN, Result, assert_refused, run, snapshot


def calc(model: Path, *flags: Any, **settings: Any) -> Result:
    """Scores of a run at its training points, unless flags say something else."""
    given = {"--checkpoint": model, "--test_x_path": model / "train_x.npy"}
    return run(
        CALC, *(x for f, v in given.items() if f not in flags for x in (f, v)), *flags, **settings
    )


def calc_is_refused(model: Path, *words: str, flags: tuple[Any, ...] = (), **settings: Any) -> None:
    """calc_influences.py refuses, for the reason the words give, and leaves all as it was."""
    before = snapshot(model.parent)
    assert_refused(calc(model, *flags, **settings), *words)
    assert snapshot(model.parent) == before


def train_is_refused(folder: Path, *words: str, flags: tuple[Any, ...] = ()) -> None:
    """train.py refuses, for the reason the words give, and writes nothing."""
    before = snapshot(folder.parent)
    assert_refused(run(TRAIN, *SMALL, "--save_path", folder, *flags), *words)
    assert snapshot(folder.parent) == before
