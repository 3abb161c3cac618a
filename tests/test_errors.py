"""How scripts end: errors in one line, output that cannot be written, signals."""

import os
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CALC, Result, assert_refused, run

import pinnfluence
from pinnfluence.runtime.script import Parser, run_script

SCRIPT = f"""
import sys, types
package = sys.modules["pinnfluence"] = types.ModuleType("pinnfluence")
package.__path__ = [{os.path.dirname(pinnfluence.__file__)!r}]  # without the imports of the whole
from pinnfluence.errors import InputError
from pinnfluence.runtime.script import run_script
def main():
    {{body}}
run_script(main)
"""
REFUSES = "raise InputError('no such model')"
WAITS = "import time; print('ready', flush=True); time.sleep(60)"


def command(body: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(body=body)]


def test_a_disk_that_is_full_for_the_error_itself(tmp_path: Path) -> None:
    """The code is that of the error, although its line finds no room."""
    with (tmp_path / "err").open("w") as err:
        result = subprocess.run(
            command(REFUSES),
            stderr=err,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5)),
        )
    assert result.returncode == 2
    assert (tmp_path / "err").read_text() == "error"


def test_a_disk_that_is_full_for_the_output(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        result = subprocess.run(
            command("print('x' * 100)"),
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5)),
        )
    assert result.returncode == 2
    assert result.stderr == "error: File too large\n"


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """Neither a traceback nor a file of ours that takes the place of a stream."""
    body = f"import os; open({str(tmp_path / 'file')!r}, 'w'); os.write(2, b'x'); {REFUSES}"
    shell = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *command(body)])
    assert shell.returncode == 2
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_signals_end_a_script_in_one_line(name: str) -> None:
    number = getattr(signal, name)
    child = subprocess.Popen(
        command(WAITS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # the tests may run under nohup
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(number)
    _, err = child.communicate()
    assert (child.returncode, err) == (130, "interrupted; nothing half-written remains\n")


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    body = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('goes on')"
    result = subprocess.run(["nohup", *command(body)], stdout=subprocess.PIPE, text=True)
    assert (result.returncode, result.stdout) == (0, "goes on\n")


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
