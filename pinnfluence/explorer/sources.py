"""What belongs to a score file: its name, its problem, its network, its reference solution."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence import problems
from pinnfluence.errors import InputError, input_errors
from pinnfluence.models.trained_model import load_model
from pinnfluence.problem.labels import distinct
from pinnfluence.problem.problem import Problem
from pinnfluence.reference.comparison import match_points, with_quantities
from pinnfluence.scores.file import Scores, load_scores
from pinnfluence.storage.checkpoint import find_checkpoint
from pinnfluence.storage.files import sha256

SUFFIX = "_influences"
"""Scores of the model ``good`` lie in the folder ``good_influences`` beside it."""


@dataclass(frozen=True)
class Source:
    """A score file and what was found with it.

    name: the model's. problem: None for an equation that is not among the problems.
    checkpoint: of the network, None where it was not found.
    """

    name: str
    scores: Scores
    problem: Problem | None = None
    checkpoint: Path | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the two coordinates: the problem's, the file's, or x and y."""
        named = self.scores.metadata.get("inputs", ("x", "y"))
        return tuple(named) if self.problem is None else self.problem.inputs

    @property
    def fields(self) -> tuple[str, ...]:
        """Outputs and derived quantities in the file."""
        return tuple(name for name in self.scores.test if name not in self.scores.terms)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The network's outputs among them; all, where nothing says which."""
        named = self.scores.metadata.get("outputs", self.fields)
        named = named if self.problem is None else self.problem.outputs
        return tuple(name for name in self.fields if name in named)

    def predicted(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """The network's fields at points ``[n, 2]``, by name; none without checkpoint."""
        if self.checkpoint is None or self.problem is None:
            return {}
        model = load_model(self.checkpoint, self.scores.train_x, **self._settings())
        return with_quantities(self.problem, points, model.predict(points))

    def reference(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """The reference's fields at points that are its own, by name; none where they are not."""
        if self.problem is None or self.problem.reference is None:
            return {}
        reference = self.problem.reference()
        try:
            index = match_points(points, reference.points)
        except ValueError:
            return {}
        values = {name: field[index] for name, field in reference.values.items()}
        if set(self.problem.outputs) <= set(values):
            return with_quantities(self.problem, points, values)
        return {name: field.astype(np.float64) for name, field in values.items()}

    def _settings(self) -> dict[str, Any]:
        config: Mapping[str, Any] = self.scores.metadata.get("config", {})
        names = ("problem", "variant", "conditions", "activation", "scale")
        return {name: config[name] for name in names if name in config}


def find_sources(
    paths: Sequence[str | Path], checkpoints: Sequence[str | Path] = ()
) -> list[Source]:
    """Open score files and find their networks, by default in the folder that they are named after.

    Raises:
        InputError: unreadable or dense files, points that are not of two dimensions, models of
            different problems, a number of checkpoints that is not that of files.
    """
    if checkpoints and len(checkpoints) != len(paths):
        raise InputError(
            f"expected a checkpoint for each of the {len(paths)} score files, found "
            f"{len(checkpoints)}; give as many, in the same order"
        )
    if not paths:
        raise InputError("expected at least one score file, found none")
    names = distinct([_name(Path(path)) for path in paths])
    found = [
        _open(Path(path), name, Path(checkpoints[i]) if checkpoints else None)
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    for source in found[1:]:
        if source.inputs != found[0].inputs or not set(source.fields) & set(found[0].fields):
            raise InputError(
                f"{source.name} is of another problem than {found[0].name}: "
                f"{', '.join(source.fields)} of {', '.join(source.inputs)}; write a file each"
            )
    return found


def _open(path: Path, name: str, checkpoint: Path | None) -> Source:
    try:
        with input_errors():
            scores = load_scores(path)
    except FileNotFoundError as error:
        raise InputError(str(error)) from None
    if not isinstance(scores, Scores):
        raise InputError(
            f"expected embeddings, found whole matrices in {path}; "
            "give the influences.safetensors that calc_influences.py writes"
        )
    if scores.train_x.shape[1] != 2:
        raise InputError(
            f"expected points of two coordinates, found {scores.train_x.shape[1]} in {path}; "
            "write what ParaView reads with scores.to_vtk"
        )
    for what, side in (("term", scores.train), ("quantity", scores.test)):
        for key, embedding in side.items():
            if n_bad := int((~np.isfinite(embedding.values)).any(1).sum()):
                raise InputError(
                    f"{path}: the {what} {key} has NaN or infinity at {n_bad} points; compute "
                    "scores without it, or at other points"
                )
    named = scores.metadata.get("config", {}).get("problem")
    problem = problems.load(named) if named in problems.names() else None
    if checkpoint is None:
        checkpoint = _checkpoint_of(path, scores)
    else:
        checkpoint = find_checkpoint(checkpoint)
        said = scores.metadata.get("checkpoint", {}).get("sha256")
        if checkpoint.is_file() and said not in (None, sha256(checkpoint)):
            raise InputError(f"{checkpoint} is not the checkpoint of the scores in {path}")
    return Source(name, scores, problem, checkpoint)


def _checkpoint_of(path: Path, scores: Scores) -> Path | None:
    """The checkpoint of the scores in the folder that theirs is named after, if it is the same."""
    said = scores.metadata.get("checkpoint", {})
    folder = path if path.is_dir() else path.parent
    folder = folder.resolve()
    file = folder.with_name(folder.name.removesuffix(SUFFIX)) / str(said.get("name", ""))
    return file if file.is_file() and sha256(file) == said.get("sha256") else None


def _name(path: Path) -> str:
    folder = path.resolve() if path.suffix != ".safetensors" else path.resolve().parent
    return folder.name.removesuffix(SUFFIX) or "model"


def plain_unit(text: str) -> str:
    """A unit of figures without the marks of its formula: ``$m^2$`` is m2."""
    return re.sub(r"[$^{}\\]", "", text)
