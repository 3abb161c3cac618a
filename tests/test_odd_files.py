"""Files that a user may have by mistake, given to calc_influences.py and ``load_scores``."""

import hashlib
import io
import json
import os
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import CALC, Result, assert_refused, run, short_run, snapshot
from torch import Tensor, nn

import pinnfluence
from pinnfluence.errors import InputError
from pinnfluence.runtime.memory import peak_bytes
from pinnfluence.scores import tensor_file
from pinnfluence.storage.lock import LOCK, held


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A run folder that a test may spoil."""
    shutil.copytree(short_run(), tmp_path / "run")
    return tmp_path / "run"


def calc(model: Path, *flags: Any) -> Result:
    given = {"--checkpoint": model, "--test_x_path": model / "train_x.npy"}
    return run(CALC, *(x for f, v in given.items() if f not in flags for x in (f, v)), *flags)


def is_refused(model: Path, *words: str, flags: tuple[Any, ...] = ()) -> None:
    """In one line, with exit code 2, and nothing is written."""
    before = snapshot(model.parent)
    assert_refused(calc(model, *flags), *words)
    assert snapshot(model.parent) == before


# ---- checkpoints


def spoil(model: Path, change: Callable[[dict[str, Tensor]], dict[str, Any]]) -> None:
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
    spoil(model, lambda weights: {name: change(w) for name, w in sorted(weights.items())})
    is_refused(model, "lbfgs-130.pt", words)


def test_layers_that_do_not_fit_each_other(model: Path) -> None:
    spoil(model, lambda weights: weights | {"linears.1.weight": torch.zeros(6, 5)})
    is_refused(model, "layer 1 of the checkpoint does not fit the layer before it or its bias")


def test_weights_of_parallel_training(model: Path) -> None:
    spoil(model, lambda weights: {f"module.{name}": w for name, w in weights.items()})
    is_refused(model, "holds module.linears.0.bias", "expected linears.0.weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(model: Path, dtype: torch.dtype) -> None:
    spoil(model, lambda weights: {name: w.to(dtype) for name, w in weights.items()})
    result = calc(model)
    assert result.code == 0, result.stderr


def test_a_whole_module(model: Path) -> None:
    torch.save(nn.Linear(2, 3), model / "lbfgs-130.pt")
    is_refused(model, "holds code, not only weights")


@pytest.mark.parametrize("name", ["train_x.npy", "config.json", "history.csv", "history.png"])
def test_another_file_of_the_run_as_checkpoint(model: Path, name: str) -> None:
    flags = ("--checkpoint", model / name)
    is_refused(model, f"{name} is truncated or not a PyTorch checkpoint", flags=flags)


def test_weights_of_another_library(model: Path) -> None:
    path = model / "lbfgs-130.pt"
    safetensors.numpy.save_file({"linears.0.weight": np.zeros((6, 2), np.float32)}, path)
    is_refused(model, "lbfgs-130.pt is truncated or not a PyTorch checkpoint")


def test_several_checkpoints_of_other_names(model: Path) -> None:
    for name in ("adam-80", "lbfgs-130"):
        (model / f"{name}.pt").rename(model / f"my-{name}.pt")
    is_refused(model, "but my-adam-80.pt, my-lbfgs-130.pt; give the file instead")


def test_of_several_checkpoints_the_last_is_taken(model: Path) -> None:
    shutil.copy(model / "lbfgs-130.pt", model / "lbfgs-99.pt")
    assert f"{model / 'lbfgs-130.pt'}: " in calc(model, "--dry-run").stdout


def test_a_config_that_is_a_folder(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").mkdir()
    is_refused(model, f"expected a file at {model / 'config.json'}, found a folder")


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


def test_a_nested_tensor(model: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # that nested tensors are a prototype
        nested = torch.nested.as_nested_tensor([torch.zeros(2), torch.zeros(3)])
    spoil(model, lambda weights: weights | {"linears.0.weight": nested})
    is_refused(model, "linears.0.weight: expected a dense matrix or vector, found a nested tensor")


def test_a_weight_of_more_numbers_than_the_file_holds(model: Path) -> None:
    """A terabyte, all of whose numbers are one."""
    wide = torch.zeros(1).expand(500_000, 500_000)
    spoil(model, lambda weights: weights | {"linears.1.weight": wide})
    is_refused(model, "linears.1.weight has more numbers", "than the file holds")


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
    is_refused(model, f"{path}: ", "MB would unpack to 2.15 GB")


@archives
def test_scores_that_unpack_to_gigabytes(tmp_path: Path, make) -> None:
    make(tmp_path / "influence_arrs.npz", ["output_dim_0.npy", "train_x.npy"])
    before = peak_bytes()
    with pytest.raises(InputError, match=r"MB would unpack to 2.15 GB"):
        pinnfluence.load_scores(tmp_path / "influence_arrs.npz")
    assert peak_bytes() - before < 300e6


# ---- points


def test_masked_points(model: Path) -> None:
    """Their hidden numbers were taken as points."""
    points = np.ma.masked_array(np.load(model / "train_x.npy"))
    pinnfluence.load_model(model, points)
    points[3] = np.ma.masked
    with pytest.raises(InputError, match="training points are masked; give the others"):
        pinnfluence.load_model(model, points)
    trained = pinnfluence.load_model(model)
    for use in (trained.predict, trained.loss_density):
        with pytest.raises(InputError, match="masked"):
            use(points)
    with pytest.raises(InputError, match="masked"):
        pinnfluence.Influence(trained.pinn, points)


def claims(shape: str) -> bytes:
    """A file whose header claims another shape than its 16 numbers have."""
    file = io.BytesIO()
    np.save(file, np.zeros((8, 2), np.float32))
    header = file.getvalue()
    return header.replace(b"(8, 2), }" + b" " * (len(shape) - 6), f"{shape}, }}".encode())


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((5, 2), np.complex64), "expected float32 or float64, found complex64"),
        (np.zeros((5, 2), np.float16), "expected float32 or float64, found float16"),
        (np.zeros((5, 2), bool), "expected float32 or float64, found bool"),
        (np.zeros((5, 2), "U3"), "expected float32 or float64, found <U3"),
        (np.zeros(5, [("x", "f4"), ("y", "f4")]), "of shape [n, 2], found (5,)"),
        (np.float32(1.5), "of shape [n, 2], found ()"),
        (np.zeros((0, 2), np.float32), "expected at least one"),
        (claims("(99999999999999, 2)"), "not a readable .npy file"),
        (claims("(-8, 2)"), "not a readable .npy file"),
        (claims("(8, -2)"), "not a readable .npy file"),
        (b"x,y\n0.1,0.2\n", "not a readable .npy file"),
    ],
)
def test_unfit_points(model: Path, side: str, content: Any, words: str) -> None:
    path = model.parent / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    is_refused(model, str(path), words, flags=(f"--{side}_x_path", path))


def test_an_archive_of_points(model: Path) -> None:
    path = model.parent / "x.npz"
    np.savez(path, np.zeros((5, 2), np.float32))
    is_refused(model, f"{path}: expected test points", "an archive", flags=("--test_x_path", path))


def test_points_that_are_a_folder_or_a_checkpoint(model: Path) -> None:
    is_refused(model, f"no test points at {model}", flags=("--test_x_path", model))
    path = model / "lbfgs-130.pt"
    is_refused(model, f"{path}: expected test points", flags=("--test_x_path", path))


# ---- settings


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
    is_refused(model, words, flags=flags)


@pytest.mark.parametrize("scale", [("nan", 1), (0, 1), (-1, 1), ("inf", 1), (1,)])
def test_unfit_scales_without_a_config(model: Path, scale: tuple[Any, ...]) -> None:
    (model / "config.json").unlink()
    is_refused(model, "scale", flags=("--scale", *scale))


# ---- what is there already


def made(model: Path, folder: Path) -> None:
    result = calc(model, "--save_path", folder)
    assert result.code == 0, result.stderr


def test_a_broken_score_file_is_made_again(model: Path) -> None:
    folder = model.parent / "scores"
    made(model, folder)
    path = folder / "influences.safetensors"
    good = path.read_bytes()
    for damaged in (b"", good[:7], good[:500], good[: len(good) // 2], b"\xff" * 50):
        path.write_bytes(damaged)
        made(model, folder)
        assert path.read_bytes() == good


@pytest.mark.parametrize("name", ["influences.safetensors", "influence_arrs.npz"])
def test_a_folder_in_the_place_of_a_score_file(model: Path, name: str) -> None:
    """Found before the work, not after it."""
    folder = model.parent / "scores"
    (folder / name).mkdir(parents=True)
    result = calc(model, "--save_path", folder, "--dense")
    assert_refused(result, f"expected a file at {folder / name}, found a folder")
    assert "eigenpairs" not in result.stderr
    assert list(folder.iterdir()) == [folder / name]


def test_the_checkpoint_is_exchanged_meanwhile(model: Path, tmp_path: Path) -> None:
    """The scores name the file that they were made from."""
    path, other = model / "lbfgs-130.pt", model / "adam-80.pt"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    prelude = f"""
import shutil
from pinnfluence.influence import Influence
compute = Influence.influence
def exchanged(*arguments):
    shutil.copy({str(other)!r}, {str(path)!r})
    return compute(*arguments)
Influence.influence = exchanged
"""
    flags = ("--checkpoint", model, "--test_x_path", model / "train_x.npy")
    result = run(CALC, *flags, "--save_path", tmp_path / "scores", prelude=prelude)
    assert result.code == 0, result.stderr
    scores = pinnfluence.load_scores(tmp_path / "scores")
    assert hashlib.sha256(path.read_bytes()).hexdigest() != expected
    assert isinstance(scores, pinnfluence.Scores)
    assert scores.metadata["checkpoint"]["sha256"] == expected


def test_another_process_that_writes_into_the_same_folder(model: Path, tmp_path: Path) -> None:
    with held(tmp_path / "scores", "influence scores"):
        result = calc(model, "--save_path", tmp_path / "scores")
        assert_refused(result, f"{tmp_path / 'scores'} is in use by process {os.getpid()} on")
        assert [path.name for path in (tmp_path / "scores").iterdir()] == [LOCK]
    made(model, tmp_path / "scores")


def test_the_folder_is_removed_meanwhile(model: Path, tmp_path: Path) -> None:
    """It is not made again with a part of the files in it."""
    folder = tmp_path / "scores"
    prelude = f"""
import shutil
from pinnfluence.influence import Influence
compute = Influence.influence
def removed(*arguments):
    scores = compute(*arguments)
    shutil.rmtree({str(folder)!r})
    return scores
Influence.influence = removed
"""
    flags = ("--checkpoint", model, "--test_x_path", model / "train_x.npy")
    result = run(CALC, *flags, "--save_path", folder, prelude=prelude)
    assert_refused(result, f"{folder} was removed or moved while this process worked in it")
    assert not folder.exists()


def test_stages_that_are_a_file(model: Path) -> None:
    folder = model.parent / "scores"
    folder.mkdir()
    (folder / ".stages").write_text("mine")
    result = calc(model, "--save_path", folder)
    assert result.code == 0, result.stderr
    assert (folder / ".stages").read_text() == "mine"
    assert result.stderr.count("warning: cannot save the stages in") == 1


# ---- score files


def test_headers_of_score_files(model: Path, tmp_path: Path) -> None:
    """Whatever the header says: one line, or scores."""
    made(model, tmp_path / "scores")
    good = (tmp_path / "scores" / "influences.safetensors").read_bytes()
    tensors = safetensors.numpy.load(good)
    length = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["pinnfluence"])
    metadata.pop("sha256")
    odd: list[Any] = [None, 5, "x", [], {}, [5], {"a": 1}]
    changes = [metadata | {key: value} for key in ("terms", "test_quantities") for value in odd]
    changes += [metadata | {"groups": value} for value in odd]
    changes += [{k: v for k, v in metadata.items() if k != key} for key in metadata]
    path = tmp_path / "odd.safetensors"
    refused = []
    for changed in changes:
        tensor_file.write(path, tensors, changed)
        try:
            scores = pinnfluence.load_scores(path)
        except ValueError as error:
            refused.append(str(error))
        else:
            for quantity in scores:
                assert np.isfinite(scores[quantity][0]).all()
    assert len(refused) >= 15
    assert all(str(path) in line and "\n" not in line for line in refused)
