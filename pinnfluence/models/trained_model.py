"""A trained model: a checkpoint with its points and its equations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pinnfluence import problems
from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.module_call import copied
from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.model import Model, some_of, versions
from pinnfluence.problem.domain import TOLERANCE
from pinnfluence.problem.problem import Problem
from pinnfluence.storage import checkpoint
from pinnfluence.storage.config import CONFIG, RunConfig, load_config
from pinnfluence.storage.point_checks import check_points, repeats_warning

SETTINGS = ("problem", "variant", "conditions", "layers", "activation", "scale")


@dataclass(frozen=True)
class TrainedModel(Model):
    """A network with its equations, training points and settings.

    pinn: the network and its equations. problem: the problem with its variant's changes.
    config: the run's settings. train_x: ``[n_train, n_inputs]``, float32. path: the checkpoint.
    sha256: of the checkpoint's bytes that were read.
    assumed: settings that neither ``config.json`` nor the caller stated.
    """

    pinn: Pinn
    problem: Problem
    config: RunConfig
    train_x: np.ndarray
    path: Path
    sha256: str
    assumed: tuple[str, ...] = ()

    def warnings(self) -> list[str]:
        """What looks implausible: no points of a term, many repeated, a loss above that of 0."""
        found = super().warnings()
        if repeats := repeats_warning(self.train_x):
            found.append(repeats)
        loss = sum(self.mean_losses().values())
        zero_loss = sum(self._of_zeros().mean_losses().values())
        if not loss < zero_loss:
            found.append(
                f"the loss {loss:.3g} is not below {zero_loss:.3g}, that of a zero field, so "
                "scores are probably of a wrong model: check --activation, --conditions and "
                "--variant against the training of this checkpoint"
            )
        return found

    @property
    def title(self) -> str:
        return str(self.path)

    @property
    def identity(self) -> str:
        return self.sha256

    def folder(self, what: str) -> Path:
        """The folder ``<run>_<what>`` beside that of the checkpoint."""
        return folder_beside(self.path.parent, what)

    def points_of(self, path: Path, what: str) -> np.ndarray:
        """Points of a file, all inside the problem's domain, see ``load_points_inside``."""
        return load_points_inside(path, self.problem, what)

    def test_points(self, path: Path | None, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Test points of a file, else those of the reference, see ``load_test_points``."""
        return load_test_points(path, self.problem, n, seed)

    def settings(self) -> str:
        """The settings in one line; those that nothing stated are called assumed."""
        note = dict.fromkeys(self.assumed, " (assumed)")
        return ", ".join(
            f"{key} {_words(getattr(self.config, key))}{note.get(key, '')}" for key in SETTINGS
        )

    def provenance(self) -> dict[str, Any]:
        return {
            "checkpoint": {"name": self.path.name, "sha256": self.sha256},
            "config": self.config.stated(),
            "versions": versions(),
        }

    def _of_zeros(self) -> TrainedModel:
        network = copied(self.pinn.network)
        for p in network.parameters():
            torch.nn.init.zeros_(p)
        return replace(self, pinn=replace(self.pinn, network=network))


def load_model(
    path: str | Path,
    train_x: str | Path | np.ndarray | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> TrainedModel:
    """Read a checkpoint in DeepXDE's format.

    What it does not say comes from ``config.json`` beside it, ``settings`` or the problem.

    Args:
        path: a ``.pt`` file, or a run folder, of which the last checkpoint is taken.
        train_x: the training points, or their file; default ``train_x.npy`` beside the checkpoint.
        dtype, device: of the network.
        settings: ``problem``, ``variant``, ``conditions``, ``layers``, ``activation``, ``scale``,
            or None.

    Raises:
        InputError: unreadable or unfit files, or a setting that contradicts ``config.json``.
        TypeError: an unknown setting.
    """
    if unknown := sorted(settings.keys() - set(SETTINGS)):
        raise TypeError(f"no setting {', '.join(unknown)}, expected some of {', '.join(SETTINGS)}")
    file = checkpoint.find_checkpoint(Path(path))
    config_file = file.parent / CONFIG
    config = load_config(config_file) or RunConfig()
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
        if value is not None
    }
    stated = config.stated().keys() | given.keys()
    _refuse_contradictions(given, config, config_file)
    with input_errors(str(config_file) if config_file.exists() and not given else ""):
        problem, config = _complete(replace(config, **given))
    content = checkpoint.read_checkpoint(file)
    weights = checkpoint.load_weights(file, len(problem.inputs), len(problem.outputs), content)
    layers = checkpoint.layers_of(weights)
    if config.layers not in (None, layers):
        asked = _words(config.layers)
        source = "was asked for" if "layers" in given else f"is what {config_file} says"
        raise InputError(f"{file} has layers {_words(layers)}, but {asked} {source}")
    own = problem.network
    network = MLP(layers, own.activation, own.scale, own.envelope).to(device, dtype)
    network.load_state_dict(weights)  # after .to: weights in float64 keep their digits
    with input_errors(str(config_file)):
        pinn = Pinn.of(problem, config.conditions or "", network)
    points = _training_points(train_x, file, problem)
    assumed = tuple(key for key in SETTINGS if key not in stated)
    digest = hashlib.sha256(content).hexdigest()
    config = replace(config, layers=layers)
    return TrainedModel(pinn, problem, config, points, file, digest, assumed)


def _training_points(
    given: str | Path | np.ndarray | None, file: Path, problem: Problem
) -> np.ndarray:
    """The training points ``[n_train, n_inputs]``, float32: given, or beside the checkpoint."""
    if isinstance(given, np.ndarray):
        check_points(given, len(problem.inputs), "training")
        return given.astype(np.float32)
    return load_points_inside(Path(given or file.parent / checkpoint.POINTS), problem, "training")


def _complete(config: RunConfig) -> tuple[Problem, RunConfig]:
    """The problem of a configuration, with its settings; where it has none, those of the problem.

    Raises:
        ValueError: unknown names, or a scale that does not fit.
    """
    problem = problems.load(config.problem or problems.DEFAULT)
    variant = config.variant or next(iter(problem.variants))
    problem = problem.variant(variant)
    conditions = config.conditions or next(iter(problem.conditions))
    problem.equations(conditions)
    own = problem.network
    activation, scale = config.activation or own.activation, config.scale or own.scale
    MLP(own.layers, activation, scale)  # refuses unfit ones
    weights = problem.loss_weights if config.loss_weights is None else config.loss_weights
    problem = problem.changed(activation=activation, scale=tuple(scale), loss_weights=weights)
    complete = replace(
        config,
        problem=problem.name,
        variant=variant,
        conditions=conditions,
        activation=activation,
        scale=tuple(scale),
    )
    return problem, complete


def load_points_inside(path: Path, problem: Problem, what: str) -> np.ndarray:
    """Points ``[n, n_inputs]`` of a file, all inside the problem's domain.

    Raises:
        InputError: unreadable file, or points outside the domain by more than the tolerance.
    """
    points = checkpoint.load_points(path, len(problem.inputs), what)
    checkpoint.check_inside(problem.domain.excess(points), points, TOLERANCE, path)
    return points


def folder_beside(checkpoint: Path, what: str) -> Path:
    """The folder ``<checkpoint>_<what>`` beside a checkpoint or its folder."""
    given = checkpoint.resolve()
    return given.with_name(f"{given.name if given.is_dir() else given.stem}_{what}")


def load_test_points(
    path: Path | None, problem: Problem, n: int | None = None, seed: int = 0
) -> np.ndarray:
    """Test points of a file, else those of the problem's reference.

    Args:
        n: so many of them at random, in their order; None, or more than there are: all.

    Raises:
        InputError: see ``load_points_inside``; neither file nor reference; n below 1.
    """
    if path is not None:
        points = load_points_inside(path, problem, "test")
    elif problem.reference is None:
        raise InputError(f"{problem.name} has no reference points; give --test_x_path")
    else:
        points = problem.reference().points
    return some_of(points, n, seed)


def _refuse_contradictions(given: Mapping[str, Any], config: RunConfig, config_file: Path) -> None:
    for key, value in given.items():
        said = getattr(config, key)
        if said is not None and value != said:
            raise InputError(
                f"--{key} {_words(value)} contradicts {config_file}, which says {_words(said)}; "
                "leave the flag out, or move the file away if it is not this checkpoint's"
            )


def _words(value: Any) -> str:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return " ".join(map(str, value)) if is_list else str(value)
