"""Flags that name a model, and the model that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pinnfluence import problems
from pinnfluence.errors import InputError
from pinnfluence.runtime.script import Parser

if TYPE_CHECKING:
    from pinnfluence.models.model import Model

OF_CHECKPOINT = (
    *("train_x_path", "problem", "variant", "broken", "conditions"),
    *("layers", "activation", "scale"),
)
"""Flags that say what a checkpoint does not; a model of a script brings all that along."""


def add_model_flags(parser: Parser) -> None:
    """Add ``--checkpoint``, ``--model``, and what is to be known of a checkpoint."""
    one, add = parser.add_mutually_exclusive_group(required=True), parser.add_argument
    one.add_argument("--checkpoint", type=Path, help="a .pt file of DeepXDE, or its folder")
    one.add_argument(
        "--model",
        metavar="SCRIPT.PY:FUNCTION",
        help="or a function of your own script, without arguments, that returns a trained "
        "dde.Model or a model of torch_model; THE CODE OF THE SCRIPT IS RUN",
    )
    add("--train_x_path", type=Path, help="training points (default: beside the checkpoint)")
    add("--problem", choices=problems.names(), help="the problem that was trained")
    add("--variant", help="the variant that was trained")
    add("--conditions", help="the set of boundary conditions that was trained")


def model_of(arguments: argparse.Namespace) -> Model:
    """The model of ``--checkpoint`` or ``--model``, with the other flags that the script has.

    Raises:
        InputError: see ``load_model`` and ``load_script``; flags of a checkpoint with ``--model``.
    """
    import torch  # here, and in the next function: the help comes at once

    from pinnfluence.models.script import load_script
    from pinnfluence.models.trained_model import SETTINGS, load_model
    from pinnfluence.runtime import devices

    given = vars(arguments)
    dtype, device = getattr(torch, given.get("dtype", "float64")), given.get("device", "cpu")
    if arguments.model is None:
        settings = {name: given.get(name) for name in SETTINGS} | {
            "variant": problems.variant_of(given)
        }
        path, points = arguments.checkpoint, arguments.train_x_path
        return load_model(path, points, dtype, devices.select(device, dtype), **settings)
    if unfit := [name for name in OF_CHECKPOINT if given.get(name)]:
        raise InputError(f"--{unfit[0]} is for --checkpoint; what --model returns has its own")
    its_own = device == "auto" or "device" not in given
    return load_script(arguments.model, dtype, None if its_own else devices.select(device, dtype))


def folder_of(arguments: argparse.Namespace, what: str) -> Path:
    """``--save_path``, by default a folder beside the checkpoint or the script.

    Raises:
        InputError: a file of scores.
    """
    from pinnfluence.models.script import folder_beside_script
    from pinnfluence.models.trained_model import folder_beside

    folder: Path | None = arguments.save_path
    if folder is None and arguments.model is not None:
        return folder_beside_script(arguments.model, what)
    if folder is None:
        return folder_beside(arguments.checkpoint, what)
    if folder.suffix in (".safetensors", ".npz"):
        raise InputError(f"--save_path must be a folder, found {folder}")
    return folder
