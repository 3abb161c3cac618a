"""Reference solutions: the values of a trusted solver at points with quadrature weights.

`load_reference` and `save_reference` are its file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pinnfluence.storage.files import write_npz


@dataclass(frozen=True, eq=False)
class Reference:
    """Values of a reference solution at points of a domain.

    points: [n, d] float32, coordinates in the units of the problem.
    values: name -> [n] float32, each field at the points.
    area:   [n] float32, not negative: int f dx ~ sum_i area_i f(points_i), so that the sum of all
            is the measure of the domain, and sqrt(sum_i area_i e_i^2) an L2 norm.

    Raises ValueError when a shape or dtype is another one or a number is not finite.

    >>> Reference(np.zeros((1, 2), "f4"), {"u": np.ones(1, "f4")}, np.ones(1, "f4")).values["u"]
    array([1.], dtype=float32)
    """

    points: np.ndarray
    values: Mapping[str, np.ndarray]
    area: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", dict(self.values))
        if self.points.ndim != 2 or 0 in self.points.shape:
            raise ValueError(_fault("points of shape [n, d]", f"shape {self.points.shape}"))
        if not self.values:
            raise ValueError(_fault("at least one field beside points and area", "none"))
        n = len(self.points)
        _check("points", self.points, self.points.shape)
        for name, array in {**self.values, "area": self.area}.items():
            _check(name, array, (n,))
        if self.area.min() < 0:
            raise ValueError(_fault("an area of at least 0", f"{self.area.min()}"))


def load_reference(path: str | os.PathLike[str]) -> Reference:
    """Read a reference from an `.npz` with `points`, `area` and one array a field.

    Nothing in the file is executed (no pickle). Raises FileNotFoundError when there is no such
    file, and ValueError, in one line, when its content is not a Reference.

    >>> load_reference("pinnfluence/reference/cylinder_flow.npz").values.keys()
    dict_keys(['p', 'u', 'v'])
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: {_fault('an .npz file', 'no file')}")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in sorted(file.files)}
    except Exception as error:  # zip, zlib, header and pickle faults each have a type of their own
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: {_fault('an .npz of plain arrays', found)}") from error
    missing = {"points", "area"} - set(arrays)
    if missing:
        expected = "arrays points and area and one for each field"
        raise ValueError(f"{path}: {_fault(expected, 'arrays ' + ', '.join(arrays))}")
    try:
        return Reference(arrays.pop("points"), area=arrays.pop("area"), values=arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_reference(reference: Reference, path: str | os.PathLike[str]) -> None:
    """Write what `load_reference` reads: whole or not at all, and the same bytes each time."""
    arrays = {**reference.values, "points": reference.points, "area": reference.area}
    write_npz(Path(path), {name: arrays[name] for name in sorted(arrays)}, compressed=True)


def _check(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse an array that is not a finite float32 of this shape."""
    if array.shape != shape or array.dtype != np.float32:
        expected = f"{name} as float32 of shape {list(shape)}"
        raise ValueError(_fault(expected, f"{array.dtype} of shape {list(array.shape)}"))
    if not np.isfinite(array).all():
        count = np.count_nonzero(~np.isfinite(array))
        raise ValueError(_fault(f"finite numbers in {name}", f"{count} that are not"))


def _fault(expected: str, found: str) -> str:
    """One line: what was expected, what was found, what to do."""
    return f"expected {expected}, found {found}: write the file with save_reference"
