"""The runs of ``resampling.py`` as a table and a figure.

python experiments/resampling_report.py

Errors spread over decades, so means and differences are those of their logarithms: geometric means,
and factors between two strategies from the differences seed by seed, with 95 % intervals of
Student's t: of the errors at the end, and of their geometric mean over all cycles.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from resampling import RESULTS, SETUPS, STRATEGIES, read
from scipy import stats

from pinnfluence.plots.style import save

OURS = "influence"
NAMES = ("influence", "rard", "rad", "rar", "random", "static", "published", "r3")
COLOURS = {name: f"C{number}" for number, name in enumerate(NAMES)} | {"r3": "black"}
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "resampling.png"
Rows = Sequence[dict[str, Any]]


def curves(rows: Rows, problem: str, mode: str) -> dict[str, dict[int, np.ndarray]]:
    """Errors after each cycle, by strategy and seed."""
    found: dict[str, dict[int, np.ndarray]] = {name: {} for name in STRATEGIES[mode]}
    for row in rows:
        if (row["problem"], row["mode"]) == (problem, mode):
            found[row["strategy"]][row["seed"]] = np.array(row["errors"])
    return {name: by_seed for name, by_seed in found.items() if by_seed}


def factor(
    theirs: dict[int, np.ndarray], ours: dict[int, np.ndarray], cycles: slice
) -> tuple[float, ...]:
    """Their errors over ours, seed by seed: geometric mean, lower and upper end, and seeds.

    Args:
        cycles: whose geometric mean is compared.
    """
    seeds = sorted(theirs.keys() & ours.keys())
    logs = np.array([np.log(theirs[s][cycles] / ours[s][cycles]).mean() for s in seeds])
    half = np.inf
    if len(logs) > 1:
        half = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5)
    middle = float(logs.mean()) if len(logs) else np.nan
    return (*(float(np.exp(v)) for v in (middle, middle - half, middle + half)), len(seeds))


def table(rows: Rows) -> str:
    """Markdown: the last errors of all strategies, and their factors over ours."""
    lines = [
        "| problem, mode | strategy | error | over influence, 95 % | over all cycles | seeds |",
        "|" + "---|" * 6,
    ]
    for problem in SETUPS:
        for mode in STRATEGIES:
            found = curves(rows, problem, mode)
            for name, by_seed in found.items():
                last = np.exp(np.mean([np.log(errors[-1]) for errors in by_seed.values()]))
                cells = ["", ""]
                if name != OURS:
                    parts = slice(-1, None), slice(1, None)
                    factors = [factor(by_seed, found.get(OURS, {}), part) for part in parts]
                    cells = [_cell(*f) for f in factors]
                line = [f"{problem}, {mode}", name, f"{last:.2e}", *cells, str(len(by_seed))]
                lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def _cell(middle: float, low: float, high: float, n: float) -> str:
    return f"{middle:.3g} [{low:.2g}, {high:.2g}]" if n > 1 else f"{middle:.3g}"


def figure(rows: Rows) -> plt.Figure:
    """Error against number of points (of cycles, where points are replaced): mean and band."""
    pairs = [(p, m) for p in SETUPS for m in STRATEGIES if curves(rows, p, m)]
    n_rows = -(-len(pairs) // 3)
    n_columns = min(3, len(pairs))
    size = (4.2 * n_columns, 3.4 * n_rows)
    canvas, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(pairs) :]:
        ax.remove()
    for (problem, mode), ax in zip(pairs, axes.flat, strict=False):
        setup = SETUPS[problem]
        for name, by_seed in curves(rows, problem, mode).items():
            logs = np.log(list(by_seed.values()))
            middle, spread = logs.mean(0), logs.std(0)
            x = np.arange(logs.shape[1]) * (setup.add if mode == "add" else 1)
            x = x + (setup.begin if mode == "add" else 0)
            ax.semilogy(x, np.exp(middle), label=name, color=COLOURS[name])
            ends = np.exp(middle - spread), np.exp(middle + spread)
            ax.fill_between(x, *ends, color=COLOURS[name], alpha=0.15, linewidth=0)
        ax.set(title=f"{problem}, {mode}", ylabel="relative L2 error")
        ax.set_xlabel("points" if mode == "add" else "cycles")
        ax.legend(fontsize="small")
    canvas.tight_layout()
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description="Table and figure of the runs of resampling.py.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    rows = read(arguments.results)
    print(table(rows))
    save(figure(rows), arguments.figure, dpi=100)


if __name__ == "__main__":
    main()
