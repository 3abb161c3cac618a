"""The files of a diagnosis: figures, the page, and the step that corrects the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pinnfluence.diagnosis.page import page
from pinnfluence.diagnosis.report import Report
from pinnfluence.models.model import Model
from pinnfluence.scores import tensor_file
from pinnfluence.storage.files import write_bytes

REPORT, PAGE, CORRECTION = "report.json", "report.html", "correction.safetensors"


def save(report: Report, model: Model, folder: Path, title: str) -> list[Path]:
    """Write all of them; the page last."""
    figures = json.dumps(report.to_dict(), indent=2, default=float)
    write_bytes(folder / REPORT, f"{figures}\n".encode())
    facts = {"network": model.identity, "reliable": report.reliable}
    arrays = {"step": report.estimate.best.step}
    arrays |= {"candidates": report.candidates, "helping": report.helping}
    arrays |= {"leverage": report.point_leverage()}
    tensor_file.write(folder / CORRECTION, arrays, facts)
    write_bytes(folder / PAGE, page(report, model, title).encode())
    return [folder / name for name in (REPORT, CORRECTION, PAGE)]


def load_correction(folder: Path, identity: str) -> np.ndarray | None:
    """The step d of a diagnosis, see ``corrected``, or None where there is none of this network.

    Args:
        identity: of the model, see ``Model.identity``.

    Raises:
        ValueError: the file is damaged.
    """
    return load_arrays(folder, identity).get("step")


def load_arrays(folder: Path, identity: str) -> dict[str, np.ndarray]:
    """``step`` of a diagnosis, ``candidates`` and ``helping`` of its findings, and ``leverage``.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / CORRECTION
    if not path.is_file():
        return {}
    arrays, facts = tensor_file.read(path)
    if facts.get("network") != identity:
        return {}
    return {name: np.array(array) for name, array in arrays.items()}
