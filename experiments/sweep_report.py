"""The tables of ``sweep.py`` in Markdown, and one page of figures.

python experiments/sweep_report.py
python experiments/sweep_report.py --page docs/seven_problems.md      # renews the page's tables

Values are means and standard deviations over seeds. How well a number tells bad networks from good
ones is the area under its curve (AUC): the probability that it is larger for a bad one, 0.5 for
chance. Published values: arXiv 2409.08958v3.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from sweep import RECIPES, RESULTS, VARIANTS
from sweep_tables import Row, markdown, read_rows


def coordinate(problem: str) -> str:
    """Along which the direction eta is measured."""
    return {"poisson_disk": "radius", "flow": "x"}.get(problem, "t")


PUBLISHED = {
    "heat": ((0.46, 0.41), "0.33(2)", "0.26(6)"),
    "allen_cahn": ((0.43, 0.43), "0.50(2)", "0.32(5)"),
    "burgers": ((0.43, 0.43), "0.41(2)", "0.28(2)"),
    "drift_diffusion": ((0.46, 0.46), "0.46(4)", "0.21(6)"),
    "wave": ((0.43, 0.43), "0.41(3)", "0.11(2)"),
    "poisson_disk": ((0.28, 0.28), "0.29(3)", "0.69(6)"),
    "flow": ((0.48, 0.48), "0.15(1)", "0.15(3)"),
}
"""Their eta of u: uniform influence (good, bad); good; bad (last digits of the deviation)."""

CONDITIONS = "conditions"
"""The sum of the loss fractions of all conditions."""


@dataclass(frozen=True)
class Tables:
    """Rows of the three files."""

    networks: list[Row]
    indicators: list[Row]
    agreement: list[Row]

    @classmethod
    def read(cls, folder: Path = RESULTS) -> Tables:
        """From the folder of the tables."""
        return cls(
            *(read_rows(folder / f"{n}.csv") for n in ("network", "indicators", "agreement"))
        )

    @property
    def problems(self) -> list[str]:
        """Their names, in the order of the files."""
        return list(dict.fromkeys(row["problem"] for row in self.networks))

    @property
    def compared(self) -> list[str]:
        """The problems that have both good and bad networks."""
        return [p for p in self.problems if all(self.of_networks("error", p, v) for v in VARIANTS)]

    def of_networks(self, column: str, problem: str, variant: str) -> dict[str, float]:
        """A column of the networks, by seed; quantity u."""
        return {
            row["seed"]: float(row[column])
            for row in self.networks
            if (row["problem"], row["variant"], row["quantity"]) == (problem, variant, "u")
        }

    def of_indicator(
        self, key: tuple[str, str], recipe: str, problem: str, variant: str, column: str = "value"
    ) -> dict[str, float]:
        """An indicator by its name and part, by seed; quantity u."""
        wanted = (problem, variant, recipe, "u", key[0])
        found: dict[str, float] = {}
        for row in self.indicators:
            names = ("problem", "variant", "recipe", "quantity", "indicator")
            if tuple(row[n] for n in names) == wanted and _is_part(row["part"], key[1]):
                found[row["seed"]] = found.get(row["seed"], 0.0) + float(row[column])
        return found


def _is_part(part: str, wanted: str) -> bool:
    """Whether a row is of the part; conditions are all loss terms but those of the equation."""
    return part not in EQUATIONS if wanted == CONDITIONS else part == wanted


EQUATIONS = {
    *("heat", "burgers", "allen_cahn", "drift_diffusion", "wave", "poisson", "convection"),
    *("continuity", "momentum_x", "momentum_y"),
}
"""Loss terms that are equations; the others are conditions."""

Measure = Callable[[Tables, str, str], dict[str, float]]


def measures() -> dict[str, Measure]:
    """Numbers that might tell a bad network from a good one, by name."""
    found: dict[str, Measure] = {}
    for recipe in RECIPES:
        for name, (indicator, part) in {
            "direction": ("direction", ""),
            "loss fraction of conditions": ("loss fraction", CONDITIONS),
            "cancellation": ("cancellation", ""),
            "region ratio, from conditions": ("region ratio", "conditions -> interior"),
            "proximity": ("proximity", ""),
            "mean size": ("mean of |Inf|", ""),
        }.items():
            found[f"{name}, {recipe}"] = _indicator(recipe, indicator, part)
    found["loss on the training points"] = lambda t, p, v: t.of_networks("loss", p, v)
    found["loss on fresh points"] = lambda t, p, v: t.of_networks("fresh_loss", p, v)
    found["estimated error"] = lambda t, p, v: t.of_networks("estimated", p, v)
    return found


def _indicator(recipe: str, indicator: str, part: str) -> Measure:
    def measure(tables: Tables, problem: str, variant: str) -> dict[str, float]:
        key = (indicator, part or ("" if indicator != "direction" else coordinate(problem)))
        return tables.of_indicator(key, recipe, problem, variant)

    return measure


def auc(bad: np.ndarray, good: np.ndarray) -> float:
    """Probability that a number of ``bad`` exceeds one of ``good``; equal ones count half."""
    if not len(bad) or not len(good):
        return float("nan")
    return float((bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean())


def separation(tables: Tables) -> dict[str, dict[str, float]]:
    """AUC by measure and problem."""
    found: dict[str, dict[str, float]] = {}
    for name, measure in measures().items():
        for problem in tables.compared:
            good, bad = (_array(measure(tables, problem, v)) for v in ("good", "bad"))
            found.setdefault(name, {})[problem] = auc(bad, good)
    return found


def rank_with_error(tables: Tables) -> dict[str, float]:
    """Spearman's correlation of each measure with the true error over all networks."""
    found = {}
    for name, measure in measures().items():
        pairs = [
            (measure(tables, p, v)[seed], error)
            for p in tables.problems
            for v in VARIANTS
            for seed, error in tables.of_networks("error", p, v).items()
            if seed in measure(tables, p, v)
        ]
        known = len(pairs) > 1
        found[name] = float(stats.spearmanr(*np.array(pairs).T).statistic) if known else np.nan
    return found


def _array(values: dict[str, float]) -> np.ndarray:
    return np.array(list(values.values()))


def spread(values: dict[str, float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds."""
    if not values:
        return ""
    array = _array(values)
    deviation = f" ± {array.std(ddof=1):.{digits}f}" if len(array) > 1 else ""
    return f"{array.mean():.{digits}f}{deviation}"


def ends(values: dict[str, float]) -> str:
    """The geometric mean and both ends, of numbers over decades."""
    array = _array(values)
    middle = np.exp(np.log(array).mean())
    return f"{middle:.2g} [{array.min():.2g}, {array.max():.2g}]"


def network_table(tables: Tables) -> str:
    """How good the networks are."""
    header = ["problem", "variant", "seeds", "points", "parameters"]
    header += ["error of u", "estimated", "lower bound over error", "reliable"]
    rows = []
    for p in tables.problems:
        for v in VARIANTS:
            error, guess, least, reliable = (
                tables.of_networks(c, p, v) for c in ("error", "estimated", "at_least", "reliable")
            )
            sizes = [tables.of_networks(c, p, v) for c in ("n_train", "n_params")]
            numbers = [f"{next(iter(size.values())):.0f}" for size in sizes if size]
            if error:
                bound = max(least[seed] / error[seed] for seed in error)
                known = f"{sum(reliable.values()):.0f} of {len(reliable)}"
                cells = [ends(error), ends(guess), f"at most {bound:.2g}", known]
                rows.append([p, v, str(len(error)), *numbers, *cells])
    return markdown(header, rows)


INDICATOR_COLUMNS = ("uniform: good, bad", *(f"{r}: {v}" for r in RECIPES for v in VARIANTS))


def indicator_cells(tables: Tables, key: tuple[str, str], p: str) -> list[str]:
    """An indicator of a problem by uniform influence, then by recipe and variant."""
    base = [tables.of_indicator(key, "paper", p, v, "uniform") for v in VARIANTS]
    means = ", ".join(f"{_array(b).mean():.2f}" for b in base if b)
    return [means, *(spread(tables.of_indicator(key, r, p, v)) for r in RECIPES for v in VARIANTS)]


def direction_table(tables: Tables) -> str:
    """eta beside the published one."""
    header = ["problem", "published: uniform, good, bad", *INDICATOR_COLUMNS]
    rows = []
    for p in tables.problems:
        known = PUBLISHED.get(p)
        published = f"{known[0][0]}, {known[1]}, {known[2]}" if known else ""
        key = ("direction", coordinate(p))
        rows.append([f"{p} ({coordinate(p)})", published, *indicator_cells(tables, key, p)])
    return markdown(header, rows)


def term_table(tables: Tables) -> str:
    """Loss fractions of the conditions, and cancellation."""
    header = ["problem", "number", *INDICATOR_COLUMNS]
    rows = []
    for p in tables.problems:
        for name, key in (
            ("r of the conditions", ("loss fraction", CONDITIONS)),
            ("kappa", ("cancellation", "")),
        ):
            rows.append([p, name, *indicator_cells(tables, key, p)])
    return markdown(header, rows)


def agreement_table(tables: Tables) -> str:
    """Spearman's correlation of scores with retraining."""
    header = ["problem", "variant", "weight", "removed", *RECIPES, "proximal response"]
    rows = []
    for p in tables.problems:
        for v in VARIANTS:
            chosen = [r for r in tables.agreement if (r["problem"], r["variant"]) == (p, v)]
            by = {r["recipe"]: r for r in chosen if r["recipe"] != "none"}
            if by:
                first = next(iter(by.values()))
                cells = [
                    f"{float(by[n]['spearman']):.3f} [{float(by[n]['low']):.2f}, "
                    f"{float(by[n]['high']):.2f}]"
                    if n in by
                    else ""
                    for n in (*RECIPES, "proximal response")
                ]
                rows.append([p, v, f"{float(first['proximal']):g}", first["n"], *cells])
            elif chosen:
                rows.append([p, v, "none converged", "0", "", "", ""])
    return markdown(header, rows)


def separation_table(tables: Tables) -> str:
    """AUC of all numbers on all problems, and their rank correlation with the true error."""
    found, ranks = separation(tables), rank_with_error(tables)
    header = ["number", *tables.compared, "order right on", "Spearman with the error"]
    rows = []
    for name, by_problem in found.items():
        areas = [by_problem[p] for p in tables.compared]
        n = max(sum(a >= 0.9 for a in areas), sum(a <= 0.1 for a in areas))
        cells = ["" if np.isnan(a) else f"{a:.2f}" for a in areas]
        rows.append([name, *cells, f"{n} of {len(areas)}", f"{ranks[name]:.2f}"])
    return markdown(header, rows)


TABLES = {
    "networks": network_table,
    "direction": direction_table,
    "loss terms": term_table,
    "agreement": agreement_table,
    "separation": separation_table,
}


def renewed(page: str, tables: Tables) -> str:
    """A page in Markdown with the tables after its marks ``<!-- table: NAME -->`` made anew."""
    for name, table in TABLES.items():
        mark = f"<!-- table: {name} -->\n"
        before, found, after = page.partition(mark)
        rest = after.partition("\n\n")[2]
        page = f"{before}{mark}{table(tables)}\n\n{rest}" if found else page
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables of the sweep.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, help="a page whose tables are renewed")
    arguments = parser.parse_args()
    tables = Tables.read(arguments.results)
    if arguments.page is not None:
        arguments.page.write_text(renewed(arguments.page.read_text(), tables))
        return
    for name, table in TABLES.items():
        print(f"## {name}\n\n{table(tables)}\n")


if __name__ == "__main__":
    main()
