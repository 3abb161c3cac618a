"""Two processes that share the points: the scores of one, and errors that end both."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CALC, ROOT, Result, assert_refused, run, run_well, short_run, snapshot

import pinnfluence
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.runtime import distributed
from pinnfluence.scores.file import Scores

QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")
LANCZOS = "from pinnfluence.curvature import lanczos\nlanczos.DENSE_LIMIT = 0\n"
FEW = "from pinnfluence.curvature import gram\ngram.BLOCK_BYTES = 20_000\n"

FORK = """
import json, os
os.environ.update(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
os.environ["MASTER_PORT"] = "{port}"
children = []
for rank in (0, 1):
    child = os.fork()
    if child == 0:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
        break
    children.append(child)
else:
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    with open({codes!r}, "w") as file:
        json.dump(codes, file)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def test_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test points of all kinds: some of the reference solution's, which has all boundaries."""
    assert PROBLEM.reference is not None
    path = tmp_path_factory.mktemp("points") / "test_x.npy"
    np.save(path, PROBLEM.reference().points[::900])
    return path


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def flags(test_x: Path, folder: Path, *more: Any) -> tuple[Any, ...]:
    points = ("--test_x_path", test_x, "--batch_size", 20)
    return ("--checkpoint", short_run(), *points, "--save_path", folder, *more)


def pair(tmp_path: Path, *arguments: Any, prelude: str = "") -> tuple[list[int], Result]:
    """The exit codes of two processes that run the script together, and what they printed."""
    codes = tmp_path / "codes.json"
    fork = FORK.format(port=free_port(), codes=str(codes))
    result = run(CALC, *arguments, prelude=fork + prelude)
    return json.loads(codes.read_text()), result


def assert_same_scores(a: Path, b: Path, tolerance: float = 1e-5) -> None:
    one, other = (pinnfluence.load_scores(path) for path in (a, b))
    assert isinstance(one, Scores)
    assert isinstance(other, Scores)
    for terms in (None, *one.terms):
        for name in QUANTITIES:
            x, y = (np.asarray(scores.matrix(name, terms)) for scores in (one, other))
            assert abs(x - y).max() <= tolerance * abs(x).max(), name
    ignored = ("stationarity", "compression", "automatic_damping", "key", "damping", "leverage")
    for key in one.metadata.keys() - set(ignored):
        assert one.metadata[key] == other.metadata[key], key
    for key in ("gradient_norm", "median_point_gradient_norm", "largest_eigenvalue"):
        values = [scores.metadata["stationarity"][key] for scores in (one, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-9)
    leverages = [scores.metadata.get("leverage", {}) for scores in (one, other)]
    assert leverages[0] == pytest.approx(leverages[1], rel=1e-9)


@pytest.mark.slow
def test_torchrun(test_x: Path, tmp_path: Path) -> None:
    run_well(CALC, *flags(test_x, tmp_path / "one", "--rank", 5))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    command = [sys.executable, *torchrun, CALC, *flags(test_x, tmp_path / "two", "--rank", 5)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("wrote ") == found.stdout.count("estimate: ") == 1
    assert "Traceback" not in found.stderr
    assert_same_scores(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("recipe", "prelude"),
    [
        pytest.param(("--rank", 5), LANCZOS, id="lanczos"),
        pytest.param(("--recipe", "gauss-newton"), FEW, id="full rank"),
        pytest.param(
            ("--recipe", "gauss-newton", "--leverage"), FEW, id="leverage", marks=pytest.mark.slow
        ),
        pytest.param(
            ("--rank", 5, "--damping", "auto", "--curvature", "gauss-newton"),
            LANCZOS,
            id="low rank of gauss-newton",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--rank", "full", "--damping", "auto"),
            "",
            id="full rank of hessian",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_give_the_scores_of_one(
    test_x: Path, tmp_path: Path, recipe: tuple[Any, ...], prelude: str
) -> None:
    run_well(CALC, *flags(test_x, tmp_path / "one", *recipe), prelude=prelude)
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "two", *recipe), prelude=prelude)
    assert codes == [0, 0], result.stderr
    assert result.stdout.count("wrote ") == result.stdout.count("estimate: ") == 1
    assert_same_scores(tmp_path / "one", tmp_path / "two")


def test_more_parameters_than_residuals(test_x: Path, tmp_path: Path) -> None:
    """The form in residual space, and fewer batches than processes."""
    few = tmp_path / "few.npy"
    np.save(few, np.load(short_run() / "train_x.npy")[::10])
    recipe = ("--recipe", "gauss-newton", "--train_x_path", few, "--batch_size", 8)
    run_well(CALC, *flags(test_x, tmp_path / "one", *recipe))
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "two", *recipe))
    assert codes == [0, 0], result.stderr
    assert_same_scores(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    "recipe",
    [("--rank", 5), pytest.param(("--recipe", "gauss-newton"), marks=pytest.mark.slow)],
)
def test_stages_of_two_processes(test_x: Path, tmp_path: Path, recipe: tuple[Any, ...]) -> None:
    """Taken again by as many processes, with the same bytes; finished scores are left alone."""
    folder = tmp_path / "scores"
    command = flags(test_x, folder, *recipe)
    assert pair(tmp_path, *command)[0] == [0, 0]
    before = snapshot(folder)
    codes, result = pair(tmp_path, *command)
    assert codes == [0, 0]
    assert result.stdout.count("holds these scores already") == 1
    (folder / "influences.safetensors").unlink()
    codes, result = pair(tmp_path, *command)
    assert codes == [0, 0]
    assert result.stderr.count("as saved") == 1
    assert snapshot(folder) == before
    shutil.rmtree(folder)
    assert pair(tmp_path, *command)[0] == [0, 0]
    assert snapshot(folder) == before


def test_bad_input_is_said_once(test_x: Path, tmp_path: Path) -> None:
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "no", "--batch_size", 81))
    assert codes == [2, 2]
    assert result.stderr.count("error: ") == 1
    assert "from 1 to the 80 training points" in result.last_line


FAILS = """
if os.environ["RANK"] == "{rank}":
    from pinnfluence.errors import InputError
    from pinnfluence.influence import embeddings
    def fail(*arguments):
        {statement}
    embeddings.project = fail
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_process_ends_both(test_x: Path, tmp_path: Path, rank: int) -> None:
    prelude = FAILS.format(rank=rank, statement="raise InputError('a cat on the keyboard')")
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "no"), prelude=prelude)
    assert codes == [2, 2]
    assert result.stderr.count("error: ") == 1
    assert "error: a cat on the keyboard" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "no" / "influences.safetensors").exists()


SECOND = """
from pinnfluence.errors import InputError
from pinnfluence.influence import embeddings
from pinnfluence.runtime.distributed import _Group
followed, counted = _Group._followed, threading.Event()
def slowly(group):
    followed(group)
    counted.set()
    time.sleep(2)
def fail(*arguments):
    if os.environ["RANK"] == "1":
        _Group._followed = slowly
        counted.wait()
        time.sleep(1)  # the first process, and its store, end
    raise InputError("a cat on the keyboard")
embeddings.project = fail
"""


def test_an_error_met_while_ending_for_another_is_not_printed(test_x: Path, tmp_path: Path) -> None:
    prelude = "import threading, time\n" + SECOND
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "no"), prelude=prelude)
    assert codes == [2, 2]
    assert result.stderr.count("error: ") == 1


def test_a_killed_process_ends_the_other(test_x: Path, tmp_path: Path) -> None:
    prelude = FAILS.format(rank=1, statement="os.kill(os.getpid(), 9)")
    prelude += "from pinnfluence.runtime import distributed\ndistributed.SECONDS_TO_FOLLOW = 0.5\n"
    codes, result = pair(tmp_path, *flags(test_x, tmp_path / "no"), prelude=prelude)
    assert codes == [2, -9]
    assert re.search("^error: lost contact with another process", result.stderr, re.MULTILINE)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "two"}, "expected WORLD_SIZE to be a whole number of processes"),
        ({"WORLD_SIZE": ""}, "expected WORLD_SIZE to be a whole number of processes"),
        ({"WORLD_SIZE": "2"}, "but RANK, MASTER_ADDR, MASTER_PORT of torchrun are missing"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "but MASTER_ADDR, MASTER_PORT of torchrun are missing"),
    ],
)
def test_an_environment_that_torchrun_does_not_make(
    test_x: Path, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    prelude = f"import os\nos.environ.update({environment})"
    assert_refused(run(CALC, *flags(test_x, tmp_path / "scores"), prelude=prelude), words)


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2, 3, 7):
        for n in (0, 1, 2, 6, 20):
            parts: list[int] = []
            for rank in range(size):
                monkeypatch.setattr(distributed, "_rank", rank)
                monkeypatch.setattr(distributed, "_size", size)
                part = distributed.share(range(n))
                assert abs(len(part) - n / size) < 1
                parts += part
            assert parts == list(range(n))


def test_a_single_process_has_nobody_to_ask() -> None:
    assert (distributed.world_size(), distributed.local_size()) == (1, 1)
    assert distributed.is_first()
    x = torch.arange(3.0)
    assert distributed.sum_over_ranks(x) is x
    assert distributed.gather_rows(x) is x
    assert distributed.from_first("a") == "a"
    assert distributed.on_first(lambda target: target + 1, 2, "anything") == 3
