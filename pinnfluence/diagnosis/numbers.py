"""A report as numbers by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from pinnfluence.diagnosis.findings import Findings
from pinnfluence.diagnosis.new_points import named
from pinnfluence.diagnosis.words import advice, verdict


def numbers(report: Findings) -> dict[str, Any]:
    """All numbers of a report by name, for JSON; the verdict and the advice as they are printed."""
    estimate = report.estimate
    return {
        "verdict": verdict(report),
        "reliable": report.reliable,
        "errors": {
            name: vars(error)
            | {
                "half_width": error.half_width,
                "at_least": error.at_least,
                "reliable": error.reliable,
            }
            for name, error in report.errors.items()
        },
        "terms": {name: vars(term) for name, term in report.terms.items()},
        "weights": report.slopes,
        "measures": {
            name: {"network": before, "corrected": after}
            for name, (before, after) in report.measures.items()
        },
        "unexplained": estimate.unexplained,
        "newton_steps": estimate.n_steps,
        "dampings": [
            {"part_of_largest_eigenvalue": trial.part, "loss": trial.loss}
            for trial in estimate.trials
            if np.isfinite(trial.part)
        ],
        "effective_parameters": report.press.effective,
        "interpolated": report.press.interpolated,
        "damping": report.damping,
        "decrease": report.decrease,
        "advice": advice(report),
        "new_points": named(report),
        "n_fresh": len(report.fresh_x),
        "n_train": len(report.train_x),
        "n_params": report.pinn.n_params,
    }
