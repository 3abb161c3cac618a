"""In which sign and scale scores are read out; a score file itself has one, that of removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnfluence.errors import InputError

SIGNS = ("removal", "adding")
"""``removal``: positive where taking the point away raises f. ``adding``: the other sign."""

SCALES = ("removal", "paper", "file")
"""``removal``: Inf, the first-order change of f. ``paper``: n_train Inf, with the mean of the
points' curvatures in the place of their sum. ``file``: Inf of the loss whose weights are all 1, as
in the authors' score files."""


def factor_of(sign: str, scale: str, n_train: int, recipe: Mapping[str, Any] | None) -> int:
    """What scores ``Inf ~ f(theta without z) - f(theta)`` are multiplied by.

    Args:
        sign, scale: of ``SIGNS`` and ``SCALES``.
        n_train: number of training points.
        recipe: settings that made the scores; None: of a dense file, which is as it is.

    Raises:
        InputError: unknown words; the scale ``file`` of scores of a weighted loss, which no factor
            turns into those of the unweighted one.
    """
    for name, word, known in (("sign", sign, SIGNS), ("scale", scale, SCALES)):
        if word not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, found {word!r}")
    weighting = (recipe or {}).get("weighting")
    if scale == "file" and weighting not in (None, "uniform"):
        raise InputError(
            f"the scale file is that of a loss with all weights 1, these scores have the weighting "
            f"{weighting}: take the scale removal, or make scores with --weighting uniform"
        )
    size = n_train if scale == "paper" else 1
    return size if sign == "removal" else -size
