"""The sweep with tiny networks: steps, tables, resuming; its workflow as a dry run."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "experiments"))

import sweep  # noqa: E402

POINTS = "--num_boundary 4 --num_initial 4 --n_iterations 5 --layers 2 4 1"
TINY: dict[str, Any] = {
    "seeds": 2,
    "test_points": 20,
    "removed": 2,
    "problems": {
        "heat": {
            "problem": "heat",
            "proximal": [1e-2],
            "good": f"--variant wide {POINTS} --num_domain 20 --n_iterations_lm 20",
            "bad": f"--variant wide_bad {POINTS} --num_domain 5 --n_iterations_lm 2",
        }
    },
}
OTHER = {"problem": "wave", "variant": "good", "seed": "7"}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The tiny sweep, in a folder whose tables have rows of another network already."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.json").write_text(json.dumps(TINY))
    sweep.write(folder / "results" / "network.csv", [{**OTHER, "quantity": "u", "error": 0.5}])
    run(folder, "all")
    return folder


def run(folder, step, *more):
    before = sys.argv
    where = ("--config", "tiny.json"), ("--runs", "runs"), ("--results", "results")
    flags = [text for name, file in where for text in (name, str(folder / file))]
    sys.argv = ["sweep.py", step, *flags, *more]
    try:
        sweep.main()
    finally:
        sys.argv = before


def test_every_network_has_its_rows(done):
    networks = rows_of(done / "results" / "network.csv")
    keys = [(row["problem"], row["variant"], row["seed"]) for row in networks]
    own = [("heat", variant, seed) for variant in ("bad", "good") for seed in "01"]
    assert keys == [*own, ("wave", "good", "7")]
    for row in networks[:-1]:
        assert float(row["error"]) > 0
        assert float(row["estimated"]) > 0
        assert row["schedule"] == TINY["problems"]["heat"][row["variant"]]
    assert {row["n_train"] for row in networks[:2]} == {"13"}


def test_indicators_of_both_recipes(done):
    rows = rows_of(done / "results" / "indicators.csv")
    eta = [r for r in rows if (r["indicator"], r["part"]) == ("direction", "t")]
    assert len(eta) == 2 * 2 * 2
    assert {r["recipe"] for r in eta} == {"paper", "gauss-newton"}
    assert all(0 <= float(r["value"]) <= 1 for r in eta)
    assert len({r["value"] for r in eta}) > 4  # seeds and variants differ
    fractions = [float(r["value"]) for r in rows if r["indicator"] == "loss fraction"]
    assert sum(fractions) == pytest.approx(8)


def test_agreement_of_the_first_good_network(done):
    rows = rows_of(done / "results" / "agreement.csv")
    assert {(row["variant"], row["seed"]) for row in rows} == {("good", "0")}
    good = {row["recipe"]: row for row in rows}
    assert set(good) == {"paper", "gauss-newton", "proximal response"}
    assert float(good["proximal response"]["spearman"]) > 0.9
    assert good["paper"]["n"] == "2"


def test_what_is_there_is_not_done_again(done, monkeypatch):
    before = (done / "results" / "indicators.csv").read_bytes()
    monkeypatch.setattr(sweep, "command", lambda *_: pytest.fail("trained again"))
    run(done, "all")
    assert (done / "results" / "indicators.csv").read_bytes() == before
    (done / "runs/heat/good/1/indicators.csv").unlink()
    run(done, "indicators", "--problem", "heat", "--seed", "1")
    assert (done / "runs/heat/good/1/indicators.csv").exists()
    run(done, "table")
    assert (done / "results" / "indicators.csv").read_bytes() == before


def test_the_committed_settings_name_known_problems_and_models():
    config = sweep.read_config(sweep.CONFIG)
    from pinnfluence import problems

    assert {s["problem"] for s in config["problems"].values()} == set(problems.names())
    for case in sweep.cases(config, Path("runs")):
        if "zoo" in case.settings:
            assert (case.checkpoint / "config.json").is_file()


@pytest.mark.parametrize("executor", [[], ["--executor", "slurm", "--jobs", "9"]])
def test_dry_run_of_the_workflow(tmp_path, executor):
    snakemake = os.environ.get("SNAKEMAKE") or shutil.which("snakemake")
    snakemake = snakemake or shutil.which(ROOT / "build" / "snakemake" / "bin" / "snakemake")
    if snakemake is None:
        pytest.skip("Snakemake is not installed; `make sweep` installs it apart")
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    where = [f"sweep={tmp_path}/tiny.json", f"runs={tmp_path}/runs"]
    command = [
        snakemake,
        "-s",
        str(ROOT / "workflow" / "Snakefile"),
        "-n",
        "--directory",
        str(ROOT),
    ]
    found = subprocess.run(
        [*command, *executor, "--nolock", "--config", *where], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    counts = dict(line.split() for line in found.stdout.splitlines() if len(line.split()) == 2)
    expected = {"train": "4", "scores": "4", "indicators": "4", "network": "4", "agreement": "1"}
    assert expected.items() <= counts.items()
