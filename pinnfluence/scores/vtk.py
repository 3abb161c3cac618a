"""Scores for ParaView: a mesh of points with one array a quantity and point, as .vtu or .vtk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.problem.domain import Shape
from pinnfluence.scores.matrix import ScoreMatrix
from pinnfluence.scores.mesh import triangles_of
from pinnfluence.storage.files import write_bytes

SUFFIXES = {".vtu": "vtu", ".vtk": "vtk"}
"""Formats by the ends of their names."""


def write_vtk(
    path: str | Path,
    matrices: Mapping[str, ScoreMatrix],
    train_x: np.ndarray,
    test_x: np.ndarray,
    train_points: Sequence[int] | None = None,
    test_points: Sequence[int] | None = None,
    domain: Shape | None = None,
) -> Path:
    """Write points with scores by name of the quantity; see ``Scores.to_vtk``."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise InputError(f"expected a file name in {' or '.join(SUFFIXES)}, found {path.name}")
    if train_points is not None and test_points is not None:
        raise InputError(
            "expected train_points (maps over the test points) or test_points (maps over the "
            "training points), found both; write a file each"
        )
    meshio = _meshio()
    over_test = test_points is None
    chosen = train_points if over_test else test_points
    columns: dict[str, np.ndarray] = {}
    for name, matrix in matrices.items():
        if chosen is None:
            columns[f"{name}_mean_abs"] = np.asarray(matrix.abs_mean(axis=1), np.float32)
            continue
        for i in chosen:
            _check(i, matrix.shape[1 if over_test else 0], over_test)
            values = matrix[:, i] if over_test else matrix[i]
            columns[f"{name}_{'of_train' if over_test else 'at_test'}_{i}"] = np.asarray(values)
    points = test_x if over_test else train_x
    cells = _cells(points, over_test, domain)
    mesh = meshio.Mesh(_in_space(points), cells, point_data=columns)
    with tempfile.TemporaryDirectory() as folder:  # meshio does not write whole or not at all
        file = Path(folder) / path.name
        meshio.write(file, mesh, file_format=SUFFIXES[path.suffix])
        write_bytes(path, file.read_bytes())
    return path


def _meshio() -> Any:
    """The package, which is not needed otherwise."""
    try:
        import meshio
    except ModuleNotFoundError:
        raise InputError(
            "expected the package meshio for VTK files, found none; pip install meshio"
        ) from None
    return meshio


def _check(i: int, n: int, over_test: bool) -> None:
    if not 0 <= i < n:
        side = "training" if over_test else "test"
        raise InputError(f"expected {side} points from 0 to {n - 1}, found {i}")


def _in_space(points: np.ndarray) -> np.ndarray:
    """Coordinates ``[n, 3]``: those that are missing are 0."""
    if points.shape[1] > 3:
        raise InputError(f"expected points of at most 3 coordinates, found {points.shape[1]}")
    return np.pad(np.asarray(points, np.float64), ((0, 0), (0, 3 - points.shape[1])))


def _cells(
    points: np.ndarray, connected: bool, domain: Shape | None
) -> list[tuple[str, np.ndarray]]:
    """Triangles between points of a plane, where they stand for a domain; else the points alone."""
    if connected and points.shape[1] == 2:
        triangles = triangles_of(points, domain)
        if len(triangles):
            return [("triangle", triangles)]
    return [("vertex", np.arange(len(points))[:, None])]
