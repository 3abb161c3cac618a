"""validate.py: from a checkpoint to tables, killed and gone on, and what it refuses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_refused, run, run_well, snapshot

from pinnfluence.validation.results import read

VALIDATE = Path(__file__).parents[1] / "validate.py"
SMALL = ("--problem", "heat", "--layers", 2, 6, 6, 1, "--compile", "off", "--threads", 1)


@pytest.fixture(scope="module")
def heat_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("validate") / "heat"
    sizes = ("--num_domain", 40, "--num_boundary", 10, "--num_initial", 10)
    steps = ("--n_iterations", 100, "--n_iterations_lbfgs", 100, "--n_iterations_lm", 20)
    flags = (*SMALL, *sizes, *steps, "--dtype", "float64", "--save_path", folder)
    run_well(VALIDATE.with_name("train.py"), *flags)
    return folder


def test_script_from_checkpoint_to_tables(heat_run):
    flags = ("--checkpoint", heat_run, "--removed", 12, "--test_points", 20, "--processes", 1)
    weights = ("--proximal", 1e-1, 1e-3, "--polish", 1e-3, "--halves", 6, "--full")
    first = run_well(VALIDATE, *flags, *weights)
    for word in ("headline", "proximal response", "random scores", "paper", "datamodeling"):
        assert word in first.stdout
    folder = heat_run.with_name("heat_validation")
    facts = json.loads((folder / "headline.json").read_text())
    assert facts["polished"] == 1e-3
    ranks = {(row["curvature"], row["rank"]) for row in facts["rows"]}
    assert {("hessian", "full"), ("gauss-newton", 10)} <= ranks
    assert set(facts["linear_datamodeling_score"]) > {"paper", "gauss-newton"}
    with np.load(folder / "headline.npz", allow_pickle=False) as file:
        assert file["changes"].shape == file["predicted_gauss-newton"].shape == (12, 20, 1)
    found = read(folder / "headline.npz")
    np.testing.assert_array_equal(found.train_x, np.load(heat_run / "train_x.npy"))
    at_the_end = np.isclose(found.train_x[:, 0] % 1, 0, atol=1e-6)
    np.testing.assert_array_equal(found.acting[:, found.terms.index("boundary")], at_the_end)
    assert found.acting[:, found.terms.index("heat")].all()
    assert ((found.leverages > 0) & (found.leverages < 1)).all()


def test_new_points_are_added_instead(heat_run, tmp_path):
    flags = ("--checkpoint", heat_run, "--added", 6, "--test_points", 10, "--processes", 1)
    weights = ("--proximal", 1e-3, "--polish", 1e-3, "--save_path", tmp_path / "out")
    printed = run_well(VALIDATE, *flags, *weights).stdout
    assert "6 of 6 retrainings converged" in printed
    found = read(tmp_path / "out" / "added.npz")
    assert found.changes.shape == found.predicted["gauss-newton"].shape == (6, 10, 1)
    assert found.row("proximal response", "u").agreement.spearman.value > 0.9
    assert_refused(run(VALIDATE, *flags, "--removed", 3), "without --removed")
    assert_refused(run(VALIDATE, *flags, "--full"), "without --full")


KILLED_WHILE_POLISHING = """
import os, signal
from pinnfluence.storage import stage_store
stage_store.SAVE_SECONDS, stage_store.PART_OF_THE_TIME = 0, 1e9
save, stages = stage_store.StageStore.save, []

def save_and_die(self, stage, *what):
    save(self, stage, *what)
    stages.append(stage)
    if stages.count("control_so_far") == 3:
        os.kill(os.getpid(), signal.SIGKILL)

stage_store.StageStore.save = save_and_die
"""


def test_a_script_that_was_killed_while_it_polished_ends_with_the_same_bytes(heat_run, tmp_path):
    sizes = ("--checkpoint", heat_run, "--removed", 3, "--test_points", 10)
    flags = (*sizes, "--proximal", 1e-2, "--polish", 1e-4)
    untouched, killed = ("--save_path", tmp_path / "a"), ("--save_path", tmp_path / "b")
    run_well(VALIDATE, *flags, *untouched, "--processes", 1)
    assert run(VALIDATE, *flags, *killed, prelude=KILLED_WHILE_POLISHING).code == -signal.SIGKILL
    assert list((tmp_path / "b").rglob("control_so_far*"))
    run_well(VALIDATE, *flags, *killed)
    expected = snapshot(tmp_path / "a")
    assert len(expected) > 4
    assert snapshot(tmp_path / "b") == expected


@pytest.mark.parametrize("script", ["train", "calc_influences", "diagnose", "explore", "validate"])
def test_scripts_say_at_once_what_they_take(script):
    """Without PyTorch or SciPy, which take seconds to import."""
    path = VALIDATE.with_name(f"{script}.py")
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'torch', 'scipy'} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert found.stdout.startswith("usage: ")
    assert not found.stderr


def test_script_refuses_what_cannot_be(heat_run, tmp_path):
    flags = ("--checkpoint", heat_run, "--save_path", tmp_path / "out", "--removed", 2)
    assert_refused(run(VALIDATE, "--checkpoint", tmp_path / "none"), "none")
    assert_refused(run(VALIDATE, *flags, "--proximal", -1), "--proximal", "-1")
    assert_refused(run(VALIDATE, *flags, "--removed", 0), "--removed", "0")
    assert_refused(run(VALIDATE, *flags, "--tolerance", 0), "--tolerance", "0")
    assert_refused(run(VALIDATE, *flags, "--halves", 1), "--halves", "1")
    assert_refused(run(VALIDATE, *flags, "--polish", "nan"), "--polish", "found nan")
    assert_refused(run(VALIDATE, *flags, "--seed", -1), "--seed", "-1")
    assert_refused(run(VALIDATE, *flags, "--seed", 2**64), "--seed below 2^64", str(2**64))
    assert_refused(run(VALIDATE, *flags, "--processes", 10**6), "--processes of at most", "cores")
    assert_refused(run(VALIDATE, *flags, "--group_size", 60), "below the 60 training points")
    assert not (tmp_path / "out").exists()
