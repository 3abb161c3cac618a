"""The step that corrects a network, on disk: for whoever draws its estimated error elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pinnfluence.diagnosis.report import Report
from pinnfluence.scores import tensor_file

FILE_NAME = "correction.safetensors"


def save(report: Report, folder: Path, sha256: str) -> Path:
    """Write the step d ``[n_params]`` of a diagnosis.

    Args:
        sha256: of the checkpoint whose network it corrects.
    """
    facts = {"sha256_of_checkpoint": sha256, "reliable": report.reliable}
    tensor_file.write(folder / FILE_NAME, {"step": report.estimate.best.step}, facts)
    return folder / FILE_NAME


def load(folder: Path, sha256: str, n_params: int) -> np.ndarray | None:
    """The step of a folder, or None where there is none of this checkpoint.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    arrays, facts = tensor_file.read(path)
    step = arrays.get("step", np.zeros(0))
    if facts.get("sha256_of_checkpoint") != sha256 or step.shape != (n_params,):
        return None
    return np.array(step)
