"""Runs of calc_influences.py at a few points of all kinds."""

from pathlib import Path
from typing import Any

import numpy as np
from helpers import (
    CALC,
    Result,
    run,
    run_well,
    snapshot,
)

from pinnfluence.problems.cylinder_flow import PROBLEM


def some_reference_points(folder: Path) -> Path:
    """Test points of all kinds: each 600th of the reference solution, which has all boundaries."""
    assert PROBLEM.reference is not None
    np.save(folder / "test_x.npy", PROBLEM.reference().points[::600])
    return folder / "test_x.npy"


def calc(model: Path, test_x: Path, *flags: Any, well: bool = True, **settings: Any) -> Result:
    command = (CALC, "--checkpoint", model, "--test_x_path", test_x, *flags)
    return (run_well if well else run)(*command, **settings)


def written(folder: Path) -> dict[str, bytes]:
    """Content of the files that are results: not the stages from which a later run goes on."""
    files = snapshot(folder)
    return {name: content for name, content in files.items() if ".stages/" not in name}
