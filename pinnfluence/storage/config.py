"""``config.json``: the settings of a run beside its checkpoints, checked before they are used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from pinnfluence.errors import InputError
from pinnfluence.storage.files import read_file, write_bytes
from pinnfluence.storage.typed import Count, Name, Positive, Size, as_type

CONFIG = "config.json"

ITERATIONS = "n_iterations_"
"""What a phase's number of iterations is called begins like this, but for Adam's."""

NULLABLE = ("start_from", "sampler", "sampler_points", "sampler_quantity", "patience")
"""Settings of which null says that there is none."""


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run, as its ``config.json`` states them; None: it does not.

    layers: widths of all layers. scale: length by which each input is divided. loss_weights: by
    loss term; others count once. start_from: SHA-256 of the checkpoint with the first weights.
    sampler: the strategy by which other points were chosen, and its settings: see ``samplers``.
    patience: iterations without a lower loss at fresh points, after which a phase ended.
    iterations: most iterations of the phases of training, ``n_iterations`` and
    ``n_iterations_<phase>``, by these names. others: what the file says besides.
    """

    problem: Name | None = None
    variant: Name | None = None
    conditions: Name | None = None
    layers: Annotated[tuple[Size, ...], Meta(min_length=2)] | None = None
    activation: Name | None = None
    scale: Annotated[tuple[Positive, ...], Meta(min_length=1)] | None = None
    loss_weights: dict[str, Positive] | None = None
    seed: int | None = None
    num_domain: Count | None = None
    num_boundary: Count | None = None
    num_initial: Count | None = None
    lr: Positive | None = None
    dtype: Name | None = None
    start_from: Name | None = None
    distribution: Name | None = None
    sampler: Name | None = None
    sampler_every: Count | None = None
    sampler_points: Count | None = None
    sampler_mode: Name | None = None
    sampler_candidates: Count | None = None
    sampler_quantity: Name | None = None
    patience: Count | None = None
    device: Name | None = None
    versions: dict[str, str] | None = None
    iterations: dict[str, Count] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str) -> RunConfig:
        """Settings by name, checked.

        Args:
            where: what they came from; the message begins with it.

        Raises:
            InputError: a setting has another type, or a number that it cannot be.
        """
        names = {item.name for item in dataclasses.fields(cls)} - {"iterations", "others"}
        known = {key: value for key, value in settings.items() if key in names}
        for key, value in known.items():
            if value is None and key not in NULLABLE:
                raise InputError(f"{where}: {key}: expected a value or no such key, found null")
        lengths = {
            key: as_type(value, Count, f"{where}: {key}")
            for key, value in settings.items()
            if key == "n_iterations" or key.startswith(ITERATIONS)
        }
        others = {k: v for k, v in settings.items() if k not in names and k not in lengths}
        config = as_type(known, cls, where)
        return dataclasses.replace(config, iterations=lengths, others=others)

    def stated(self) -> dict[str, Any]:
        """The settings that are stated, by name, as JSON has them."""
        settings = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in vars(self).items()
            if value is not None and key not in ("iterations", "others")
        }
        return settings | self.iterations | self.others


def load_config(path: Path) -> RunConfig | None:
    """``config.json``, or None if there is none.

    Raises:
        InputError: the file is not a JSON object, or a setting has a wrong type.
    """
    if not path.exists():
        return None
    try:
        settings = json.loads(read_file(path).decode("utf-8"))
    except InputError:
        raise
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise InputError(f"{path} is not a JSON object; repair or remove it")
    try:
        return RunConfig.of(settings, str(path))
    except InputError as error:
        raise InputError(f"{error}; repair the file or remove it") from None


def save_config(path: Path, config: RunConfig | Mapping[str, Any]) -> None:
    """Write ``config.json`` atomically."""
    settings = config.stated() if isinstance(config, RunConfig) else config
    write_bytes(path, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())
