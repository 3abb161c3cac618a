"""Checkpoints that cannot be used: one line on stderr, exit code 2, nothing half-written."""

import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import CALC, assert_refused, run
from refusals import calc, calc_is_refused
from torch import Tensor, nn

import pinnfluence
from pinnfluence.errors import InputError
from pinnfluence.field.network import MLP
from pinnfluence.runtime.memory import peak_bytes


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


def spoil_weights(model: Path, change: Callable[[dict[str, Tensor]], dict[str, Any]]) -> None:
    path = model / "lbfgs-130.pt"
    content = torch.load(path, weights_only=True)
    content["model_state_dict"] = change(content["model_state_dict"])
    torch.save(content, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.to(torch.complex64), "linears.0.bias: expected a dense matrix or vector"),
        (lambda w: (1000 * w).int(), "torch.int32"),
        (lambda w: w.to_sparse(), "torch.sparse_coo"),
        (lambda w: w[..., None], "linears.0.bias: expected a dense matrix or vector of floats"),
        (lambda w: w.to("meta"), "dense matrix or vector of floats"),
        (lambda w: w.tolist(), "expected linears.0.weight, linears.0.bias"),
        (lambda w: w.repeat(*([2] * w.ndim)), "maps 4 inputs to 6 outputs, expected 2 to 3"),
    ],
    ids=["complex", "whole numbers", "sparse", "an axis more", "meta", "lists", "twice as wide"],
)
def test_unfit_weights(model: Path, change: Any, words: str) -> None:
    spoil_weights(model, lambda weights: {name: change(w) for name, w in sorted(weights.items())})
    calc_is_refused(model, "lbfgs-130.pt", words)


def test_layers_that_do_not_fit_each_other(model: Path) -> None:
    spoil_weights(model, lambda weights: weights | {"linears.1.weight": torch.zeros(6, 5)})
    calc_is_refused(model, "layer 1 of the checkpoint does not fit the layer before it or its bias")


def test_weights_of_parallel_training(model: Path) -> None:
    spoil_weights(model, lambda weights: {f"module.{name}": w for name, w in weights.items()})
    calc_is_refused(model, "holds module.linears.0.bias", "expected linears.0.weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(model: Path, dtype: torch.dtype) -> None:
    spoil_weights(model, lambda weights: {name: w.to(dtype) for name, w in weights.items()})
    result = calc(model)
    assert result.code == 0, result.stderr


def test_a_whole_module(model: Path) -> None:
    torch.save(nn.Linear(2, 3), model / "lbfgs-130.pt")
    calc_is_refused(model, "holds code, not only weights")


@pytest.mark.parametrize("name", ["train_x.npy", "config.json", "history.csv", "history.png"])
def test_another_file_of_the_run_as_checkpoint(model: Path, name: str) -> None:
    flags = ("--checkpoint", model / name)
    calc_is_refused(model, f"{name} is truncated or not a PyTorch checkpoint", flags=flags)


def test_weights_of_another_library(model: Path) -> None:
    path = model / "lbfgs-130.pt"
    safetensors.numpy.save_file({"linears.0.weight": np.zeros((6, 2), np.float32)}, path)
    calc_is_refused(model, "lbfgs-130.pt is truncated or not a PyTorch checkpoint")


def test_several_checkpoints_of_other_names(model: Path) -> None:
    for name in ("adam-80", "lbfgs-130"):
        (model / f"{name}.pt").rename(model / f"my-{name}.pt")
    calc_is_refused(model, "but my-adam-80.pt, my-lbfgs-130.pt; give the file instead")


def test_of_several_checkpoints_the_last_is_taken(model: Path) -> None:
    shutil.copy(model / "lbfgs-130.pt", model / "lbfgs-99.pt")
    assert f"{model / 'lbfgs-130.pt'}: " in calc(model, "--dry-run").stdout


def test_a_nested_tensor(model: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # that nested tensors are a prototype
        nested = torch.nested.as_nested_tensor([torch.zeros(2), torch.zeros(3)])
    spoil_weights(model, lambda weights: weights | {"linears.0.weight": nested})
    calc_is_refused(
        model, "linears.0.weight: expected a dense matrix or vector, found a nested tensor"
    )


def test_a_weight_of_more_numbers_than_the_file_holds(model: Path) -> None:
    """A terabyte, all of whose numbers are one."""
    wide = torch.zeros(1).expand(500_000, 500_000)
    spoil_weights(model, lambda weights: weights | {"linears.1.weight": wide})
    calc_is_refused(model, "linears.1.weight has more numbers", "than the file holds")


def bomb(path: Path, names: list[str]) -> None:
    """An archive of a few megabytes that unpacks to two gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            with archive.open(name, "w") as member:
                for _ in range(128):
                    member.write(bytes(2**20 * 16 // len(names)))


def claim(path: Path, names: list[str]) -> None:
    """An archive whose directory says that it does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(10**6))
            archive.getinfo(name).file_size = 2**31 // len(names)


archives = pytest.mark.parametrize("make", [claim, pytest.param(bomb, marks=pytest.mark.slow)])
"""A real one takes ten seconds to pack; it is refused for what its directory says, too."""


@archives
def test_a_checkpoint_that_unpacks_to_gigabytes(model: Path, make) -> None:
    path = model / "lbfgs-130.pt"
    make(path, ["archive/data.pkl", "archive/data/0"])
    before = peak_bytes()
    with pytest.raises(InputError, match=r"MB would unpack to 2.15 GB, which no file of numbers"):
        pinnfluence.load_model(model)
    assert peak_bytes() - before < 300e6
    calc_is_refused(model, f"{path}: ", "MB would unpack to 2.15 GB")


@archives
def test_scores_that_unpack_to_gigabytes(tmp_path: Path, make) -> None:
    make(tmp_path / "influence_arrs.npz", ["output_dim_0.npy", "train_x.npy"])
    before = peak_bytes()
    with pytest.raises(InputError, match=r"MB would unpack to 2.15 GB"):
        pinnfluence.load_scores(tmp_path / "influence_arrs.npz")
    assert peak_bytes() - before < 300e6
