"""Tables of the sweep as CSV files: rows of a network, collected from all of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

Row = dict[str, Any]

TABLES = ("network.csv", "indicators.csv", "agreement.csv")
KEY = ("problem", "variant", "seed")


def table(runs: Path, results: Path) -> None:
    """Collect the rows of all networks into one file of each kind."""
    for name in TABLES:
        made = [row for path in sorted(runs.glob(f"*/*/*/{name}")) for row in read_rows(path)]
        new = {tuple(row[k] for k in KEY) for row in made}
        kept = read_rows(results / name) if (results / name).exists() else []
        rows = [row for row in kept if tuple(row[k] for k in KEY) not in new] + made
        if rows:
            write(results / name, sorted(rows, key=lambda row: [row[k] for k in KEY]))


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV, all values as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    """Rows as CSV, whole or not at all; numbers with 6 digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    part.replace(path)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
