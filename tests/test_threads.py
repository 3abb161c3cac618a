"""Many threads give what one thread gives, at every entry point, again and again."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("threaded_runs.py")
KINDS = ("plain", "output transform", "residual", "expression", "envelope")
ENTRIES = (
    *("influence", "influence, paper", "scores", "scores, paper", "scores of a loss"),
    *("exact", "self-influence", "with leverage"),
)
ROUNDING = {"influence": 1e-6, "influence, paper": 1e-6, "exact": 1e-6}
"""Relative differences that rounding makes in scores that are kept in float32; else 1e-12."""


@functools.cache
def reports(kind: str) -> dict[str, dict[str, Any]]:
    """What the script says of a kind of model, by entry point; one that crashed has no figures."""
    paths = [str(SCRIPT.parents[1]), str(SCRIPT.parent)]
    ended = subprocess.run(
        [sys.executable, SCRIPT, kind],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    found = {line["finished"]: line for line in lines if "finished" in line}
    last = ended.stderr.strip().splitlines()[-1:]
    for name in ENTRIES:
        found.setdefault(name, {"error": f"exit code {ended.returncode}: {last}"})
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_give_what_one_gives(kind):
    failures = {}
    for name, report in reports(kind).items():
        differences = np.array(report.get("differences", []))
        limit = ROUNDING.get(name, 1e-12)
        n_wrong = int((differences > limit).sum())
        if report["error"] or n_wrong or len(differences) == 0:
            n_failed = int(np.isnan(differences).sum())
            worst = float(np.nanmax(differences, initial=0))
            failures[name] = (n_wrong, n_failed, len(differences), worst, report["error"])
    assert set(reports(kind)) == set(ENTRIES)
    assert not failures, "\n".join(
        f"{name}: {wrong} wrong (by up to {worst:.1e}) and {failed} failed of {n}; {error}"
        for name, (wrong, failed, n, worst, error) in failures.items()
    )
