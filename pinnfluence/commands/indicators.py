"""Indicators of a score file, as a table.

pinnfluence indicators model_zoo/good_influences
pinnfluence indicators runs/heat_influences --sign adding --scale paper --csv indicators.csv
"""

from __future__ import annotations

import math
from pathlib import Path

from pinnfluence.commands import COMMANDS
from pinnfluence.errors import InputError
from pinnfluence.runtime.script import Parser
from pinnfluence.scores.convention import SCALES, SIGNS


def make_parser() -> Parser:
    parser = Parser(description=COMMANDS["indicators"])
    add = parser.add_argument
    add("scores", type=Path, help="a score file of pinnfluence scores, or its folder")
    add("--quantities", nargs="+", help="what is influenced (default: the outputs)")
    add("--center", type=float, nargs="+", help="point from which the radius is measured")
    add("--sign", choices=SIGNS, default="removal", help="the effect of removing or adding a point")
    scales = "removal: Inf; paper: n_train Inf; file: Inf of the loss with all weights 1"
    add("--scale", choices=SCALES, default="removal", help=f"{scales} (default: removal)")
    add("--csv", type=Path, help="file for the same table")
    return parser


def main() -> None:
    arguments = make_parser().parse_args()

    from pinnfluence.plots.tables import write_csv  # here: the help comes at once
    from pinnfluence.scores.file import Scores, load_scores
    from pinnfluence.scores.indicators import readings

    try:
        scores = load_scores(arguments.scores)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from None
    if not isinstance(scores, Scores):
        raise InputError(f"{arguments.scores} holds no loss terms: expected a .safetensors file")
    if unknown := [name for name in arguments.quantities or [] if name not in scores]:
        raise InputError(f"no quantity {unknown[0]!r}, expected some of {', '.join(scores)}")
    center = None if arguments.center is None else tuple(arguments.center)
    n_inputs = scores.train_x.shape[1]
    if center is not None and len(center) != n_inputs:
        raise InputError(f"expected --center of {n_inputs} coordinates, found {len(center)}")
    rows = readings(scores, arguments.quantities, center, arguments.sign, arguments.scale)
    print(f"{'quantity':12s} {'indicator':16s} {'part':24s} {'value':>12s} {'uniform':>12s}")
    for row in rows:
        names = f"{row.quantity:12s} {row.indicator:16s} {row.part:24s}"
        print(f"{names} {_number(row.value)} {_number(row.uniform)}")
    print(_legend(arguments.sign, arguments.scale))
    if arguments.csv is not None:
        print(f"wrote {write_csv(rows, arguments.csv)}")


def _number(value: float) -> str:
    """A column; without a number where there are no points to take it from."""
    return f"{'-' if math.isnan(value) else format(value, '.4g'):>12s}"


def _legend(sign: str, scale: str) -> str:
    change = "removing" if sign == "removal" else "adding"
    unit = "" if scale == "removal" else f", in the scale {scale!r}"
    return (
        f"mean, mean of |Inf|: in the unit of the quantity{unit}; a positive mean: {change} a "
        "point raises it. All others: shares, 0 to 1.\nuniform: the same if every point had the "
        "same influence. -: no such points. Formulas: docs/reading_scores.md#indicators"
    )
