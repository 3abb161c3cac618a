"""A process that has imported everything once and forks a child for each run of a script.

Reads one JSON request a line. The script to run, its arguments, cwd, files for stdout and stderr,
code to run beforehand, for instance to replace a function, and whether a training draws its curves
at its end, which takes a third of a short one's time: answers with the child's pid. The pid of a
child to wait for: answers with its exit status.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from typing import Any

import torch
from matplotlib.figure import Figure

import pinnfluence.plots.history
from pinnfluence.influence.identity import source_hash

ON_DEMAND = (
    "captum.influence",
    "matplotlib.backends.backend_agg",
    "scipy.sparse.linalg",
    "torch._dynamo",
    "pinnfluence.diagnosis.report",
    "pinnfluence.explorer",
    "pinnfluence.influence.estimate",
    "pinnfluence.influence.report",
    "pinnfluence.models.deepxde.model",
    "pinnfluence.problems.cylinder_flow",
    "pinnfluence.training.run",
    "pinnfluence.validation.report",
    "pinnfluence.validation.study",
)
"""What scripts import when they need it, so that no child has to."""


def run(request: dict[str, Any]) -> int:
    """Run a script in this process as ``python script.py arguments`` does; gives its exit code."""
    # nohup ignores the first, a shell behind & the others
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    for number, name in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY), number)
    sys.argv = [request["script"], *request["arguments"]]
    torch.set_num_threads(1)
    if not request["draws"]:
        pinnfluence.plots.history.history_figure = lambda *_: Figure()
    try:
        exec(request["prelude"], {})
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for name in ON_DEMAND:
        importlib.import_module(name)
    source_hash()  # which is kept
    gc.freeze()  # a collection in a child would copy the memory of all modules
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            code = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
            print("exit", code, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = run(request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print("pid", pid, flush=True)


if __name__ == "__main__":
    main()
