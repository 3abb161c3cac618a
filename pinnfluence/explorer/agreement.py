"""How well scores predicted retraining, where their model was validated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pinnfluence.errors import InputError

RESULTS = "headline.json"
"""In the folder of a validation: the table of the smallest proximal weight that converged."""

PUBLISHED = "validation.json"
"""In the folder of a model: some rows of such a table, kept with its weights."""

DAMPING_FACTOR = 3.0
"""A validation is about scores whose damping is at most so many times larger or smaller: a model
that is polished before it is retrained has a smaller one."""

SETTINGS = ("curvature", "weighting", "rank")


def find_agreement(metadata: Mapping[str, Any], files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Spearman's correlation of predicted with actual changes, by quantity.

    Args:
        metadata: of the scores. A file counts if it is about their checkpoint, or about the model
            of their script. A row of the file counts if curvature, weighting and rank are those of
            their recipe, and the damping is about the same.
        files: of which the first that counts is taken.

    Returns:
        By quantity: ``spearman`` with its interval of 95 %, ``low`` to ``high``, over ``n_groups``
        removals that were retrained with the weight ``proximal`` of the proximal term, and whether
        the model was ``polished`` before; empty where nothing is known.

    Raises:
        InputError: a file that is no table of a validation.
    """
    recipe, damping = metadata.get("recipe", {}), metadata.get("damping")
    if recipe.get("leverage") or damping is None:
        return {}
    for file in files:
        if not file.is_file():
            continue
        try:
            table = json.loads(file.read_bytes())
            rows = [row for row in table["rows"] if row["method"] == recipe.get("base")]
            if _model_of(table) == _model_of(metadata):
                polished = "polished" in table
                return {
                    row["quantity"]: _short(row) | {"polished": polished}
                    for row in rows
                    if _is_of(row, recipe, damping)
                }
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"expected the table of a validation in {file}, found another file; run "
                "pinnfluence validate again, or move it away"
            ) from None
    return {}


def _model_of(metadata: Mapping[str, Any]) -> tuple[Any, Any]:
    checkpoint, script = metadata.get("checkpoint", {}), metadata.get("script", {})
    return checkpoint.get("sha256"), script.get("identity")


def _is_of(row: Mapping[str, Any], recipe: Mapping[str, Any], damping: float) -> bool:
    same = all(row[name] == recipe.get(name) for name in SETTINGS)
    return same and 1 / DAMPING_FACTOR <= row["damping"] / damping <= DAMPING_FACTOR


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = (float(row["spearman"][name]) for name in ("value", "low", "high"))
    kept = {name: row[name] for name in ("quantity", "proximal", "n_groups")}
    return kept | {"spearman": value, "low": low, "high": high}
