"""Score files and their networks: opened, and refused where they do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pinnfluence import problems
from pinnfluence.errors import InputError, input_errors
from pinnfluence.explorer.sources import LETTERS, SUFFIX, Source
from pinnfluence.models.script import ScriptModel, load_script
from pinnfluence.models.trained_model import folder_beside
from pinnfluence.problem.labels import distinct
from pinnfluence.scores.file import Scores, load_scores
from pinnfluence.storage.checkpoint import find_checkpoint
from pinnfluence.storage.files import sha256


def find_sources(
    paths: Sequence[str | Path],
    checkpoints: Sequence[str | Path] = (),
    scripts: Sequence[str] = (),
) -> list[Source]:
    """Open score files and find their networks, by default in the folder that they are named after.

    Args:
        paths: score files or their folders; none: those that ``pinnfluence scores`` writes beside
            the checkpoints or scripts.
        checkpoints: of the networks, in the same order. scripts: or functions that return them, as
            ``script.py:function``; the scripts are run.

    Raises:
        InputError: unreadable or dense files, points of more than four coordinates, a number of
            networks that is not that of files, a network that is not that of the scores.
    """
    models = [load_script(script) for script in scripts]
    what = SUFFIX.lstrip("_")
    paths = paths or [model.folder(what) for model in models]
    paths = paths or [folder_beside(Path(checkpoint), what) for checkpoint in checkpoints]
    for kind, given in (("checkpoint", checkpoints), ("model", models)):
        if given and len(given) != len(paths):
            raise InputError(
                f"expected a {kind} for each of the {len(paths)} score files, found "
                f"{len(given)}; give as many, in the same order"
            )
    if not paths:
        raise InputError("expected at least one score file, found none")
    names = distinct([_folder(path).name.removesuffix(SUFFIX) or "model" for path in paths])
    return _shortly_named(
        [
            _open(
                Path(path),
                name,
                Path(checkpoints[i]) if checkpoints else None,
                models[i] if models else None,
            )
            for i, (path, name) in enumerate(zip(paths, names, strict=True))
        ]
    )


def _shortly_named(sources: Sequence[Source]) -> list[Source]:
    """Names without the recipe, which stands beside them, where that leaves them distinct."""
    short = [s.name.removesuffix(f"_{s.scores.recipe.get('base')}") for s in sources]
    if len(set(short)) < len(short):
        return list(sources)
    return [replace(source, name=name) for source, name in zip(sources, short, strict=True)]


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
            "script was changed; let the function load weights that were saved once, and compute "
            "the scores again: pinnfluence scores --model (docs/your_model.md)"
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

    Scores of ``good`` lie in ``good_influences``, or in ``good_<recipe>_influences``.
    None where there is none with the checksum that the scores state; a given one is refused then.
    """
    stated = scores.metadata.get("checkpoint", {})
    if given is not None:
        file = find_checkpoint(given)
        if file.is_file() and stated.get("sha256") not in (None, sha256(file)):
            raise InputError(f"{file} is not the checkpoint of the scores in {path}")
        return file
    folder = _folder(path)
    whole = folder.name.removesuffix(SUFFIX)
    for name in (whole, whole.removesuffix(f"_{scores.recipe.get('base')}")):
        file = folder.with_name(name) / str(stated.get("name", ""))
        if file.is_file() and sha256(file) == stated.get("sha256"):
            return file
    return None


def _folder(path: str | Path) -> Path:
    resolved = Path(path).resolve()
    return resolved.parent if resolved.suffix == ".safetensors" else resolved
