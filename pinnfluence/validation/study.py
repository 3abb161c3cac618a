"""A study of one trained model: experiments under several proximal weights, and their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.curvature.recipe import GAUSS_NEWTON
from pinnfluence.errors import InputError
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.progress import ProgressStages, progress_bar
from pinnfluence.storage.stage_store import STAGES, StageStore
from pinnfluence.validation import report
from pinnfluence.validation.added import AddedPredictions
from pinnfluence.validation.agreement import datamodeling_score
from pinnfluence.validation.experiments import Experiment, Outcome, Settings, random_groups
from pinnfluence.validation.predictions import MOST_PARAMETERS, Method, Predictions
from pinnfluence.validation.results import MATCHED, SPECTRUM

ENOUGH = 0.9
"""Part of the retrainings that must converge for a proximal weight to be the headline's."""

NONE_CONVERGED = (
    "no retraining converged: train longer, or give larger weights, such as --polish 1e-4 "
    "--proximal 1e-4"
)


@dataclass(frozen=True)
class Plan:
    """What a study does.

    groups: indices of training points that are removed together. proximal: weights mu. settings:
    of the retraining. n_halves: random halves for the linear datamodeling score. full: whole
    spectra at the headline. n_processes: that retrain side by side.
    """

    groups: list[np.ndarray]
    proximal: Sequence[float]
    settings: Settings
    n_halves: int = 0
    full: bool = False
    n_processes: int = 1
    seed: int = 0


class Study:
    """Scores of one network against its retraining.

    Predictions are made, and their dampings fixed, before anything is retrained.

    Args:
        pinn: the trained network, float64.
        train_x, test_x: training points, and where quantities are compared.
        folder: of the results; retrainings that were done stay in ``.stages`` there.
    """

    def __init__(self, pinn: Pinn, train_x: np.ndarray, test_x: np.ndarray, folder: Path) -> None:
        self.pinn, self.train_x, self.test_x = pinn, train_x, test_x
        self.folder = folder
        self.facts: dict[str, Any] = {
            "n_train": len(train_x),
            "n_params": pinn.n_params,
            "terms": pinn.terms,
        }

    def polish(self, settings: Settings) -> None:
        """Go on from the minimum of the loss with a proximal term around theta-hat.

        Raises:
            InputError: it was not reached.
        """
        experiment = Experiment(self.pinn, self.train_x, self.test_x, settings)
        found = experiment.run([], store=self._store("polish", experiment, []))
        print("polishing: " + report.outcome_line(found))
        if not found.control["converged"]:
            raise InputError(
                f"--polish {settings.proximal:g} did not reach a minimum: give ten to a hundred "
                "times as much, or train longer"
            )
        self.pinn = experiment.minimum(self._store("polish", experiment, []))
        self.facts["polished"] = settings.proximal

    def run(self, plan: Plan) -> Path:
        """All experiments of a plan; gives the file of the headline.

        Raises:
            InputError: no control converged.
        """
        predictions = self._predictions(plan.groups)
        recipes = list(_made(predictions.recipes()))
        for method in recipes:
            print(f"recipe {method.name}: damping {method.damping:.3g}")
        headline: tuple[Outcome, list[Method]] | None = None
        for proximal in sorted(plan.proximal, reverse=True):
            settings = replace(plan.settings, proximal=proximal)
            outcome = self._outcome(f"removal_{proximal:.0e}", settings, plan.groups, plan)
            print(report.outcome_line(outcome))
            if not outcome.converged.any():
                continue
            dampings = [2 * proximal] if proximal else []
            matched = _possible(predictions.dampings(dampings, MATCHED))
            self._table(f"removal_{proximal:.0e}", outcome, [*recipes, *matched])
            if outcome.converged.mean() >= ENOUGH:
                headline = outcome, matched
        if headline is None:
            raise InputError(NONE_CONVERGED)
        return self._headline(*headline, predictions, recipes, plan)

    def run_added(self, candidates: np.ndarray, plan: Plan) -> Path:
        """Retraining with each of some further points, under the least proximal weight; its file.

        Raises:
            InputError: the control or all retrainings did not converge.
        """
        proximal = min(plan.proximal)
        known = AddedPredictions(self._predictions([]), candidates)
        methods = [*_made(known.recipes())]
        methods += _possible(known.matched(proximal)) if proximal else []
        groups = [np.array([i]) for i in range(len(candidates))]
        settings = replace(plan.settings, proximal=proximal)
        outcome = self._outcome("added", settings, groups, plan, candidates)
        print(report.outcome_line(outcome))
        if not outcome.converged.any():
            raise InputError(NONE_CONVERGED)
        methods += known.controls(plan.seed)
        return self._table("added", outcome, methods, {"candidates": candidates})

    def _headline(
        self,
        outcome: Outcome,
        matched: list[Method],
        predictions: Predictions,
        recipes: list[Method],
        plan: Plan,
    ) -> Path:
        print(f"headline: proximal weight {outcome.settings.proximal:g}")
        methods = [*recipes, *matched, *predictions.arnoldi()]
        methods += predictions.controls(plan.seed)
        if plan.full and self.pinn.n_params <= MOST_PARAMETERS:
            methods += predictions.spectral()
        if plan.n_halves:
            self.facts["linear_datamodeling_score"] = self._halves(outcome.settings, plan)
        dampings = {method.name: method.damping for method in [*recipes, *matched]}
        damping = dampings.get(MATCHED, dampings[GAUSS_NEWTON.base])
        leverages = predictions.leverages(damping)[: len(outcome.changes)]
        return self._table("headline", outcome, methods, {"leverages": leverages})

    def _halves(self, settings: Settings, plan: Plan) -> dict[str, Any]:
        n = len(self.train_x)
        groups = random_groups(n, n // 2, plan.n_halves, plan.seed)
        outcome = self._outcome("halves", settings, groups, plan)
        print("random halves: " + report.outcome_line(outcome))
        if not outcome.converged.any():
            return {}
        predictions = self._predictions(groups)
        found: dict[str, Any] = {}
        for method in predictions.recipes():
            predicted = method.predict()
            for number, quantity in enumerate(outcome.quantities):
                good = outcome.converged
                score = datamodeling_score(
                    predicted[good, :, number], outcome.changes[good, :, number]
                )
                print(f"linear datamodeling score, {method.name}, {quantity}: {score}")
                found.setdefault(method.name, {})[quantity] = vars(score)
        return found

    def _predictions(self, groups: list[np.ndarray]) -> Predictions:
        kept = self.folder / STAGES / "curvature"
        return Predictions(self.pinn, self.train_x, self.test_x, groups, ProgressStages(), kept)

    def _outcome(
        self,
        name: str,
        settings: Settings,
        groups: list[np.ndarray],
        plan: Plan,
        added: np.ndarray | None = None,
    ) -> Outcome:
        experiment = Experiment(self.pinn, self.train_x, self.test_x, settings, added)
        store = self._store(name, experiment, groups)
        experiment.control(store)  # with a progress bar of its own
        with progress_bar(name, len(groups)) as bar:
            return experiment.run(groups, plan.n_processes, store, bar.update)

    def _table(
        self,
        name: str,
        outcome: Outcome,
        methods: Sequence[Method],
        more: Mapping[str, np.ndarray] | None = None,
    ) -> Path:
        rows, predicted = report.compare(name, outcome, methods)
        print(report.text([row for row in rows if row.method != SPECTRUM]))
        print(report.verdict(rows))
        predicted.pop(SPECTRUM, None)
        points = self._points() | dict(more or {})
        return report.write(self.folder, name, outcome, rows, predicted, self.facts, points)

    def _points(self) -> dict[str, np.ndarray]:
        """All points, and which loss term acts on which training point."""
        rows = self.pinn.at(self.train_x).term_rows()
        acting = np.zeros((len(self.train_x), len(rows)), bool)
        for number, places in enumerate(rows.values()):
            acting[places, number] = True
        return {"train_x": self.train_x, "test_x": self.test_x, "acting": acting}

    def _store(self, name: str, experiment: Experiment, groups: list[np.ndarray]) -> StageStore:
        return StageStore(self.folder / STAGES / name, experiment.key(groups))


def _possible(matched: Iterator[Method]) -> list[Method]:
    """The methods with the damping of the proximal term; none where rounding leaves no inverse."""
    try:
        return list(_made(matched))
    except InputError as error:
        print(f"{MATCHED}: left out, as {error}")
        return []


def _made(methods: Iterator[Method]) -> Iterator[Method]:
    """The same methods with predictions that are made at once."""
    for method in methods:
        yield replace(method, predict=partial(np.asarray, method.predict()))
