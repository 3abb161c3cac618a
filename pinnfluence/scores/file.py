"""Influence scores on demand from embeddings, which a score file holds."""

from __future__ import annotations

import contextlib
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.problem.domain import Shape
from pinnfluence.scores import tensor_file
from pinnfluence.scores.convention import factor_of
from pinnfluence.scores.dense import PUBLISHED_LOSSES, DenseScores, published_keys, write_dense
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.matrix import FactoredMatrix, ScoreMatrix
from pinnfluence.scores.vtk import write_vtk
from pinnfluence.storage.files import map_npz
from pinnfluence.storage.point_checks import check_points

FILE_NAME = "influences.safetensors"

OBJECTS = ("groups", "recipe", "stationarity", "compression", "checkpoint", "config", "versions")
LISTS = ("inputs", "outputs", "terms", "test_quantities")
"""What the metadata has, if at all, as these types of JSON."""


class Scores(Mapping[str, ScoreMatrix]):
    """Influence scores of all training points on all quantities at all test points.

    ``scores["speed"]`` is the matrix ``Inf(f(x_i); z_j)``, shape ``[n_test, n_train]``, of the
    quantity f, in the removal scale: ``Inf ~ f(theta without z_j) - f(theta)``. Its keys are the
    network's outputs, derived quantities, loss terms, and their sums ``pde``, ``bcs``, ``all``.

    Args:
        train_x, test_x: the points, ``[n, n_inputs]``.
        train, test: embeddings by loss term, and by quantity; a score is their product.
        metadata: loss terms, their sums, recipe and whatever else is known.
        eigenvalues: ``[rank]``, of the curvature; none for scores of full rank, whose embeddings
            are compressed: their errors are in ``metadata["compression"]``.
        predicted: the network's outputs ``[n_test]`` by name, where the file is to show them alone.
    """

    def __init__(
        self,
        train_x: np.ndarray,
        test_x: np.ndarray,
        train: Mapping[str, Embedding],
        test: Mapping[str, Embedding],
        metadata: Mapping[str, Any],
        eigenvalues: np.ndarray | None = None,
        predicted: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.train_x, self.test_x = train_x, test_x
        self.train, self.test = dict(train), dict(test)
        self.metadata = dict(metadata)
        self.eigenvalues = np.zeros(0) if eigenvalues is None else eigenvalues
        self.predicted = dict(predicted or {})
        for side, n_points in ((self.train, len(train_x)), (self.test, len(test_x))):
            for name, embedding in side.items():
                embedding.check(name, n_points, self.rank)

    @property
    def rank(self) -> int:
        """Length of the embeddings."""
        if len(self.eigenvalues):
            return len(self.eigenvalues)
        first = next(iter(self.train.values()), None)
        return 0 if first is None else first.values.shape[1]

    @property
    def terms(self) -> tuple[str, ...]:
        """Loss terms of the training side, in the order of the loss."""
        return tuple(self.metadata["terms"])

    @property
    def groups(self) -> dict[str, list[str]]:
        """Named sums of loss terms: ``pde``, ``bcs`` (conditions) and ``all``."""
        groups = self.metadata["groups"]
        return {name: list(groups[name]) for name in PUBLISHED_LOSSES if name in groups}

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings that made the scores: curvature, rank, damping, weighting."""
        return self.metadata["recipe"]

    def __iter__(self) -> Iterator[str]:
        yield from self.test
        yield from self.groups

    def __len__(self) -> int:
        return len(self.test) + len(self.groups)

    def __getitem__(self, quantity: str) -> ScoreMatrix:
        return self.matrix(quantity)

    def matrix(
        self,
        quantity: str,
        terms: Sequence[str] | str | None = None,
        scale: str = "removal",
        sign: str = "removal",
    ) -> ScoreMatrix:
        """Scores of one quantity, shape ``[n_test, n_train]``.

        Args:
            quantity: a key of the scores: an output, a derived quantity, a loss term or a sum.
            terms: loss terms (or one of ``pde``, ``bcs``, ``all``) of the training points that
                count. The parts of all terms add up to the whole.
            scale, sign: ``removal`` and ``removal`` give Inf, the first-order change of the
                quantity when the point is removed; see ``pinnfluence.scores.convention``.
        """
        if quantity not in tuple(self):
            raise KeyError(f"no quantity {quantity!r}, expected one of {', '.join(self)}")
        names, n_train = self._term_names(terms), len(self.train_x)
        factor = factor_of(sign, scale, n_train, self.metadata.get("recipe"))
        left = self._sum(self.test, self.groups.get(quantity, [quantity]), len(self.test_x))
        right = self._train_total if terms is None else self._sum(self.train, names, n_train)
        return FactoredMatrix(left, right * np.float32(factor) if factor != 1 else right)

    def acting_rows(self, quantity: str) -> np.ndarray:
        """Indices of the test points where a quantity acts: for a condition, its own points."""
        names = self.groups.get(quantity, [quantity])
        rows = [self.test[name].rows for name in names]
        return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int32)

    @cached_property
    def _train_total(self) -> np.ndarray:
        return self._sum(self.train, self.terms, len(self.train_x))

    def _term_names(self, terms: Sequence[str] | str | None) -> Sequence[str]:
        if terms is None:
            return self.terms
        names = (
            self.groups.get(terms, [terms])
            if isinstance(terms, str)
            else list(dict.fromkeys(terms))
        )
        for name in names:
            if name not in self.train:
                raise KeyError(f"no loss term {name!r}, expected one of {', '.join(self.terms)}")
        return names

    def _sum(self, side: Mapping[str, Embedding], names: Sequence[str], n: int) -> np.ndarray:
        if len(names) == 1 and np.array_equal(side[names[0]].rows, np.arange(n)):
            return side[names[0]].values  # as it is: that of a file stays on the disk
        total = np.zeros((n, self.rank), np.float32)
        for name in names:
            total[side[name].rows] += side[name].values
        return total

    def save(self, path: str | Path) -> Path:
        """Write the score file atomically: ``.safetensors``, in a folder under its usual name.

        Raises ValueError for another ending.
        """
        path = _score_path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"expected a folder or a file .safetensors, found {path}")
        tensors = {"train_x": self.train_x, "test_x": self.test_x, "eigenvalues": self.eigenvalues}
        for side, embeddings in (("train", self.train), ("test", self.test)):
            for name, embedding in embeddings.items():
                tensors[f"{side}/{name}/embedding"] = embedding.values
                tensors[f"{side}/{name}/rows"] = embedding.rows
        tensors |= {f"predicted/{n}": v.astype(np.float32) for n, v in self.predicted.items()}
        tensor_file.write(path, tensors, self.metadata | {"test_quantities": list(self.test)})
        return path

    def save_dense(self, path: str | Path) -> Path:
        """Write ``influence_arrs.npz``: float32 arrays ``[n_test, n_train]``, published keys, Inf.

        Outputs and speed are ``output_dim_0, ...`` in their order, the losses ``influences_pde``,
        ``bcs``, ``all_loss_terms``. Written block by block.
        """
        outputs = [name for name in self.test if name not in self.terms]
        matrices = {
            key: self[name] for key, name in published_keys(outputs).items() if name in self
        }
        return write_dense(path, matrices, self.train_x, self.test_x)

    def to_vtk(
        self,
        path: str | Path,
        quantities: Sequence[str] | None = None,
        train_points: Sequence[int] | None = None,
        test_points: Sequence[int] | None = None,
        terms: Sequence[str] | str | None = None,
        scale: str = "removal",
        domain: Shape | None = None,
        sign: str = "removal",
    ) -> Path:
        """Write a ``.vtu`` or ``.vtk`` for ParaView, with the package meshio.

        The test points, with the mean of ``|Inf|`` over all training points; the training points
        where ``test_points`` are given.

        Args:
            quantities: names of those that are written; None means all.
            train_points: numbers of those whose maps ``Inf(f(x); z_j)`` are wanted.
            test_points: or numbers of those whose rows ``Inf(f(x_i); z)`` are.
            terms, scale, sign: as for ``matrix``.
            domain: a shape whose holes stay empty, as ``Problem.domain``.

        Raises:
            InputError: an unknown format, no such point, no meshio.

        >>> scores.to_vtk("u.vtu", quantities=["u"], train_points=[57])      # doctest: +SKIP
        """
        names = self if quantities is None else quantities
        matrices = {name: self.matrix(name, terms, scale, sign) for name in names}
        points = self.train_x, self.test_x
        return write_vtk(path, matrices, *points, train_points, test_points, domain)


def load_scores(
    path: str | Path, outputs: Sequence[str] = ("u", "v", "p", "speed")
) -> Scores | DenseScores:
    """Open a score file, or a folder that holds one. Its arrays stay on the disk.

    Args:
        path: ``influences.safetensors``, its folder, or an ``influence_arrs.npz``.
        outputs: names of ``output_dim_0, ...``; used for the dense layout only.

    Raises:
        FileNotFoundError: no such file. ValueError: not a score file, damaged, or of another
        version.
    """
    path = _score_path(path)
    if path.parent.is_file():
        raise ValueError(f"expected a score file .safetensors or its folder, found {path.parent}")
    if not path.is_file():
        raise FileNotFoundError(f"no score file at {path}; make one with pinnfluence scores")
    if path.suffix == ".npz":
        try:
            return DenseScores(map_npz(path), outputs)
        except (zipfile.BadZipFile, zlib.error):
            raise ValueError(f"{path} is no npz archive or is truncated; make it again") from None
        except (OSError, InputError):
            raise
        except Exception as error:  # damaged bytes make readers raise all kinds of errors
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not a dense score file: {reason}") from None
    arrays, metadata = tensor_file.read(path)
    try:
        return _assemble(metadata, arrays)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged, {error.args[0]}; make it again") from None


def find_scores(path: str | Path, key: str) -> Scores | None:
    """The scores of a file or folder, if they are of the computation with that key."""
    with contextlib.suppress(OSError, ValueError), warnings.catch_warnings(action="ignore"):
        scores = load_scores(path)
        if isinstance(scores, Scores) and scores.metadata.get("key") == key:
            return scores
    return None


def _assemble(metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Scores:
    for name in OBJECTS:
        if not isinstance(metadata.get(name, {}), dict):
            raise ValueError(f"{name} is no object")
    for name in LISTS:
        if not isinstance(metadata.get(name, []), list):
            raise ValueError(f"{name} is no list")
    n_inputs = tensors["train_x"].shape[-1]
    check_points(tensors["train_x"], n_inputs, "training")
    check_points(tensors["test_x"], n_inputs, "test")
    for name in PUBLISHED_LOSSES:  # without one that is a loss term itself
        known = set(metadata["terms"]) & set(metadata["test_quantities"])
        unknown = set(metadata["groups"].get(name, [])) - known
        if unknown:
            raise ValueError(f"{name} has unknown loss terms {sorted(map(str, unknown))}")
    sides = {
        side: {
            name: Embedding(tensors[f"{side}/{name}/embedding"], tensors[f"{side}/{name}/rows"])
            for name in names
        }
        for side, names in (("train", metadata["terms"]), ("test", metadata["test_quantities"]))
    }
    keys = {name: f"predicted/{name}" for name in metadata.get("outputs", [])}
    predicted = {name: tensors[key] for name, key in keys.items() if key in tensors}
    if any(values.shape != (len(tensors["test_x"]),) for values in predicted.values()):
        raise ValueError("predicted values are not one a test point")
    points, eigenvalues = (tensors["train_x"], tensors["test_x"]), tensors["eigenvalues"]
    return Scores(*points, sides["train"], sides["test"], metadata, eigenvalues, predicted)


def _score_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix in (".safetensors", ".npz") else path / FILE_NAME
