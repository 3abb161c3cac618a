"""calc_influences.py: what it costs, and what is left where it is interrupted."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from calc_runs import calc, some_reference_points, written
from helpers import (
    CALC,
    assert_refused,
    snapshot,
    start,
)

import pinnfluence
from pinnfluence.errors import InputError
from pinnfluence.influence import estimate
from pinnfluence.storage.files import check_target


@pytest.fixture(scope="module")
def test_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_reference_points(tmp_path_factory.mktemp("points"))


def test_dry_run_writes_nothing(model: Path, test_x: Path) -> None:
    before = snapshot(model.parent)
    result = calc(model, test_x, "--dense", "--dry-run")
    assert re.search(
        r"^estimate: \d+ s, \d+\.\d GB of memory, \d+\.\d\d GB on disk$",
        result.stdout,
        re.MULTILINE,
    )
    assert "wrote" not in result.stdout
    assert snapshot(model.parent) == before
    assert not (model.parent / "run_influences").exists()


@pytest.mark.parametrize("dense", [False, True])
def test_the_estimate_of_the_file_sizes_is_close(
    model: Path, test_x: Path, tmp_path: Path, dense: bool
) -> None:
    trained = pinnfluence.load_model(model)
    points = np.load(test_x)
    influence = pinnfluence.Influence(trained.pinn, trained.train_x, rank=8)
    expected = estimate.cost(influence, points, dense).disk_bytes
    flags = ("--rank", 8, *(["--dense"] if dense else []))
    calc(model, test_x, *flags, "--save_path", tmp_path / "scores")
    written = sum(map(len, snapshot(tmp_path / "scores").values()))
    assert written <= expected < 1.1 * written + 20_000


def test_the_estimate_of_the_time_does_not_grow_for_few_test_points(
    model: Path, test_x: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured on a whole batch, whatever the number of test points."""
    trained = pinnfluence.load_model(model)
    influence = pinnfluence.Influence(trained.pinn, trained.train_x)
    monkeypatch.setattr(estimate, "_seconds", lambda function: 1.0)
    one, many = (estimate.cost(influence, np.load(test_x)[:n], False).seconds for n in (1, 20))
    assert one < many


DISK_OF = """
import collections, shutil
usage = collections.namedtuple("usage", "total used free")
shutil.disk_usage = lambda path: usage(10**12, 0, {free})
"""


def test_dense_is_refused_where_the_disk_cannot_hold_it(
    model: Path, test_x: Path, tmp_path: Path
) -> None:
    folder, flags = tmp_path / "scores", ("--save_path", tmp_path / "scores")
    small_disk = DISK_OF.format(free=250_000)
    result = calc(model, test_x, "--dense", *flags, well=False, prelude=small_disk)
    assert_refused(result, "GB are to be written", str(folder), "0.00025 GB free", "--save_path")
    assert "eigenpairs" not in result.stderr  # before any work
    assert not folder.exists()
    calc(model, test_x, "--dense", *flags, prelude=DISK_OF.format(free=10**9))


INTERRUPTED = {
    "score file": """
import os, signal
from pinnfluence.scores import tensor_file
layout = tensor_file._layout
def half(*arguments):
    names, header = layout(*arguments)
    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)  # when the header is written
        yield from names
    return interrupted(), header
tensor_file._layout = half
""",
    "dense scores": """
import os, signal
from pinnfluence.scores import dense
from pinnfluence.storage import files
def half(path, *arguments):
    with files.atomic_writer(path) as stream:
        stream.write(b"half of it")
        stream.flush()
        os.kill(os.getpid(), signal.SIGINT)
dense.write_npz = half
""",
}
"""What is interrupted while it writes."""


def test_an_interruption_while_writing_leaves_nothing(model: Path, test_x: Path) -> None:
    result = calc(model, test_x, "--dense", well=False, prelude=INTERRUPTED["score file"])
    assert result.code == 130
    assert written(model.parent / "run_influences") == {}


def test_an_interruption_while_writing_keeps_what_was_there(model: Path, test_x: Path) -> None:
    calc(model, test_x, "--dense")
    before = written(model.parent)
    for prelude in INTERRUPTED.values():
        flags = ("--dense", "--restart")
        assert calc(model, test_x, *flags, well=False, prelude=prelude).code == 130
        assert written(model.parent) == before


FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.mark.parametrize("limit", [5_000, 150_000])
def test_a_full_disk_leaves_nothing_half_written(model: Path, test_x: Path, limit: int) -> None:
    calc(model, test_x, "--dense", "--save_path", model.parent / "good")
    good = written(model.parent / "good")
    prelude = FULL_DISK.format(limit=limit)
    folder = model.parent / "scores"
    # stdout is a file in these tests, so that the limit would hold for it, too
    prelude += "import os\nos.dup2(os.open(os.devnull, os.O_WRONLY), 1)\n"
    result = calc(model, test_x, "--dense", "--save_path", folder, well=False, prelude=prelude)
    assert result.code == (0 if limit > max(map(len, good.values())) else 2)
    assert all(good[name] == content for name, content in written(folder).items())


def test_the_free_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    check_target(tmp_path / "not" / "yet" / "there", 1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="broken link"):
        check_target(tmp_path / "link" / "scores")


SLOW = """
import time
from pinnfluence.curvature.operators import Hessian
product = Hessian.matvec
def slow(self, vector):
    time.sleep(0.05)
    return product(self, vector)
Hessian.matvec = slow
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(model: Path, test_x: Path, number: int) -> None:
    before = snapshot(model.parent)
    prelude = SLOW + (
        "from pathlib import Path\n"
        "from pinnfluence.influence import estimate\n"
        "cost = estimate.cost\n"
        "def tell(*arguments):\n"
        f"    Path({str(test_x.with_name('begun'))!r}).touch()\n"
        "    return cost(*arguments)\n"
        "estimate.cost = tell\n"
    )
    flags = ("--checkpoint", model, "--test_x_path", test_x)
    child = start(CALC, *flags, prelude=prelude)
    child.wait_for(test_x.with_name("begun"))
    child.signal(number)
    result = child.wait()
    test_x.with_name("begun").unlink()
    assert result.code == 130
    assert result.last_line == "interrupted; nothing half-written remains"
    assert "Traceback" not in result.stderr
    assert snapshot(model.parent) == before
