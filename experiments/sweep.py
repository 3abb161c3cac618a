"""Seven problems, good and bad networks, several seeds: does an indicator tell them apart?

python experiments/sweep.py all                                     # everything, one after another
python experiments/sweep.py train --problem heat --variant good --seed 0         # or step by step
python experiments/sweep.py table

Steps of a network: ``train``, ``scores`` (by both recipes), ``indicators``, ``network`` (its true
error, and the estimate of the diagnosis, which knows no solution) and ``agreement`` (scores against
retraining, of the first good network alone). Their files are in
``runs/sweep/<problem>/<variant>/<seed>``; a step whose file is there is not done again. ``table``
collects them into ``experiments/results/sweep/``: rows of networks that are in ``runs`` replace the
rows of these networks there.
``workflow/Snakefile`` calls the same steps as jobs. What is trained, and how, is in
``workflow/sweep.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep_tables import Row, table, write

if TYPE_CHECKING:
    import numpy as np

    from pinnfluence import TrainedModel

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "workflow" / "sweep.json"
RESULTS = ROOT / "experiments" / "results" / "sweep"
RECIPES = ("paper", "gauss-newton")
VARIANTS = ("good", "bad")
SEED_OF_AGREEMENT = 0
SEED_OF_TEST_POINTS = 42


@dataclass(frozen=True)
class Case:
    """One network of the sweep: settings of its problem, its names, and its folder."""

    settings: dict[str, Any]
    problem: str
    variant: str
    seed: int
    folder: Path

    @property
    def key(self) -> Row:
        """What tells its rows from others."""
        return {"problem": self.problem, "variant": self.variant, "seed": self.seed}

    @property
    def checkpoint(self) -> Path:
        """The folder of the trained network; of the flow one of ``model_zoo``."""
        zoo = self.settings.get("zoo")
        return ROOT / "model_zoo" / zoo[self.variant][self.seed] if zoo else self.folder / "model"

    @property
    def schedule(self) -> str:
        """The flags of train.py, in words for the table."""
        return "model_zoo" if "zoo" in self.settings else str(self.settings[self.variant])


def cases(config: dict[str, Any], runs: Path) -> Iterator[Case]:
    """All networks; the first seed of each problem before the second of any."""
    most = max(seeds_of(config, name) for name in config["problems"])
    for seed in range(most):
        for name, settings in config["problems"].items():
            for variant in VARIANTS:
                n = len(settings["zoo"][variant]) if "zoo" in settings else seeds_of(config, name)
                if seed < n:
                    folder = runs / name / variant / str(seed)
                    yield Case({**config, **settings}, name, variant, seed, folder)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a sweep, see ``workflow/sweep.json``."""
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def is_retrained(case: Case) -> bool:
    """Whether its scores are compared with retraining: of the first good one, but of the zoo's."""
    first = (case.variant, case.seed) == ("good", SEED_OF_AGREEMENT)
    return first and "zoo" not in case.settings


def seeds_of(config: dict[str, Any], problem: str) -> int:
    """How many networks of each variant there are at most."""
    settings = config["problems"][problem]
    if "zoo" in settings:
        return max(len(names) for names in settings["zoo"].values())
    return int(settings.get("seeds", config["seeds"]))


def command(name: str, *arguments: object) -> None:
    """Run a command of the package in this process, in which torch is imported once for all."""
    before, sys.argv = sys.argv, [f"pinnfluence {name}", *map(str, arguments)]
    try:
        import_module(f"pinnfluence.commands.{name}").main()
    finally:
        sys.argv = before


def train(case: Case) -> None:
    """Train the network, unless it is one of ``model_zoo``; gives ``model/``."""
    if "zoo" in case.settings:
        return
    problem = ("--problem", case.settings["problem"], "--seed", case.seed)
    where = ("--threads", 1, "--device", "cpu", "--compile", "off", "--save_path", case.checkpoint)
    command("train", *problem, *shlex.split(case.schedule), *where)


def points_of(model: TrainedModel, n: int) -> np.ndarray:
    """Random points inside the domain, the same for all networks; of the flow some of the mesh."""
    from pinnfluence import problems
    from pinnfluence.models.deepxde.drawing import INSIDE, drawing
    from pinnfluence.models.deepxde.model import geometry

    if model.problem.name == problems.DEFAULT:
        return model.test_points(None, n)
    points = drawing(geometry(model.problem.domain), INSIDE, "pseudo")(n, SEED_OF_TEST_POINTS)
    inside: np.ndarray = points[model.problem.domain.excess(points) < -1e-5]
    return inside


def scores(case: Case) -> None:
    """Scores by both recipes: ``<recipe>/influences.safetensors``."""
    from pinnfluence import load_model
    from pinnfluence.influence import Influence

    model = load_model(case.checkpoint)
    test_x = points_of(model, case.settings["test_points"])
    for recipe in RECIPES:
        if not (case.folder / recipe / "influences.safetensors").exists():
            influence = Influence(model.pinn, model.train_x, recipe)
            found = influence.influence(test_x)
            found.metadata |= model.provenance()
            found.save(case.folder / recipe)


def indicators(case: Case) -> None:
    """All indicators of all outputs by both recipes: ``indicators.csv``."""
    from pinnfluence.scores import load_scores
    from pinnfluence.scores.file import Scores
    from pinnfluence.scores.indicators.reading import readings

    rows: list[Row] = []
    center = tuple(case.settings["center"]) if "center" in case.settings else None
    for recipe in RECIPES:
        found = load_scores(case.folder / recipe)
        assert isinstance(found, Scores)
        for reading in readings(found, center=center):
            rows.append({**case.key, "recipe": recipe, **vars(reading)})
    write(case.folder / "indicators.csv", rows)


def network(case: Case) -> None:
    """True and estimated error of each output: ``network.csv``."""
    from pinnfluence import diagnose, load_model
    from pinnfluence.diagnosis.error_estimate import RELIABLE
    from pinnfluence.reference.comparison import relative_errors

    model = load_model(case.checkpoint)
    assert model.problem.reference is not None
    true = relative_errors(model.pinn.network, model.pinn.outputs, model.problem.reference())
    if "zoo" in case.settings:  # of the flow an hour each: from benchmarks/diagnosis.py
        file = ROOT / "benchmarks" / "results" / "diagnosis.json"
        known = json.loads(file.read_text())[case.checkpoint.name]
        estimates = {
            name: (error["estimated"], error["at_least"], error["half_width"] <= RELIABLE)
            for name, error in known["errors"].items()
        }
        fresh = sum(term["fresh"] for term in known["press"]["terms"].values())
    else:
        report = diagnose(model, seed=1)
        estimates = {
            name: (error.relative, error.at_least, error.reliable)
            for name, error in report.errors.items()
        }
        fresh = sum(term.fresh for term in report.terms.values())
    about = {
        "n_train": len(model.train_x),
        "n_params": model.pinn.n_params,
        "loss": sum(model.mean_losses().values()),
        "fresh_loss": fresh,
        "schedule": case.schedule,
    }
    names = ("estimated", "at_least", "reliable")
    rows = []
    for name, error in true.items():
        guess = dict(zip(names, map(float, estimates[name]), strict=True))
        rows.append({**case.key, "quantity": name, "error": error, **guess, **about})
    write(case.folder / "network.csv", rows)


def agreement(case: Case) -> None:
    """Scores against retraining without single points: ``agreement.csv``, of one network.

    All proximal weights of the settings are tried; the rows are those of the least one under which
    nearly all retrainings converge. Where none does the row says so.
    """
    from pinnfluence.errors import InputError
    from pinnfluence.validation.results import HEADLINE

    if not is_retrained(case):
        return
    folder, removed = case.folder / "validation", case.settings["removed"]
    about = ("--checkpoint", case.checkpoint, "--save_path", folder, "--processes", 1)
    how = ("--removed", removed, "--test_points", 100, "--tolerance", 1e-3)
    weights = ("--proximal", *case.settings["proximal"])
    with contextlib.suppress(InputError):  # none converged: there is no headline
        command("validate", *about, *how, *weights)
    empty = dict.fromkeys(("spearman", "low", "high", "proximal", "damping"), "")
    rows = [{**case.key, "recipe": "none", "quantity": "", **empty, "n": 0}]
    if (folder / HEADLINE).exists():
        rows = agreement_rows(case, folder / HEADLINE)
    write(case.folder / "agreement.csv", rows)


def agreement_rows(case: Case, headline: Path) -> list[Row]:
    """Spearman's correlations of the recipes and of the proximal response, with their intervals."""
    from pinnfluence.validation.results import MATCHED, read

    rows: list[Row] = []
    for row in read(headline).rows:
        if row.method in (*RECIPES, MATCHED):
            figure = row.agreement.spearman
            found = {"spearman": figure.value, "low": figure.low, "high": figure.high}
            n = {"proximal": row.proximal, "damping": row.damping, "n": row.agreement.n_groups}
            rows.append({**case.key, "recipe": row.method, "quantity": row.quantity, **found, **n})
    return rows


STEPS: dict[str, tuple[Callable[[Case], None], str]] = {
    "train": (train, "model/history.png"),
    "scores": (scores, "gauss-newton/influences.safetensors"),
    "indicators": (indicators, "indicators.csv"),
    "network": (network, "network.csv"),
    "agreement": (agreement, "agreement.csv"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Indicators of good and bad networks.")
    parser.add_argument("step", choices=[*STEPS, "table", "all"])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "sweep")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--problem", help="(default: all)")
    parser.add_argument("--variant", choices=VARIANTS, help="(default: both)")
    parser.add_argument("--seed", type=int, help="(default: all)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.step == "table":
        table(arguments.runs, arguments.results)
        return
    config = read_config(arguments.config)
    wanted = {"problem": arguments.problem, "variant": arguments.variant, "seed": arguments.seed}
    found = [
        case
        for case in cases(config, arguments.runs)
        if all(value in (None, case.key[name]) for name, value in wanted.items())
    ]
    rounds = [[arguments.step]]
    if arguments.step == "all":  # retraining takes longest: after all else
        rounds = [[name for name in STEPS if name != "agreement"], ["agreement"]]
    for steps in rounds:
        for case in found:
            run(case, steps)
            if arguments.step == "all":
                table(arguments.runs, arguments.results)


def run(case: Case, steps: list[str]) -> None:
    """The steps whose file is not there."""
    for step in steps:
        function, file = STEPS[step]
        if not (case.folder / file).exists():
            begin = time.process_time()
            function(case)
            seconds = time.process_time() - begin
            print(*case.key.values(), step, f"{seconds:.1f} s of the processor", flush=True)


if __name__ == "__main__":
    main()
