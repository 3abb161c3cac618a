"""Forked processes: results in order, errors, and ends by signals."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from pinnfluence import InputError
from pinnfluence.runtime.processes import in_processes


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items():
    """Though the first takes longest."""

    def one(item: int) -> tuple[int, int]:
        time.sleep(0.2 if item == 0 else 0)
        return item, os.getpid()

    found = list(in_processes(one, range(20), 3))
    assert [item for item, _ in found] == list(range(20))
    assert 1 < len({pid for _, pid in found}) <= 3


@pytest.mark.parametrize("n_threads", [1, 2])
def test_processes_are_forked_from_one_thread_alone(n_threads):
    """What several threads hold when a process is forked would stay locked in it for ever."""
    torch.set_num_threads(n_threads)
    found = set(in_processes(lambda item: os.getpid(), range(4), 2))
    assert (found == {os.getpid()}) == (n_threads > 1)


def test_an_error_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(in_processes(lambda item: 1 // item, [1, 0, 1], 2))


def test_a_process_that_is_killed_is_an_error_and_no_wait():
    def one(item: int) -> int:
        if item == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(InputError, match="code -9"):
        list(in_processes(one, range(4), 2))


WAITING = r"""
import os, time
import torch
from pinnfluence.runtime.processes import in_processes
from pinnfluence.runtime.script import run_script

def main():
    torch.set_num_threads(1)
    def one(item):
        os.write(1, f"{os.getpid()}\n".encode())  # a whole line at once, also with PYTHONUNBUFFERED
        time.sleep(1000 if item == 0 else 0)
    list(in_processes(one, range(3), 3))

run_script(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_ends_all(number):
    """Also while some have nothing left to do, and others do not listen."""
    code = [sys.executable, "-c", WAITING]
    with subprocess.Popen(
        code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(3)]
        time.sleep(0.1)
        os.killpg(parent.pid, number)
        _, printed = parent.communicate()
    assert parent.returncode == 130
    assert printed.startswith("interrupted")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_end_with_a_parent_that_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.replace("1000", "1")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        for _ in range(3):
            parent.stdout.readline()
        parent.kill()
        assert parent.stdout.read() == ""  # which the processes hold open until they end
