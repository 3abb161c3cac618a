"""``config.json``: the settings of a run beside its checkpoints, checked before they are used."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnfluence.errors import InputError
from pinnfluence.storage.files import write_bytes

CONFIG = "config.json"


def load_config(path: Path) -> dict[str, Any]:
    """``config.json``, or an empty dictionary if there is none.

    Raises:
        InputError: the file is not a JSON object, or a setting of the model has a wrong type.
    """
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object; repair or remove it")
    _check_types(config, path)
    return config


def save_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` atomically."""
    write_bytes(path, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def _check_types(config: Mapping[str, Any], path: Path) -> None:
    expected = dict.fromkeys(("problem", "variant", "conditions"), ("a name", _is_name)) | {
        "activation": ("a name", _is_name),
        "layers": ("at least two positive whole numbers", _is_layers),
        "scale": ("one positive number an input", _is_scale),
        "loss_weights": ("positive numbers by loss term", _are_weights),
    }
    for key, (what, is_valid) in expected.items():
        if key in config and not is_valid(config[key]):
            raise InputError(
                f"{path}: expected {key} to be {what}, found {json.dumps(config[key])[:80]}; "
                "repair the file or remove it"
            )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_layers(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) > 1 and all(type(n) is int and n > 0 for n in value)
    )


def _is_scale(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_positive, value))


def _are_weights(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_positive, value.values()))


def _is_positive(number: Any) -> bool:
    """Whether it is a number that a float can hold."""
    return type(number) in (int, float) and 0 < number <= sys.float_info.max
