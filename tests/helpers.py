"""What tests of the scripts share: runs of a script that start at once, a small trained model."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
TRAIN, CALC, DIAGNOSE = (ROOT / f"{n}.py" for n in ("train", "calc_influences", "diagnose"))

SHORT_RUN_FILES = [
    "adam-80.pt",
    "config.json",
    "history.csv",
    "history.png",
    "lbfgs-130.pt",
    "state.pt",
    "train_x.npy",
]
"""What the run of ``short_run`` leaves behind."""

SMALL = ("--layers", 2, 4, 4, 3, "--num_domain", 40, "--num_boundary", 40, "--compile", "off")
"""Flags of a model that trains in a second and has points for each loss term."""


@dataclass
class Result:
    """How a script ended: its exit code (negative: the signal that killed it), what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""


class Child:
    """A running script."""

    def __init__(self, server: subprocess.Popen[str], request: dict[str, Any]) -> None:
        self._server, self._files = server, (Path(request["stdout"]), Path(request["stderr"]))
        for path in self._files:
            path.write_bytes(b"")
        self.pid = self._ask(request, "pid")
        self._result: Result | None = None

    def _ask(self, request: dict[str, Any], word: str) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        found, number = self._server.stdout.readline().split()
        assert found == word
        return int(number)

    def signal(self, number: int) -> None:
        """Send a signal; harmless to a child that has just ended."""
        if self._result is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self) -> Result:
        """Wait for its end."""
        if self._result is None:
            code = self._ask({"wait": self.pid}, "exit")
            out, err = (path.read_text() for path in self._files)
            self._result = Result(code, out, err)
        return self._result

    def wait_for(self, path: Path, seconds: float = 60) -> None:
        """Wait until the child has written a file."""
        end = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < end, (path, self._files[1].read_text())
            time.sleep(0.005)


_children: list[Child] = []


@functools.cache
def _server() -> tuple[subprocess.Popen[str], Path]:
    folder = tempfile.TemporaryDirectory()
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "_forks.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )

    def close() -> None:
        for child in _children:
            child.signal(signal.SIGKILL)
        server.communicate()
        folder.cleanup()

    atexit.register(close)
    return server, Path(folder.name)


def start(
    script: Path,
    *arguments: Any,
    cwd: Path = ROOT,
    prelude: str = "",
    beside: bool = False,
    draws: bool = False,
) -> Child:
    """Start a script. ``prelude`` is code that runs before it in its process.

    What was started before is killed, unless the script is to run ``beside`` it. The curves of a
    training are an empty picture, unless it ``draws``.
    """
    server, folder = _server()
    if not beside:
        for child in _children:  # of a test that failed
            child.signal(signal.SIGKILL)
            child.wait()
        _children.clear()
    request = {
        "script": str(script),
        "arguments": [str(a) for a in arguments],
        "cwd": str(cwd),
        "stdout": str(folder / f"out-{len(_children)}"),
        "stderr": str(folder / f"err-{len(_children)}"),
        "prelude": prelude,
        "draws": draws,
    }
    _children.append(Child(server, request))
    return _children[-1]


def run(script: Path, *arguments: Any, **settings: Any) -> Result:
    """Run a script to its end."""
    return start(script, *arguments, **settings).wait()


def run_well(script: Path, *arguments: Any, **settings: Any) -> Result:
    """Run a script that must succeed."""
    result = run(script, *arguments, **settings)
    assert result.code == 0, result.stderr
    return result


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2, one line on stderr that begins with ``error:`` and holds the words."""
    lines = result.stderr.strip().splitlines()
    assert result.code == 2, (result.code, result.stderr)
    for sign in ("Traceback", "Warning", "  File "):
        assert sign not in result.stderr, result.stderr
    assert lines[-1].startswith("error: "), result.stderr
    assert sum(line.startswith("error") for line in lines) == 1, result.stderr
    for word in words:
        assert word in lines[-1], (word, lines[-1])


def files_below(folder: Path) -> list[str]:
    """Relative names of all files below a folder, those left over from writing included."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by relative name."""
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    content = torch.load(checkpoint, weights_only=True)
    weights: dict[str, torch.Tensor] = content["model_state_dict"]
    return weights


def assert_same_weights(a: Path, b: Path) -> None:
    """Two checkpoints hold the same weights, bit for bit."""
    left, right = weights_of(a), weights_of(b)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].numpy().tobytes() == right[name].numpy().tobytes(), name


def history_of(folder: Path) -> tuple[list[str], np.ndarray]:
    """Column names and rows of ``history.csv``; missing values are NaN."""
    names, *lines = (folder / "history.csv").read_text().splitlines()
    rows = [[float(v) if v else np.nan for v in line.split(",")] for line in lines]
    return names.split(","), np.array(rows)


def kill_after(child: Child, seconds: float) -> Result:
    """Kill a script with SIGKILL after a while, at whatever it is doing then."""
    time.sleep(seconds)
    child.signal(signal.SIGKILL)
    return child.wait()


def kill(
    folder: Path, n_kills: int, flags: tuple[Any, ...], first: Path, longest: float, prelude: str
) -> None:
    """Start a run again and again and kill it at random moments after ``first`` was written.

    A run that gets to its end before it is killed begins anew, and is killed sooner.
    """
    random_numbers, killed = random.Random(0), 0
    while killed < n_kills:
        child = start(TRAIN, *flags, "--save_path", folder, prelude=prelude)
        child.wait_for(first)
        if kill_after(child, longest * random_numbers.random()).code == -signal.SIGKILL:
            killed += 1
        else:
            shutil.rmtree(folder)
            killed, longest = 0, longest / 2


QUICK = """
from pinnfluence.training.optimizer import Optimizer
from pinnfluence.training.optimizers.lbfgs import Lbfgs
Optimizer.record_every = Lbfgs.block = Lbfgs.record_every = 10
"""
"""Notes and saves ten times as often as usual, so that a short run has many states."""

SHORT = (*SMALL, "--n_iterations", 80, "--n_iterations_lbfgs", 50, "--save_seconds", 0)


@functools.cache
def short_run() -> Path:
    """The folder of a short run that nothing disturbed; copy it before writing into it."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "run"
    run_well(TRAIN, *SHORT, "--save_path", path, prelude=QUICK)
    return path


def copy_of_short_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(short_run(), folder)
    return folder


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    """The run's files are those of the run that nothing disturbed, but for its seconds."""
    assert files_below(folder) == files_below(undisturbed)
    assert (folder / "config.json").read_bytes() == (undisturbed / "config.json").read_bytes()
    assert (folder / "train_x.npy").read_bytes() == (undisturbed / "train_x.npy").read_bytes()
    for path in [*undisturbed.glob("adam-*.pt"), *undisturbed.glob("lbfgs-*.pt")]:
        assert_same_weights(folder / path.name, path)
    (names, rows), (_, expected) = history_of(folder), history_of(undisturbed)
    assert names[-1] == "seconds"
    np.testing.assert_array_equal(rows[:, :-1], expected[:, :-1])


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (self.path,)
