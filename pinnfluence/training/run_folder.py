"""The folder of a training run: made for a new run, kept for the same one, refused to another."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnfluence.errors import InputError
from pinnfluence.storage import checkpoint
from pinnfluence.storage.config import CONFIG, RunConfig, load_config, save_config
from pinnfluence.storage.lock import LOCK
from pinnfluence.training.optimizers import flag, names

ADDED: dict[str, Any] = {
    "distribution": "Hammersley",
    "loss_weights": {},
    "num_initial": 0,
    "start_from": None,
    "sampler": None,
    "sampler_quantity": None,
    "patience": None,
    **{flag(name): 0 for name in names()},
}
"""Settings that the runs of older versions do not state, and what they were."""

PACKAGES = ("torch", "deepxde", "numpy", "pinnfluence")


def prepare(folder: Path, settings: Mapping[str, Any], device: str, restart: bool) -> list[str]:
    """Give the run folder its ``config.json``; gives notes for the user.

    Args:
        folder: where the run lives, held by this process (see ``storage.lock``).
        settings: everything that the results depend on.
        device: where it computes.
        restart: move an old run aside, whatever it is.

    Raises:
        InputError: a run with other settings is there, or an incomplete one.
    """
    notes = []
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    if restart and (found := _found(folder)):
        notes.append(f"moved the old run, with {found}, to {_move_aside(folder)}")
    old = load_config(folder / CONFIG)
    if not old:
        if found := _found(folder, "*.pt"):
            raise InputError(
                f"{folder} holds {found}, but no {CONFIG} that says how it was made; "
                "use another --save_path or --restart"
            )
        save_config(folder / CONFIG, {**settings, "device": device, "versions": versions})
        return notes
    stated = ADDED | old.stated()
    for key, value in settings.items():
        if stated.get(key) != value:
            raise InputError(
                f"{folder} holds a run with {key} = {stated.get(key)}, found {value}; "
                "use the same flags, another --save_path, or --restart"
            )
    if not (folder / checkpoint.STATE).exists() and (found := _found(folder, "*.pt")):
        raise InputError(
            f"{folder} holds {found}, but no {checkpoint.STATE} from which to go on; use it as it "
            "is, or train anew with --restart or another --save_path"
        )
    _sweep(folder)
    return notes + _changes(old, {"device": device, **versions})


def _changes(old: RunConfig, now: Mapping[str, str]) -> list[str]:
    """What may change the last bits of a run that goes on: another device, other packages."""
    before = {"device": old.device, **(old.versions or {})}
    changed = [key for key in now if before.get(key) != now[key]]
    return [f"note: {key} was {before.get(key)}, is {now[key]}" for key in changed]


def _found(folder: Path, pattern: str = "*") -> str | None:
    """The name of a file that belongs to a run."""
    files = filter(checkpoint.is_run_file, folder.glob(pattern))
    return max((file.name for file in files), default=None)


def _sweep(folder: Path) -> None:
    """Remove what a killed run had not written to its end."""
    for file in folder.glob(".*.tmp"):
        if checkpoint.is_run_file(Path(file.name[1:].rsplit(".", 2)[0])):
            file.unlink(missing_ok=True)


def _move_aside(folder: Path) -> Path:
    """Move all that lies in the folder into a new one beside it; the folder itself stays locked."""
    path = Path(os.path.abspath(folder))
    name = f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [name, *(f"{name}-{n}" for n in range(2, 100))]
    aside = next(path.with_name(n) for n in candidates if not path.with_name(n).exists())
    aside.mkdir()
    for file in sorted(path.iterdir()):
        if file.name != LOCK:
            file.rename(aside / file.name)
    return aside
