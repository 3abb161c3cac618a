"""Folders that cannot be written, that hold something else, or that change meanwhile."""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers import CALC, SMALL, TRAIN, assert_refused, run, snapshot
from refusals import calc, calc_is_refused, train_is_refused

import pinnfluence
from pinnfluence.scores import tensor_file
from pinnfluence.storage.lock import LOCK, held


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
