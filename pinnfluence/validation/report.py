"""The evidence as tables: agreement of methods with retraining, written as data and as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.storage.files import write_bytes, write_npz
from pinnfluence.validation.agreement import Comparison
from pinnfluence.validation.experiments import Outcome
from pinnfluence.validation.predictions import OF_THE_REST, Method
from pinnfluence.validation.results import FORMAT_VERSION, PREDICTED, Row

RECIPES = {
    "gauss-newton": "gauss-newton",
    f"gauss-newton{OF_THE_REST}": "gauss-newton --leverage",
    "paper": "paper",
}
"""Methods that are recipes, and the flags of ``pinnfluence scores`` that choose them."""


def compare(
    experiment: str, outcome: Outcome, methods: Iterable[Method]
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Rows of all methods and quantities, and the predictions of each method by name.

    Only groups whose retraining converged enter.
    """
    rows, predictions = [], {}
    good = outcome.converged
    comparisons = [
        Comparison(outcome.changes[good, :, number]) for number in range(len(outcome.quantities))
    ]
    for method in methods:
        predicted = method.predict()[: len(outcome.changes)]
        predictions[method.name] = predicted.astype(np.float32)
        rows += [
            Row(
                experiment,
                outcome.settings.proximal,
                quantity,
                method.name,
                method.curvature,
                method.weighting,
                method.rank,
                method.damping,
                comparison.of(predicted[good, :, number]),
            )
            for number, (quantity, comparison) in enumerate(
                zip(outcome.quantities, comparisons, strict=True)
            )
        ]
    return rows, predictions


def text(rows: Sequence[Row]) -> str:
    """A table for the terminal: one line a row.

    By point and by test: the median correlation with its interval, and the 5 % quantile.
    """
    lines = [
        f"{'method':34s} {'matrix':12s} {'weights':9s} {'rank':>5s} {'damping':>8s} "
        f"{'quantity':8s} {'Pearson':23s} {'Spearman':23s} {'slope':23s} "
        f"{'by point, its 5 %':30s} {'by test point, its 5 %'}"
    ]
    for row in rows:
        found = row.agreement
        lines.append(
            f"{row.method:34s} {row.curvature:12s} {row.weighting:9s} {row.rank!s:>5s} "
            f"{row.damping:8.1e} {row.quantity:8s} {found.pearson!s:23s} {found.spearman!s:23s} "
            f"{found.slope!s:23s} {found.by_group!s:30s} {found.by_test!s}"
        )
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """How well each recipe's scores predict retraining, in one line."""
    found = []
    for method, flags in RECIPES.items():
        known = [
            f"{r.quantity} {r.agreement.spearman.value:.2f}" for r in rows if r.method == method
        ]
        if known:
            found.append(f"{flags}: {', '.join(known)}")
    return (
        "Do scores predict retraining? Rank correlation (Spearman; 1: they order all changes "
        f"rightly, 0: not at all) of --recipe {'; '.join(found)}"
    )


def outcome_line(outcome: Outcome) -> str:
    """What retraining reached, in one line."""
    control = outcome.control
    n, n_good = len(outcome.converged), int(outcome.converged.sum())
    drift = ", ".join(
        f"{name} {value:.2e}"
        for name, value in zip(outcome.quantities, control["drift"], strict=True)
    )
    head = (
        f"proximal {outcome.settings.proximal:.0e}: control "
        f"{'converged' if control['converged'] else 'did not converge'}, "
        f"||grad F|| {control['gradient_norm']:.1e} (stated {control['tolerance']:.1e}), "
        f"loss {control['loss_before']:.3e} -> {control['loss']:.3e}, drift {drift}"
    )
    if not n:
        return head
    return (
        f"{head}; {n_good} of {n} retrainings converged, median ||grad F|| "
        f"{np.median(outcome.gradient_norms):.1e}, mean change "
        f"{np.abs(outcome.changes[outcome.converged]).mean():.2e}"
    )


def write(
    folder: Path,
    name: str,
    outcome: Outcome,
    rows: Sequence[Row],
    predictions: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
    points: Mapping[str, np.ndarray],
) -> Path:
    """One file an experiment: ``<name>.npz`` with arrays and its table as JSON; see ``Results``.

    Arrays: removed (indices, groups one after another), sizes, changes, gradient_norms, converged,
    leverages (nan where the points have none), ``predicted_<method>``, and the points: train_x,
    test_x, acting; ``facts`` has the rest as JSON, with ``rows``.
    """
    whole = dict(facts) | {
        "format_version": FORMAT_VERSION,
        "settings": asdict(outcome.settings),
        "quantities": outcome.quantities,
        "control": outcome.control,
        "rows": [row.flat() for row in rows],
    }
    arrays = {
        "removed": np.concatenate([np.zeros(0, int), *outcome.groups]).astype(np.int32),
        "sizes": np.array([len(g) for g in outcome.groups], np.int32),
        "changes": outcome.changes.astype(np.float32),
        "gradient_norms": outcome.gradient_norms,
        "converged": outcome.converged,
        "leverages": np.full(len(outcome.groups), np.nan),
        "facts": np.frombuffer(json.dumps(whole, sort_keys=True).encode(), np.uint8),
    }
    arrays |= points
    arrays |= {PREDICTED + method: values for method, values in predictions.items()}
    path = folder / f"{name}.npz"
    write_npz(path, arrays)
    write_bytes(folder / f"{name}.json", json.dumps(whole, sort_keys=True, indent=1).encode())
    return path
