"""Results of a validation as they lie in files: one experiment an ``.npz``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.validation.agreement import (
    Agreement,
    Figure,
    Spread,
    rank_correlations,
)

FORMAT_VERSION = 2
HEADLINE = "headline.npz"
SPECTRUM = "spectrum"
MATCHED = "proximal response"
"""Gauss-Newton with damping 2 mu, the curvature of the proximal term itself."""

PREDICTED = "predicted_"
FOLDER = "_validation"


@dataclass(frozen=True)
class Row:
    """A method's agreement with retraining, on one quantity under one proximal weight."""

    experiment: str
    proximal: float
    quantity: str
    method: str
    curvature: str
    weighting: str
    rank: int | str
    damping: float
    agreement: Agreement

    def flat(self) -> dict[str, Any]:
        """The row as numbers and words that JSON can hold."""
        found = asdict(self)
        found.update(found.pop("agreement"))
        return found

    @classmethod
    def of(cls, flat: Mapping[str, Any]) -> Row:
        """The row again, from the result of ``flat``."""
        rest = dict(flat)
        pearson, spearman, slope = (
            Figure(**rest.pop(name)) for name in ("pearson", "spearman", "slope")
        )
        by_group, by_test = (
            Spread(Figure(**spread["median"]), spread["low"])
            for spread in (rest.pop("by_group"), rest.pop("by_test"))
        )
        n_groups = rest.pop("n_groups")
        found = Agreement(pearson, spearman, slope, by_group, by_test, n_groups)
        return cls(**rest, agreement=found)


@dataclass(frozen=True)
class Results:
    """One experiment: what retraining did, what was predicted, and how well they agree.

    facts: settings, provenance, figures of the control. rows: of all methods and quantities.
    train_x, test_x: points. acting: which loss term acts on which training point,
    ``[n_train, n_terms]``, in the order of ``terms``. groups: indices of the training points that
    were removed together. changes: of the quantities, ``[n_groups, n_test, n_q]``. gradient_norms,
    converged, leverages: of each group, ``[n_groups]``; what its retraining reached, and nan where
    no leverages were computed. predicted: changes by method.
    """

    facts: dict[str, Any]
    rows: list[Row]
    train_x: np.ndarray
    test_x: np.ndarray
    acting: np.ndarray
    groups: list[np.ndarray]
    changes: np.ndarray
    gradient_norms: np.ndarray
    converged: np.ndarray
    leverages: np.ndarray
    predicted: dict[str, np.ndarray]

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names along the last axis of the changes."""
        return tuple(self.facts["quantities"])

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the loss terms."""
        return tuple(self.facts["terms"])

    def row(self, method: str, quantity: str) -> Row:
        """The first row of a method and a quantity.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if (row.method, row.quantity) == (method, quantity):
                return row
        raise KeyError(f"no row of {method} and {quantity}")

    def kinds(self) -> list[str]:
        """The loss terms that act on each group, in words, ``[n_groups]``.

        Terms that act on all groups are named only where no others do.
        """
        acting = np.array([self.acting[group].any(0) for group in self.groups])
        names, special = np.array(self.terms), acting & ~acting.all(0)
        chosen = np.where(special.any(1, keepdims=True), special, acting)
        return [" + ".join(names[row]) for row in chosen]

    def by_group(self, method: str, quantity: str) -> GroupFigures:
        """How each group whose retraining converged was predicted."""
        number, good = self.quantities.index(quantity), np.flatnonzero(self.converged)
        p, a = (x[good, :, number].astype(float) for x in (self.predicted[method], self.changes))
        size = np.sqrt(np.square(a).mean(1))
        error = np.sqrt(np.square(p - a).mean(1))
        return GroupFigures(
            good,
            rank_correlations(p, a),
            size,
            np.divide(error, size, out=np.full_like(size, np.nan), where=size > 0),
            self.leverages[good],
        )


@dataclass(frozen=True)
class GroupFigures:
    """How each removed group was predicted by one method, for one quantity; all ``[n]``.

    groups: numbers of the groups. correlation: Spearman's over the test points. effect: root mean
    square of the actual changes. error: that of predicted less actual changes, divided by it.
    leverage: the group's largest.
    """

    groups: np.ndarray
    correlation: np.ndarray
    effect: np.ndarray
    error: np.ndarray
    leverage: np.ndarray


def read(path: str | Path) -> Results:
    """One experiment from its ``.npz``.

    Raises:
        InputError: no such file, not such a file, or one of another format version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"expected results in {path}, found no file: run pinnfluence validate")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop("facts").tobytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        raise InputError(
            f"expected results of a validation in {path}, found another file"
        ) from None
    if facts.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"expected format version {FORMAT_VERSION} in {path}, found "
            f"{facts.get('format_version')}: run pinnfluence validate again; retrainings are kept"
        )
    rows = [Row.of(flat) for flat in facts.pop("rows")]
    removed, sizes = arrays.pop("removed"), arrays.pop("sizes")
    names = ("train_x", "test_x", "acting", "changes", "gradient_norms", "converged", "leverages")
    return Results(
        facts=facts,
        rows=rows,
        groups=np.split(removed, np.cumsum(sizes)[:-1]) if len(sizes) else [],
        predicted={
            name.removeprefix(PREDICTED): values
            for name, values in arrays.items()
            if name.startswith(PREDICTED)
        },
        **{name: arrays[name] for name in names},
    )


def find_studies(base: str | Path) -> dict[str, dict[str, Path]]:
    """Folders of results by model and stage of its training: ``<model>_validation[_<stage>]``.

    The stage of a folder without one is ``""``; it comes first.

    Raises:
        InputError: there is none.
    """
    found: dict[str, dict[str, Path]] = {}
    for folder in sorted(Path(base).glob(f"*{FOLDER}*")):
        model, _, stage = folder.name.partition(FOLDER)
        if (folder / HEADLINE).is_file() and (not stage or stage.startswith("_")):
            found.setdefault(model, {})[stage.removeprefix("_")] = folder
    if not found:
        raise InputError(f"expected results of a validation in {base}, found none: make validate")
    return found


def read_experiments(folder: str | Path) -> list[Results]:
    """The experiments of a study under its proximal weights, the largest first."""
    found = [read(path) for path in Path(folder).glob("removal_*.npz")]
    return sorted(found, key=lambda results: -results.facts["settings"]["proximal"])
