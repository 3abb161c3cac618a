"""The settings of a run as a typed object: what files state, and nothing else."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from pinnfluence import InputError
from pinnfluence.storage.config import RunConfig, load_config, save_config
from pinnfluence.storage.typed import as_type

ZOO = sorted((ROOT / "model_zoo").glob("*/config.json"))


@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.parent.name)
def test_configs_of_the_zoo_keep_their_bytes(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config is not None
    assert not config.others
    save_config(tmp_path / "config.json", config)
    stated = re.sub(r'  "\w+": null,\n', "", path.read_text())  # which is not stated
    assert (tmp_path / "config.json").read_text() == stated


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    settings = {"seed": 1, "scale": [1, 2.5], "note": {"mine": None}, "others": [3]}
    save_config(tmp_path / "config.json", settings)
    config = load_config(tmp_path / "config.json")
    assert config is not None
    assert (config.seed, config.scale) == (1, (1.0, 2.5))
    assert config.others == {"note": {"mine": None}, "others": [3]}
    assert config.stated() == settings


def test_no_file_and_nothing_stated(tmp_path: Path) -> None:
    assert load_config(tmp_path / "config.json") is None
    assert RunConfig().stated() == {}
    assert RunConfig.of({"start_from": None}, "") == RunConfig()


def test_iterations_are_those_of_whatever_phases_there_are() -> None:
    settings = {"n_iterations": 7, "n_iterations_nudge": 5, "iterations": {"mine": 2}}
    config = RunConfig.of(settings, "here")
    assert config.iterations == {"n_iterations": 7, "n_iterations_nudge": 5}
    assert config.others == {"iterations": {"mine": 2}}
    assert config.stated() == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 1.0}, "here: seed: expected `int`, found 1.0"),
        ({"seed": True}, "here: seed: expected `int`, found true"),
        ({"lr": 0}, r"here: lr: expected `float` > 0.0, found 0"),
        ({"lr": float("nan")}, "here: lr: expected `float` > 0.0, found NaN"),
        ({"n_iterations": "5"}, 'here: n_iterations: expected `int`, found "5"'),
        ({"n_iterations_nudge": -1}, "here: n_iterations_nudge: expected `int` >= 0, found -1"),
        ({"num_domain": -1}, "here: num_domain: expected `int` >= 0, found -1"),
        ({"dtype": ""}, 'here: dtype: expected `str` of length >= 1, found ""'),
        ({"versions": {"torch": 2}}, "here: versions.* expected `str`, found"),
        ({"layers": None}, "here: layers: expected a value or no such key, found null"),
    ],
)
def test_settings_of_other_types(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunConfig.of(settings, "here")


@dataclasses.dataclass(frozen=True)
class Inner:
    n: int


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    rows: list[list[float | None]]


def test_values_of_files_become_objects() -> None:
    value = {"inner": {"n": 1}, "rows": [[1, None]], "more": json}
    assert as_type(value, Outer, "x.pt") == Outer(Inner(1), [[1.0, None]])
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    changes: list[dict[str, Any]] = [{"inner": []}, {"inner": {}}, {"rows": "word"}]
    for change in [*changes, {"rows": [[json]]}]:
        with pytest.raises(InputError, match=r"^x\.pt: .*expected|^x\.pt: .*missing") as error:
            as_type(value | change, Outer, "x.pt")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"^x\.pt: "):
        as_type(nested, Outer, "x.pt")
