"""Bad input to the scripts: one line on stderr, exit code 2, no traceback, nothing half-written."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CALC, SMALL, TRAIN, Result, assert_refused, run, short_run, snapshot

from pinnfluence import load_model
from pinnfluence.field.network import MLP
from pinnfluence.problems import names
from pinnfluence.runtime.script import Parser, run_script


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A run folder that a test may spoil."""
    shutil.copytree(short_run(), tmp_path / "run")
    return tmp_path / "run"


def calc_is_refused(model: Path, *words: str, flags: tuple[Any, ...] = (), **settings: Any) -> None:
    """calc_influences.py refuses, for the reason the words give, and leaves all as it was."""
    before = snapshot(model.parent)
    test_x = () if "--test_x_path" in flags else ("--test_x_path", model / "train_x.npy")
    checkpoint = () if "--checkpoint" in flags else ("--checkpoint", model)
    assert_refused(run(CALC, *checkpoint, *test_x, *flags, **settings), *words)
    assert snapshot(model.parent) == before


def train_is_refused(folder: Path, *words: str, flags: tuple[Any, ...] = ()) -> None:
    """train.py refuses, for the reason the words give, and writes nothing."""
    before = snapshot(folder.parent)
    assert_refused(run(TRAIN, *SMALL, "--save_path", folder, *flags), *words)
    assert snapshot(folder.parent) == before


# ---- checkpoints


def test_missing_checkpoint(model: Path) -> None:
    path = model / "none.pt"
    calc_is_refused(model, f"no checkpoint at {path}", flags=("--checkpoint", path))


def test_no_checkpoint_named(model: Path) -> None:
    assert_refused(run(CALC), "--checkpoint")


def test_folder_without_checkpoint(model: Path) -> None:
    for path in model.glob("*-*.pt"):
        path.unlink()
    calc_is_refused(model, "no checkpoint adam-, lbfgs- or lm-<step>.pt", "train one first")


def test_folder_of_several_runs(model: Path) -> None:
    shutil.copytree(model, model.with_name("other"))
    flags = ("--checkpoint", model.parent)
    calc_is_refused(model, "runs in its folders other, run; give one of them", flags=flags)


@pytest.mark.parametrize("length", [0, 1, 100, 1000, -1])
def test_truncated_checkpoint(model: Path, length: int) -> None:
    path = model / "lbfgs-130.pt"
    path.write_bytes(path.read_bytes()[:length])
    calc_is_refused(model, "lbfgs-130.pt is truncated or not a PyTorch checkpoint")


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)


def test_checkpoint_with_code(model: Path, tmp_path: Path) -> None:
    torch.save({"model_state_dict": RunsCode(tmp_path / "ran")}, model / "lbfgs-130.pt")
    calc_is_refused(model, "holds code, not only weights; it was not loaded")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(3), "has no model_state_dict"),
        (MLP((2, 6, 6, 3), "gelu").state_dict(), "has no model_state_dict"),
        ({"state_dict": MLP((2, 6, 6, 3), "gelu").state_dict()}, "has no model_state_dict"),
        ({"model_state_dict": {"net.0.weight": torch.zeros(3, 2)}}, "holds net.0.weight"),
        (
            {"model_state_dict": MLP((3, 6, 3), "gelu").state_dict()},
            "maps 3 inputs to 3 outputs, expected 2 to 3",
        ),
    ],
)
def test_checkpoint_of_another_format(model: Path, content: Any, words: str) -> None:
    torch.save(content, model / "lbfgs-130.pt")
    calc_is_refused(model, words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_weights(model: Path, value: float) -> None:
    content = torch.load(model / "lbfgs-130.pt", weights_only=True)
    content["model_state_dict"]["linears.1.bias"][2] = value
    torch.save(content, model / "lbfgs-130.pt")
    calc_is_refused(model, "linears.1.bias has NaN or infinite values")


def test_weights_that_overflow(model: Path) -> None:
    content = torch.load(model / "lbfgs-130.pt", weights_only=True)
    for weight in content["model_state_dict"].values():
        weight.fill_(3e38)
    torch.save(content, model / "lbfgs-130.pt")
    for dtype in ("float32", "float64"):
        calc_is_refused(model, "overflows", flags=("--dtype", dtype))


@pytest.mark.parametrize("value", [1e19, 1e38, 1e200])
def test_scores_that_overflow_are_refused_without_warnings_of_numpy(
    model: Path, value: float
) -> None:
    content = torch.load(model / "lbfgs-130.pt", weights_only=True)
    weights = content["model_state_dict"]
    content["model_state_dict"] = {
        k: torch.full_like(w.double(), value) for k, w in weights.items()
    }
    torch.save(content, model / "lbfgs-130.pt")
    flags = ("--checkpoint", model, "--test_x_path", model / "train_x.npy")
    for recipe in ("paper", "gauss-newton"):
        assert_refused(run(CALC, *flags, "--recipe", recipe), "")
    assert not list(model.parent.glob("*/*.safetensors"))


def test_weights_of_zeros(model: Path) -> None:
    """The flow at rest has a curvature; this must end well or say why not."""
    content = torch.load(model / "lbfgs-130.pt", weights_only=True)
    for weight in content["model_state_dict"].values():
        weight.zero_()
    torch.save(content, model / "lbfgs-130.pt")
    result = run(CALC, "--checkpoint", model, "--test_x_path", model / "train_x.npy")
    assert result.code == 0, result.stderr


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


# ---- config.json


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


# ---- points


def spoil(points: np.ndarray, row: int, *values: float) -> np.ndarray:
    points = points.copy()
    points[row] = values
    return points


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: spoil(x, 7, np.nan, 0), ("points are NaN or infinite, the first is row 7",)),
        (lambda x: spoil(x, 0, np.inf, 0), ("points are NaN or infinite, the first is row 0",)),
        (lambda x: x[:, 0], ("of shape [n, 2], found (80,)",)),
        (lambda x: np.c_[x, x[:, 0]], ("of shape [n, 2], found (80, 3)",)),
        (lambda x: np.zeros((5, 2), int), ("expected float32 or float64, found int64",)),
        (lambda x: x.astype(object), ("not a readable .npy file of plain numbers",)),
        (lambda x: x[:0], ("no ", " points, expected at least one")),
        (lambda x: x - 1, ("of 80 points lie outside the domain, the first is row 0",)),
        (lambda x: spoil(x, 3, 0.2, 0.2), ("1 of 80", "row 3 (0.2, 0.2), 0.05 away")),
        (lambda x: spoil(x, 4, 2.2 + 1e-5, 0.2), ("1 of 80", "row 4 (2.20001, 0.2), 1e-05 away")),
        (lambda x: spoil(x.astype(float), 5, 1e300, 0.2), ("1 of 80", "row 5 (inf, 0.2)")),
    ],
)
def test_bad_points(model: Path, side: str, change: Any, words: tuple[str, ...]) -> None:
    path = model.parent / "x.npy"
    np.save(path, change(np.load(model / "train_x.npy")), allow_pickle=True)
    calc_is_refused(model, str(path), *words, flags=(f"--{side}_x_path", path))


def test_repeated_points_are_told(model: Path) -> None:
    points = np.load(model / "train_x.npy")
    for n_more, told in ((3, False), (5, True)):  # one is there twice already
        np.save(model / "train_x.npy", np.concatenate([points, points[:n_more]]))
        flags = ("--test_x_path", model / "train_x.npy", "--dry-run")
        result = run(CALC, "--checkpoint", model, *flags)
        assert result.code == 0
        assert ("training points are repeated" in result.stderr) == told, result.stderr
    assert "warning: 6 of 85 training points" in result.stderr


def test_points_a_rounding_outside_are_inside(model: Path) -> None:
    points = spoil(np.load(model / "train_x.npy"), 4, float(np.float32(2.2)) + 5e-7, 0.2)
    np.save(model.parent / "x.npy", points)
    flags = ("--test_x_path", model.parent / "x.npy", "--dry-run")
    assert run(CALC, "--checkpoint", model, *flags).code == 0


def test_missing_training_points(model: Path) -> None:
    (model / "train_x.npy").unlink()
    flags = ("--test_x_path", "/none.npy")
    calc_is_refused(model, f"no training points at {model / 'train_x.npy'}", flags=flags)


@pytest.mark.parametrize("length", [0, 5, 50, 200, -1])
def test_truncated_points(model: Path, length: int) -> None:
    path = model / "train_x.npy"
    path.write_bytes(path.read_bytes()[:length])
    flags = ("--test_x_path", "/none.npy")
    calc_is_refused(model, "train_x.npy is not a readable .npy file", flags=flags)


# ---- places that cannot be written


@pytest.mark.parametrize("target", ["file", "file/below", "file/far/below"])
def test_target_that_is_a_file(model: Path, target: str) -> None:
    (model.parent / "file").touch()
    words = (f"cannot write into {model.parent / target}", "file is a file, expected a folder")
    calc_is_refused(model, *words, flags=("--save_path", model.parent / target))
    train_is_refused(model.parent / target, *words)


@pytest.mark.parametrize("script", [CALC, TRAIN])
def test_target_without_the_right_to_write(model: Path, script: Path) -> None:
    prelude = "import os\nos.access = lambda *arguments: False\n"
    folder = model.parent / "new"
    flags: tuple[Any, ...] = ("--checkpoint", model, "--test_x_path", model / "train_x.npy")
    result = run(
        script, *(SMALL if script == TRAIN else flags), *("--save_path", folder), prelude=prelude
    )
    assert_refused(result, f"cannot write into {folder}: {model.parent} is not writable")
    assert not folder.exists()


def test_target_with_an_impossible_name(model: Path) -> None:
    name = "n" * 300
    calc_is_refused(model, "File name too long", flags=("--save_path", model.parent / name))
    train_is_refused(model.parent / name, "File name too long")


FULL_DISK = """
import errno, os
def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.fsync = full
"""


def test_full_disk(model: Path) -> None:
    where = model.parent / "run_influences"
    calc_is_refused(model, "No space left on device", str(where), prelude=FULL_DISK)


def test_full_disk_in_training(tmp_path: Path) -> None:
    result = run(TRAIN, *SMALL, "--save_path", tmp_path / "run", prelude=FULL_DISK)
    assert_refused(result, "No space left on device", str(tmp_path / "run"))
    assert snapshot(tmp_path) == {}


def test_full_disk_keeps_the_last_state_of_a_training(model: Path) -> None:
    state = torch.load(model / "state.pt", weights_only=True)
    rows = [row for row in state["state"]["rows"] if row[0] <= 120]
    state["state"] |= {"phase": "lbfgs", "step": 120, "begin": 80, "rows": rows}
    torch.save(state, model / "state.pt")
    for path in model.glob("lbfgs-*.pt"):
        path.unlink()
    before = snapshot(model)
    flags = ("--n_iterations", 80, "--n_iterations_lbfgs", 50, "--save_path", model)
    result = run(TRAIN, *SMALL, *flags, prelude=FULL_DISK)
    assert_refused(result, "No space left on device", str(model))
    assert snapshot(model) == before


# ---- train.py


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


# ---- how errors are told


def end_of(main: Any, capsys: pytest.CaptureFixture[str]) -> Result:
    with pytest.raises(SystemExit) as end:
        run_script(main)
    assert isinstance(end.value.code, int)
    return Result(end.value.code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (FileNotFoundError(2, "No such file", "a/b"), "error: No such file (a/b)"),
        (OSError("odd"), "error: odd"),
        (MemoryError(), "error: not enough memory; use fewer points"),
        (torch.OutOfMemoryError("CUDA out of memory."), "error: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: not enough memory"),
    ],
)
def test_errors_of_the_system_are_one_line(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    result = end_of(main, capsys)
    assert_refused(result, line)


def test_faults_of_the_program_keep_their_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        run_script(main)


def test_an_error_of_the_parser_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        Parser(prog="script.py").parse_args(["--nothing"])

    result = end_of(main, capsys)
    assert_refused(result, "unrecognized arguments: --nothing (see script.py --help)")


def test_a_path_that_is_not_utf8_is_printed(model: Path) -> None:
    folder = model.with_name("run-\udcff")
    model.rename(folder)
    flags = ("--checkpoint", folder, "--test_x_path", folder / "train_x.npy", "--dry-run")
    assert run(CALC, *flags).code == 0


def test_warnings_come_without_the_line_of_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with pytest.raises(SystemExit):
        run_script(lambda: None)
    assert warnings.formatwarning("look here", UserWarning, "a.py", 1) == "warning: look here\n"
    assert "a.py:1" in warnings.formatwarning("look here", DeprecationWarning, "a.py", 1)
