"""Flags and a ``config.json`` that do not fit: one line, exit code 2, nothing written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers import assert_refused
from refusals import calc, calc_is_refused, train_is_refused

from pinnfluence import load_model
from pinnfluence.problems import names


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--layers", 2, 7, 7, 3), ("has layers 2 4 4 3, but 2 7 7 3 was asked for",)),
        (("--layers", 2), ("has layers 2 4 4 3, but 2 was asked for",)),
        (("--layers", "2,6,6,3"), ("--layers", "invalid int value")),
        (("--activation", "relu"), ("unknown activation 'relu', expected one of gelu",)),
        (("--variant", "ugly"), ("no variant 'ugly', expected one of good, broken, bad",)),
        (("--broken", "--variant", "good"), ("--broken contradicts --variant good",)),
        (("--conditions", "none"), ("no conditions 'none', expected one of corrected",)),
        (("--problem", "waves"), ("--problem", "invalid choice: 'waves'", "cylinder_flow")),
        (("--batch_size", 0), ("from 1 to the 80 training points, found 0",)),
        (("--batch_size", -5), ("from 1 to the 80 training points, found -5",)),
        (("--batch_size", 81), ("from 1 to the 80 training points, found 81",)),
        (("--batch_size", "all"), ("--batch_size", "invalid int value: 'all'")),
        (("--device", "gpu"), ("unknown device 'gpu', expected one of auto, cpu, cuda",)),
        (("--device", "cuda"), ("device 'cuda' is not available here, found cpu",)),
        (("--device", "mps"), ("device 'mps' is not available here",)),
        (("--device", "xla"), ("device 'xla' is not available here",)),
        (("--dtype", "float16"), ("--dtype", "invalid choice: 'float16'")),
        (("--threads", 0), ("--threads must be from 1 to", "found 0")),
        (("--threads", -1), ("--threads must be from 1 to", "found -1")),
        (("--unknown",), ("unrecognized arguments: --unknown",)),
        (("--modul", "x"), ("unrecognized arguments: --modul, expected --model?",)),
        (("--center", "x"), ("unrecognized arguments: --center (see",)),
        (("--chekpoint", "x"), ("unrecognized arguments: --chekpoint, expected --checkpoint?",)),
        (("--train_x_path", "/none.npy"), ("no training points at /none.npy",)),
        (("--test_points", 0), ("expected --test_points of at least 1, found 0",)),
        (("--test_x_path", "/none.npy"), ("no test points at /none.npy",)),
        (("--save_path", "a.npz"), ("--save_path must be a folder, found a.npz",)),
    ],
)
def test_unfit_flags(model: Path, flags: tuple[Any, ...], words: tuple[str, ...]) -> None:
    (model / "config.json").unlink()
    absent = "import torch\ntorch.cuda.is_available = torch.backends.mps.is_available = lambda: 0"
    calc_is_refused(model, *words, flags=flags, prelude=absent)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a JSON object"),
        ("{", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"seed": ' + "1" * 5000 + "}", "is not a JSON object"),
        ("\ud800", "is not a JSON object"),
        (
            {"layers": "abc"},
            'layers: expected `array`, found "abc"; repair the file or remove it',
        ),
        ({"layers": None}, "found null"),
        ({"layers": [2]}, "found [2]"),
        ({"layers": [2, 6.0, 6, 3]}, "found [2, 6.0, 6, 3]"),
        ({"layers": [2, True, 6, 3]}, "found [2, true, 6, 3]"),
        ({"layers": [2, 0, 3]}, "found [2, 0, 3]"),
        ({"layers": {"2": 3}}, "layers: expected `array`"),
        ({"layers": [2, 7, 7, 3]}, "has layers 2 4 4 3, but 2 7 7 3 is what"),
        ({"scale": [0, 1]}, "scale[0]: expected `float` > 0.0, found [0, 1]"),
        ({"scale": [-1, 1]}, "found [-1, 1]"),
        ({"scale": [float("nan"), 1]}, "found [NaN, 1]"),
        ({"scale": [float("inf"), 1]}, "found [Infinity, 1]"),
        ({"scale": 2}, "found 2"),
        ({"scale": [10**400, 1]}, "scale[0]: number out of range"),
        ({"loss_weights": [1]}, "loss_weights: expected `object`, found [1]"),
        ({"loss_weights": {"continuity": 0}}, 'found {"continuity": 0}'),
        ({"loss_weights": {"heat": 2}}, "found heat 2"),
        ({"scale": ["1", "1"]}, "scale[0]: expected `float`"),
        ({"scale": [1]}, "scale needs 2 values, one an input, found [1.0]"),
        ({"scale": [1, 1, 1]}, "scale needs 2 values"),
        ({"scale": []}, "found []"),
        ({"problem": "ugly"}, f"unknown problem 'ugly', expected one of {', '.join(names())}"),
        ({"problem": ["cylinder_flow"]}, "problem: expected `str`"),
        ({"problem": "../train"}, "unknown problem '../train'"),
        ({"variant": "ugly"}, "no variant 'ugly', expected one of good, broken, bad"),
        ({"variant": {}}, "variant: expected `str`, found {}"),
        ({"conditions": "none"}, "no conditions 'none', expected one of corrected, published"),
        ({"conditions": 1}, "conditions: expected `str`, found 1"),
        ({"activation": "relu"}, "unknown activation 'relu', expected one of gelu"),
        ({"activation": ["gelu"]}, "activation: expected `str`"),
        ({"activation": None}, "activation: expected a value or no such key, found null"),
    ],
)
def test_bad_config(model: Path, content: Any, words: str) -> None:
    path = model / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_bytes(content.encode(errors="surrogatepass"))
    calc_is_refused(model, words, str(path))


def test_the_loss_weights_of_the_training_are_taken(model: Path) -> None:
    path = model / "config.json"
    content = json.loads(path.read_text()) | {"loss_weights": {"continuity": 7.0}}
    path.write_text(json.dumps(content))
    assert load_model(model).pinn.loss_weights == {"continuity": 7.0}


@pytest.mark.parametrize("content", ["{", "[]", '{"layers": "abc"}'])
def test_bad_config_in_a_run_folder(model: Path, content: str) -> None:
    (model / "config.json").write_text(content)
    train_is_refused(model, str(model / "config.json"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--lr", -1), ("learning rate must be positive, found -1",)),
        (("--lr", 0), ("learning rate must be positive, found 0",)),
        (("--lr", "nan"), ("learning rate must be positive, found nan",)),
        (("--lr", "inf"), ("learning rate must be positive, found inf",)),
        (("--lr", "fast"), ("--lr", "invalid float value: 'fast'")),
        (("--layers", 2, 8, 4), ("begin with 2 inputs and end with 3 outputs, found 2 8 4",)),
        (("--layers", 3, 8, 3), ("begin with 2 inputs and end with 3 outputs, found 3 8 3",)),
        (("--layers", 2), ("layers must be at least two, with widths from 1 to", "found 2")),
        (("--layers", 2, 0, 3), ("widths from 1 to", "found 2 0 3")),
        (("--layers", 2, -8, 3), ("widths from 1 to", "found 2 -8 3")),
        (("--layers", 2, 10**20, 3), ("widths from 1 to",)),
        (("--layers", 2, 10**6, 10**6, 10**6, 3), ("not enough memory",)),
        (("--layers",), ("--layers", "expected at least one argument")),
        (("--num_domain", -1), ("num_domain must be from 0 to", "found -1")),
        (("--num_boundary", -1), ("num_boundary must be from 0 to", "found -1")),
        (("--num_domain", 10**30), ("num_domain must be from 0 to",)),
        (("--num_boundary", 0), ("loss term inflow_u acts on none of 40 domain and 0 boundary",)),
        (("--num_domain", 0, "--num_boundary", 0), ("expected at least one point",)),
        (("--num_boundary", 3), ("loss term inflow_u acts on none", "raise --num_boundary")),
        (("--num_domain", "many"), ("--num_domain", "invalid int value: 'many'")),
        (("--n_iterations", -1), ("iterations of adam must not be negative, found -1",)),
        (("--n_iterations_lbfgs", -1), ("iterations of lbfgs must not be negative, found -1",)),
        (("--n_iterations", "1e5"), ("--n_iterations", "invalid int value: '1e5'")),
        (("--seed", -1), ("seed must be from 0 to 4294967295, found -1",)),
        (("--seed", 2**32), ("seed must be from 0 to 4294967295",)),
        (("--save_seconds", -1), ("seconds between saves must be at least 0, found -1",)),
        (("--save_seconds", "nan"), ("seconds between saves must be at least 0, found nan",)),
        (("--problem", "waves"), ("--problem", "invalid choice: 'waves'")),
        (
            ("--num_initial", 5),
            ("cylinder_flow has no time, found 5 initial", "num_initial must be 0"),
        ),
        (("--variant", "ugly"), ("no variant 'ugly', expected one of good, broken, bad",)),
        (("--broken", "--variant", "bad"), ("--broken contradicts --variant bad",)),
        (("--conditions", "none"), ("no conditions 'none', expected one of corrected",)),
        (("--device", "gpu"), ("unknown device 'gpu', expected one of auto",)),
        (("--device", "xla"), ("device 'xla' is not available here",)),
        (("--dtype", "float16"), ("--dtype", "invalid choice")),
        (("--compile", "maybe"), ("--compile", "invalid choice")),
        (("--threads", 0), ("--threads must be from 1 to", "found 0")),
        (("--threads", "two"), ("--threads", "invalid int value")),
        (("two\nlines",), ("unrecognized arguments: two lines",)),
    ],
)
def test_unfit_flags_of_training(
    tmp_path: Path, flags: tuple[Any, ...], words: tuple[str, ...]
) -> None:
    train_is_refused(tmp_path / "run", *words, flags=flags)


def test_a_config_that_is_a_folder(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    calc_is_refused(model, f"expected a file at {model / 'config.json'}, found a folder")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_config_that_never_ends(model: Path, kind: str) -> None:
    """Refused without waiting for what may never come."""
    path = model / "config.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert_refused(calc(model), f"expected a file at {path}, found a pipe or a device")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--damping", -1), "damping must be a number of at least 0 or auto, found -1"),
        (("--damping", "nan"), "damping must be a number of at least 0 or auto, found nan"),
        (("--damping", "1e999"), "found inf"),
        (("--damping", "much"), "expected --damping a number or auto, found 'much'"),
        (("--rank", 0), "rank must be at least 1 or full, found 0"),
        (("--rank", -3), "rank must be at least 1 or full, found -3"),
        (("--rank", 1.5), "expected --rank a whole number or full, found '1.5'"),
        (("--recipe", "best"), "expected recipe paper or gauss-newton, found best"),
        (("--curvature", "fisher"), "expected curvature gauss-newton or hessian, found fisher"),
        (("--weighting", "none"), "expected weighting uniform or training, found none"),
        (("--scale", 1, 2, 3), "contradicts"),
        (("--scale", "nan", 1), "contradicts"),
    ],
)
def test_unfit_settings(model: Path, flags: tuple[Any, ...], words: str) -> None:
    calc_is_refused(model, words, flags=flags)


@pytest.mark.parametrize("scale", [("nan", 1), (0, 1), (-1, 1), ("inf", 1), (1,)])
def test_unfit_scales_without_a_config(model: Path, scale: tuple[Any, ...]) -> None:
    (model / "config.json").unlink()
    calc_is_refused(model, "scale", flags=("--scale", *scale))
