"""How the randomised inverse grows with the parameters: CPU seconds, memory, rank, error.

OMP_NUM_THREADS=1 python benchmarks/scale.py [--rows 198915,2000 ...] [--again]

Rows that are in benchmarks/results/scale.json are not computed again, so that the table may be made
a row at a time. The networks are those of the flow as training begins, untrained: a pass over the
points costs the same, but the rank that is needed is smaller than that of trained networks. The
damping is 1e-6 of the largest eigenvalue, about what the rule gives for the paper's model. The
first row compares scores of other points with those of the inverse in the space of the residuals.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _influence_runs import test_points, untrained
from _memory import memory, release

from pinnfluence.curvature.inverse import METHODS
from pinnfluence.curvature.inverse.randomised import Randomised
from pinnfluence.curvature.operators import GaussNewton
from pinnfluence.influence.batch_size import default_batch_size
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.runtime.progress import ProgressStages
from pinnfluence.storage.files import write_bytes

RESULTS = Path(__file__).parent / "results" / "scale.json"
NETWORKS = {41003: (100,) * 5, 198915: (256,) * 4, 791043: (512,) * 4}
"""Widths of the hidden layers by the number of parameters."""

CHECK = (41003, 1_500)
ROWS = (CHECK, (41003, 5_000), (41003, 10_000), (198915, 1_000), (198915, 10_000), (791043, 300))
"""Parameters and points of each row; the first is checked."""

PART = 1e-6
"""Damping over the largest eigenvalue."""


def curvature_of(n_params: int, n_points: int) -> GaussNewton:
    pinn, x = untrained((2, *NETWORKS[n_params], 3), n_points)
    assert pinn.n_params == n_params
    loss = Loss.of_training(pinn.at(x))
    return GaussNewton(loss, Executor(default_batch_size(loss.collocation), ProgressStages()))


def grown(n_params: int, n_points: int) -> dict[str, Any]:
    """One row of the table."""
    curvature = curvature_of(n_params, n_points)
    release()
    began = time.process_time()
    method = Randomised(curvature)
    method.fit()
    damping = PART * method.largest
    method.prepare(damping)
    seconds, peak = time.process_time() - began, memory("VmHWM")
    found: dict[str, Any] = {
        "n_params": n_params,
        "n_points": n_points,
        "n_residuals": curvature.n_residuals,
    }
    found |= method.metadata()["randomised"]
    found |= {"cpu_seconds": seconds, "peak_gigabytes": peak, "n_threads": torch.get_num_threads()}
    if (n_params, n_points) == CHECK:
        found["error_of_other_points"] = checked(method, damping)
    return found


def checked(method: Randomised, damping: float) -> float:
    """Error of the speed's scores at 64 other points, 95th percentile of the residuals."""
    curvature = method.curvature
    pinn, exact = curvature.loss.pinn, METHODS["residual-space"](curvature)
    exact.fit()
    there = pinn.at(test_points(64), [pinn.observables])
    G = jacobian(there)["speed"][1].double().numpy().T
    found, right = (inverse.at(damping).rows_solve(G) for inverse in (method, exact))
    errors = np.linalg.norm(found - right, axis=1) / np.linalg.norm(right, axis=1)
    return float(np.percentile(errors, 95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", nargs="*", default=(), metavar="N_PARAMS,N_POINTS", help="of the table"
    )
    parser.add_argument("--again", action="store_true", help="compute what is there, too")
    arguments = parser.parse_args()
    rows = [tuple(map(int, text.split(","))) for text in arguments.rows] or ROWS
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for row in rows:
        name = ",".join(map(str, row))
        if name not in known or arguments.again:
            known[name] = grown(*row)
            text = json.dumps(known, indent=1, sort_keys=True) + "\n"
            write_bytes(RESULTS, text.encode())
        print(name, known[name], flush=True)


if __name__ == "__main__":
    main()
