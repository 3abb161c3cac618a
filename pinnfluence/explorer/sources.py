"""What belongs to a score file: its name, its problem, its network, its reference solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pinnfluence import problems
from pinnfluence.diagnosis import files
from pinnfluence.diagnosis.new_points import around
from pinnfluence.diagnosis.quantities import changes, evaluate, quantities_of
from pinnfluence.errors import InputError, input_errors
from pinnfluence.models.model import Model
from pinnfluence.models.script import ScriptModel, load_script
from pinnfluence.models.trained_model import load_model
from pinnfluence.problem.labels import distinct
from pinnfluence.problem.problem import Problem
from pinnfluence.reference.comparison import match_points, with_quantities
from pinnfluence.scores.file import Scores, load_scores
from pinnfluence.storage.checkpoint import find_checkpoint
from pinnfluence.storage.files import sha256

SUFFIX = "_influences"
"""Scores of the model ``good`` lie in the folder ``good_influences`` beside it."""


NEW_POINT = "a new point"
"""What the page calls the field that says where one would help."""

LETTERS = "xyzt"
"""Coordinates of a file that does not name them; there are no more than these."""


@dataclass(frozen=True)
class Source:
    """A score file with its model's name, its problem (None for an unknown one) and checkpoint.

    script: instead of a checkpoint, the model that a user's own script returned.
    """

    name: str
    scores: Scores
    problem: Problem | None = None
    checkpoint: Path | None = None
    script: ScriptModel | None = None

    @property
    def origin(self) -> str:
        """Where its predicted fields come from, in words."""
        if self.model is not None:
            return self.model.title
        if self.scores.predicted:
            return "predicted fields as the score file has them"
        return "no checkpoint of these scores beside them, so no predicted fields"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the coordinates: the problem's, the file's, or x, y, z, t."""
        named = self.scores.metadata.get("inputs", LETTERS[: self.scores.test_x.shape[1]])
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

    @cached_property
    def model(self) -> Model | None:
        """The network; None with neither script nor checkpoint."""
        if self.checkpoint is None or self.problem is None:
            return self.script
        config = self.scores.metadata.get("config", {})
        names = ("problem", "variant", "conditions", "activation", "scale")
        settings = {name: config[name] for name in names if name in config}
        return load_model(self.checkpoint, self.scores.train_x, **settings)

    def predicted(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """The network's fields at some of the test points, by their numbers; ``[n]`` by name.

        As the checkpoint or the script gives them; without one, those that the file has.
        """
        model, points = self.model, self.scores.test_x[chosen]
        if model is None:
            return {name: values[chosen] for name, values in self.scores.predicted.items()}
        if self.problem is None:
            return evaluate(model.pinn, points, quantities_of(model.pinn, self.fields, points))
        return with_quantities(self.problem, points, model.predict(points))

    def estimated(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Estimated errors, solution minus network, at points ``[n, n_inputs]``, by name of field.

        From the folder ``<name>_diagnosis`` that ``pinnfluence diagnose`` writes beside the
        model's; none where there is none of this network.

        Raises:
            InputError: the file there is damaged.
        """
        model, step = self.model, self._diagnosis.get("step")
        if model is None or step is None:
            return {}
        return changes(model.pinn, step, points, quantities_of(model.pinn, self.outputs, points))

    def helping(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """By what part of itself the squared error would fall with a new training point there.

        From the same folder, ``[n]`` at points ``[n, n_inputs]``; see ``new_points.around``.
        """
        found = self._diagnosis
        if "helping" not in found:
            return {}
        return {NEW_POINT: around(points, found["candidates"], found["helping"])}

    @cached_property
    def _diagnosis(self) -> dict[str, np.ndarray]:
        if self.model is None:
            return {}
        with input_errors():
            folder, identity = self.model.folder("diagnosis"), self.model.identity
            return files.load_arrays(folder, identity, self.model.pinn.n_params)

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


def find_sources(
    paths: Sequence[str | Path],
    checkpoints: Sequence[str | Path] = (),
    scripts: Sequence[str] = (),
) -> list[Source]:
    """Open score files and find their networks, by default in the folder that they are named after.

    Args:
        paths: score files or their folders; none: those that ``pinnfluence scores`` writes beside
            the scripts.
        checkpoints: of the networks, in the same order. scripts: or functions that return them, as
            ``script.py:function``; the scripts are run.

    Raises:
        InputError: unreadable or dense files, points of more than four coordinates, models of
            different problems, a number of networks that is not that of files, a network that is
            not that of the scores.
    """
    models = [load_script(script) for script in scripts]
    paths = paths or [model.folder(SUFFIX.lstrip("_")) for model in models]
    for kind, given in (("checkpoint", checkpoints), ("model", models)):
        if given and len(given) != len(paths):
            raise InputError(
                f"expected a {kind} for each of the {len(paths)} score files, found "
                f"{len(given)}; give as many, in the same order"
            )
    if not paths:
        raise InputError("expected at least one score file, found none")
    names = distinct([_folder(path).name.removesuffix(SUFFIX) or "model" for path in paths])
    sources = [
        _open(
            Path(path),
            name,
            Path(checkpoints[i]) if checkpoints else None,
            models[i] if models else None,
        )
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    ]
    for source in sources[1:]:
        _check_same_problem(sources[0], source)
    return sources


def _check_same_problem(first: Source, other: Source) -> None:
    """Models on one page share axes, units and a place, so they must be of one problem."""
    named = [s.scores.metadata.get("config", {}).get("problem") for s in (first, other)]
    differ = None not in named and named[0] != named[1]
    if differ or other.inputs != first.inputs or not set(other.fields) & set(first.fields):
        was, other_was = (
            f"{name or 'no named problem'}, {', '.join(s.fields)} of {', '.join(s.inputs)}"
            for name, s in zip(named, (first, other), strict=True)
        )
        raise InputError(
            f"expected models of one problem, found {first.name} ({was}) and {other.name} "
            f"({other_was}); write a page for each problem"
        )


def _open(path: Path, name: str, checkpoint: Path | None, model: ScriptModel | None) -> Source:
    scores = _scores_of(path)
    named = scores.metadata.get("config", {}).get("problem")
    problem = problems.load(named) if named in problems.names() else None
    n, most = scores.test_x.shape[1], len(LETTERS)
    if problem is not None and n != len(problem.inputs):
        raise InputError(
            f"expected points of the coordinates {', '.join(problem.inputs)} of {problem.name}, "
            f"found {n} in {path}"
        )
    if n > most:
        raise InputError(
            f"expected points of at most {most} coordinates, found {n} in {path}; leave the page "
            "and take scores.top, or scores.matrix"
        )
    if model is None:
        return Source(name, scores, problem, _checkpoint_of(path, scores, checkpoint))
    if scores.metadata.get("script", {}).get("identity") != model.identity:
        raise InputError(
            f"{model.title} is not the model of the scores in {path}: it was trained again or its "
            "script was changed; compute them again: pinnfluence scores --model"
        )
    return Source(name, scores, problem, script=model)


def _scores_of(path: Path) -> Scores:
    """The scores of a file or folder, in factors and finite."""
    try:
        with input_errors():
            scores = load_scores(path)
    except FileNotFoundError as error:
        raise InputError(str(error)) from None
    if not isinstance(scores, Scores):
        raise InputError(
            f"expected embeddings, found whole matrices in {path}; "
            "give the influences.safetensors that pinnfluence scores writes"
        )
    for what, side in (("term", scores.train), ("quantity", scores.test)):
        for key, embedding in side.items():
            if n_bad := int((~np.isfinite(embedding.values)).any(1).sum()):
                raise InputError(
                    f"{path}: the {what} {key} has NaN or infinity at {n_bad} points; compute "
                    "scores without it, or at other points"
                )
    return scores


def _checkpoint_of(path: Path, scores: Scores, given: Path | None) -> Path | None:
    """The checkpoint of the scores: the given one, or that of the folder that theirs is named for.

    None where there is none with the checksum that the scores state; a given one is refused then.
    """
    stated = scores.metadata.get("checkpoint", {})
    if given is not None:
        file = find_checkpoint(given)
        if file.is_file() and stated.get("sha256") not in (None, sha256(file)):
            raise InputError(f"{file} is not the checkpoint of the scores in {path}")
        return file
    folder = _folder(path)
    file = folder.with_name(folder.name.removesuffix(SUFFIX)) / str(stated.get("name", ""))
    return file if file.is_file() and sha256(file) == stated.get("sha256") else None


def _folder(path: str | Path) -> Path:
    resolved = Path(path).resolve()
    return resolved.parent if resolved.suffix == ".safetensors" else resolved
