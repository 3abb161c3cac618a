"""Made-up results of a validation with known agreement, for tests of files and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pinnfluence.validation import report
from pinnfluence.validation.experiments import Outcome, Settings
from pinnfluence.validation.predictions import Method
from pinnfluence.validation.results import MATCHED, SPECTRUM

N_GROUPS, N_TEST, N_TRAIN = 30, 12, 80
NOISE = {"paper": 3.0, "gauss-newton": 0.3, MATCHED: 0.01, "random scores": 1e6}
WORST = 4
"""The group that gauss-newton predicts with the wrong sign."""

LOST = 7
"""The group whose retraining did not converge."""


def outcome_of(proximal: float = 1e-5) -> Outcome:
    """Changes of two quantities, of sizes from 1e-6 to 1e-3."""
    generator = np.random.default_rng(0)
    sizes = np.logspace(-6, -3, N_GROUPS)[:, None, None]
    changes = sizes * generator.standard_normal((N_GROUPS, N_TEST, 2))
    converged = np.arange(N_GROUPS) != LOST
    groups = [np.array([2 * i]) for i in range(N_GROUPS)]
    control = {"loss": 3e-7, "drift": [2e-5, 4e-6], "loss_before": 4e-7, "converged": True}
    norms = np.full(N_GROUPS, 1e-9)
    return Outcome(Settings(proximal), groups, ("u", "v"), changes, norms, converged, control)


def methods_of(outcome: Outcome, with_spectrum: bool = False) -> list[Method]:
    """Predictions that are the changes with so much noise, and a spectrum of two matrices."""

    def method(
        name: str, noise: float, curvature: str, weighting: str, rank: int | str, damping: float
    ) -> Method:
        generator = np.random.default_rng(1)
        changes = outcome.changes
        typical = np.abs(changes).mean(1, keepdims=True)
        predicted = changes + noise * typical * generator.standard_normal(changes.shape)
        if name == "gauss-newton":
            predicted[WORST] = -changes[WORST]
        return Method(name, curvature, weighting, rank, damping, lambda: predicted)

    found = [
        method(name, noise, "hessian", "uniform", 50, 1e-6)
        if name == "paper"
        else method(name, noise, "gauss-newton", "training", "full", 1e-8)
        for name, noise in NOISE.items()
    ]
    if with_spectrum:
        found += [
            method(SPECTRUM, noise, curvature, weighting, rank, damping)
            for curvature in ("hessian", "gauss-newton")
            for weighting in ("uniform", "training")
            for rank in (10, 50, "full")
            for damping, noise in ((1e-4, 2.0), (1e-6, 1.0), (1e-8, 0.5))
        ]
    return found


def write_results(
    folder: Path, name: str = "headline", proximal: float = 1e-5, with_spectrum: bool = False
) -> Path:
    """A file of results as ``validate.py`` would write it."""
    outcome = outcome_of(proximal)
    rows, predicted = report.compare(name, outcome, methods_of(outcome, with_spectrum))
    predicted.pop(SPECTRUM, None)
    generator = np.random.default_rng(2)
    acting = np.ones((N_TRAIN, 2), bool)
    acting[20:, 1] = False
    points = {
        "train_x": generator.random((N_TRAIN, 2)),
        "test_x": generator.random((N_TEST, 2)),
        "acting": acting,
        "leverages": np.linspace(0.05, 0.9, N_GROUPS),
    }
    facts = {"n_train": N_TRAIN, "n_params": 400, "terms": ("pde", "edge")}
    return report.write(folder, name, outcome, rows, predicted, facts, points)
