"""One writer a folder: a lock that names its holder, ends with it, and notices a removed folder."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import (
    QUICK,
    SHORT,
    TRAIN,
    assert_as_undisturbed,
    assert_refused,
    run,
    short_run,
    start,
)

import pinnfluence
from pinnfluence.errors import InputError
from pinnfluence.storage import lock
from pinnfluence.storage.files import write_bytes
from pinnfluence.storage.lock import LOCK, held

HOLD = f"""
import sys, time, types
package = sys.modules["pinnfluence"] = types.ModuleType("pinnfluence")
package.__path__ = [{os.path.dirname(pinnfluence.__file__)!r}]  # without the imports of the whole
from pinnfluence.storage.lock import held
with held(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that tries to hold a folder for so long."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_held(holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"


def test_another_process_is_refused_and_named_and_its_death_ends_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = hold(folder, 60)
    wait_until_held(holder)
    with pytest.raises(InputError, match=rf"in use by process {holder.pid} on .* \(training: -c"):
        held(folder, "training").__enter__()
    assert (folder / LOCK).read_text().startswith(f"process {holder.pid} ")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with held(folder, "training"):
        assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} ")


def test_of_processes_that_start_at_once_one_holds_the_folder(tmp_path: Path) -> None:
    for n in range(3):
        holders = [hold(tmp_path / str(n), 5) for _ in range(4)]
        outputs = [holder.communicate() for holder in holders]
        assert sorted(out for out, _ in outputs) == ["", "", "", "held\n"], outputs
        refusals = [err for out, err in outputs if not out]
        assert all("is in use by process" in refusal for refusal in refusals), refusals


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with held(tmp_path, "training"):
        with pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
            held(tmp_path, "scores").__enter__()
        assert (tmp_path / LOCK).exists()
    with held(tmp_path, "scores"):
        pass


def test_nothing_remains_of_a_lock(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b", "training"):
        pass
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "a" / "b", "training"):
        write_bytes(tmp_path / "a" / "b" / "file", b"1")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


@pytest.mark.parametrize("instead", ["nothing", "an empty folder", "another run", "moved"])
def test_a_removed_folder_is_not_made_again(tmp_path: Path, instead: str) -> None:
    folder = tmp_path / "run"
    with held(folder, "training"):
        write_bytes(folder / "kept" / "file", b"1")
        if instead == "moved":
            folder.rename(tmp_path / "aside")
        else:
            shutil.rmtree(folder)
        if instead != "nothing" and instead != "moved":
            folder.mkdir()
        if instead == "another run":
            (folder / LOCK).write_text("process 1")
        before = sorted(folder.rglob("*"))
        for path in (folder / "file", folder / "kept" / "file"):
            with pytest.raises(InputError, match="was removed or moved while this process worked"):
                write_bytes(path, b"2")
        assert sorted(folder.rglob("*")) == before
        assert folder.exists() == (instead in ("an empty folder", "another run"))
        write_bytes(tmp_path / "other", b"3")
    assert sorted(folder.rglob("*")) == before
    assert not lock._held


WAITS = """
import pathlib, time
from pinnfluence.training.objective import TrainingLoss
evaluate = TrainingLoss.evaluate
def waiting(self):
    while pathlib.Path({flag!r}).exists():
        time.sleep(0.01)
    return evaluate(self)
TrainingLoss.evaluate = waiting
"""


@pytest.fixture
def running(tmp_path: Path) -> Any:
    """A run in ``tmp_path / run`` that waits in its first step until the flag is removed."""
    flag = tmp_path / "wait"
    flag.touch()
    prelude = QUICK + WAITS.format(flag=str(flag))
    child = start(TRAIN, *SHORT, "--save_path", tmp_path / "run", prelude=prelude)
    child.wait_for(tmp_path / "run" / "train_x.npy")
    yield child, flag
    child.signal(signal.SIGKILL)
    child.wait()


@pytest.mark.parametrize("flags", [(), ("--seed", 43), ("--restart",)])
def test_a_second_run_in_the_folder_is_told_who_holds_it(
    running: Any, tmp_path: Path, flags: tuple[Any, ...]
) -> None:
    child, flag = running
    result = run(TRAIN, *SHORT, *flags, "--save_path", tmp_path / "run", beside=True)
    assert_refused(result, f"is in use by process {child.pid} on", "training")
    flag.unlink()
    assert child.wait().code == 0
    assert_as_undisturbed(tmp_path / "run", short_run())


def test_a_folder_that_is_removed_ends_the_run(running: Any, tmp_path: Path) -> None:
    child, flag = running
    shutil.rmtree(tmp_path / "run")
    flag.unlink()
    assert child.wait().code == 2
    assert child.wait().last_line.startswith(f"error: {tmp_path / 'run'} was removed or")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_closed_terminal_keeps_what_was_reached(
    running: Any, tmp_path: Path, number: int
) -> None:
    child, flag = running
    child.signal(number)
    flag.unlink()
    assert child.wait().code == 130
    assert child.wait().last_line.startswith("stopped (adam, step ")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["state"]["step"] >= 1
