"""The commands of the package, a module each: ``pinnfluence COMMAND``, or a script in a clone."""

from __future__ import annotations

from importlib import import_module
from typing import NoReturn

from pinnfluence.runtime.script import run_script

COMMANDS = {
    "train": "Train a physics-informed network by one to three optimizers in turn.",
    "scores": "Influence of all training points on all predictions and losses of a network.",
    "indicators": "Where influence comes from: the indicators of a score file as a table.",
    "explore": "One HTML file to look at influence scores, which works offline.",
    "validate": "Compare influence scores with retraining.",
    "diagnose": "How wrong a trained network is, where, and why, without a reference.",
}
"""What each command does, in one line."""


def run(name: str) -> NoReturn:
    """Run a command with the arguments in ``sys.argv``, and end the process."""
    run_script(import_module(f"{__name__}.{name}").main)
