"""What a trained model learned: its training, its errors, its physics; as a table.

python -m pinnfluence.models.report model_zoo/good model_zoo/bad

prints the table as Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.models.trained_model import TrainedModel, load_model
from pinnfluence.problem.labels import distinct
from pinnfluence.problem.reference import Reference
from pinnfluence.reference.comparison import relative_l2, with_quantities
from pinnfluence.runtime.script import Parser, run_script
from pinnfluence.storage.checkpoint import HISTORY
from pinnfluence.training.history import read_history

Report = dict[str, dict[str, str]]
"""Cells by row name, in named groups of rows."""


def model_report(model: TrainedModel, reference: Reference | None = None) -> Report:
    """Groups ``training``, ``relative L2 error``, ``loss`` and what the problem itself measures.

    Errors are over the area; measures stand with their relative difference to the benchmark, if
    the problem names one; loss terms are unweighted means of squared residuals.
    """
    report = {"training": _training(model)}
    if reference is not None:
        report["relative L2 error"] = _errors(model, reference)
    if model.problem.measures is not None:
        measures = model.problem.measures(model.fields)
        report["measure"] = _beside(measures, model.problem.benchmark)
    losses = model.mean_losses()
    losses["sum"] = sum(losses.values())
    report["mean squared residual"] = {name: f"{loss:.2e}" for name, loss in losses.items()}
    return report


def _training(model: TrainedModel) -> dict[str, str]:
    config, rows = model.config, {"training points": f"{len(model.train_x):,}"}
    phase, _, step = model.path.stem.partition("-")
    if step.isdigit():
        rows["last step"] = f"{phase} {int(step):,}"
    rows["dtype, device"] = f"{config.dtype or '?'}, {config.device or '?'}"
    history = read_history(model.path.with_name(HISTORY))
    if history:
        rows["hours"] = f"{history['seconds'][-1] / 3600:.2f}"
    return rows


def _errors(model: TrainedModel, reference: Reference) -> dict[str, str]:
    predicted: Mapping[str, np.ndarray] = model.predict(reference.points)
    target: Mapping[str, np.ndarray] = reference.values
    if set(model.problem.outputs) <= set(target):
        predicted, target = (
            with_quantities(model.problem, reference.points, fields)
            for fields in (predicted, target)
        )
    return {
        name: _percent(relative_l2(predicted[name], values, reference.area))
        for name, values in target.items()
    }


def _percent(share: float, sign: str = "") -> str:
    """Percent to two decimals and three digits at most; small ones to two digits."""
    value, size = 100 * share, abs(100 * share)
    if size >= 1000:
        return "> 10x"
    if 0 < size < 0.1:
        return f"{value:{sign}.2g} %"
    decimals = 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:{sign}.{decimals}f} %"


def _beside(measures: Mapping[str, float], benchmark: Mapping[str, float]) -> dict[str, str]:
    return {
        name: f"{value:.4g} ({_percent(value / benchmark[name] - 1, '+')})"
        if name in benchmark
        else f"{value:.4g}"
        for name, value in measures.items()
    }


def markdown(reports: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """A Markdown table: models across, rows down, groups in front of their rows' names."""
    names = list(
        dict.fromkeys(
            (group, row) for report in reports.values() for group in report for row in report[group]
        )
    )
    lines = ["| | " + " | ".join(f"`{model}`" for model in reports) + " |"]
    lines.append("|---|" + "---|" * len(reports))
    for group, row in names:
        cells = [report.get(group, {}).get(row, "") for report in reports.values()]
        label = row if group == "training" else f"{group}: {row}"
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of the models in the given folders."""
    about = "What models learned, as one table in Markdown."
    parser = Parser(prog="python -m pinnfluence.models.report", description=about)
    parser.add_argument("models", type=Path, nargs="+", help="folders or checkpoints")
    reports: dict[str, Any] = {}
    paths = parser.parse_args(arguments).models
    for path, name in zip(paths, distinct([path.resolve().name for path in paths]), strict=True):
        model = load_model(path)
        reference = model.problem.reference
        reports[name] = model_report(model, reference() if reference else None)
    print(markdown(reports))


if __name__ == "__main__":
    run_script(main)
