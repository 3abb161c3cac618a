"""The lines and warnings that end a computation of influence scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnfluence.curvature.damping import LIMIT
from pinnfluence.curvature.recipe import AUTO
from pinnfluence.influence.compression import ERROR
from pinnfluence.influence.stationarity import STATIONARITY_LIMIT
from pinnfluence.runtime.memory import peak_bytes
from pinnfluence.scores.file import Scores


def report(scores: Scores, seconds: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Lines on how scores were made and how good they are, and warnings.

    Args:
        scores: with the metadata of ``Influence.influence``.
        seconds: of the stages by name.
    """
    metadata = scores.metadata
    lines = [_recipe_line(scores)]
    if "automatic_damping" in metadata:
        lines.append(_damping_line(metadata["automatic_damping"]))
    if "randomised" in metadata:
        lines.append(_directions_line(metadata["randomised"]))
    if "leverage" in metadata:
        lines.append(_leverage_line(metadata["leverage"]))
    if "compression" in metadata:
        lines += _compression_lines(metadata["compression"], len(scores.test_x))
    found = metadata["stationarity"]
    lines.append(
        f"stationarity: ||grad L|| {found['gradient_norm']:.3g}, median ||grad l_i|| "
        f"{found['median_point_gradient_norm']:.3g}, ratio {found['ratio']:.3g}"
    )
    memory = peak_bytes() / 1e9
    times = ", ".join(f"{name} {s:.1f} s" for name, s in seconds.items())
    return [*lines, f"{times}; peak memory {memory:.2f} GB"], _warnings(metadata)


def _recipe_line(scores: Scores) -> str:
    metadata = scores.metadata
    settings = ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in (
            (key, metadata["recipe"][key]) for key in ("curvature", "weighting", "rank", "damping")
        )
    )
    values, found = scores.eigenvalues, metadata["stationarity"]
    kept = (
        f"{len(values)} eigenvalues from {values[0]:.3g} to {values[-1]:.3g} by "
        f"{metadata['n_products']} products, "
        if len(values)
        else f"full rank, largest eigenvalue {found['largest_eigenvalue']:.3g}, "
    )
    lowest = found["most_negative_eigenvalue"]
    return (
        f"recipe {scores.recipe['name']} ({_worth(metadata['recipe'])}): {settings}; {kept}"
        f"smallest eigenvalue seen {lowest:.3g}"
    )


def _worth(recipe: Mapping[str, Any]) -> str:
    """What scores of a recipe are worth, in a few words; docs/validation.md has the figures."""
    if recipe["weighting"] != "training":
        return "reproduces the paper; hardly predicts retraining"
    if recipe["rank"] == "full":
        return "predicts retraining to first order"
    return "not compared with retraining"


def _damping_line(found: Mapping[str, Any]) -> str:
    here = found["at_value"]
    return (
        f"damping {AUTO}: {found['value']:.3g}, at least {found['floor']:.3g} for rounding and "
        f"negative curvature; left open {here['open']:.2f}, neglected {here['neglected']:.2f} "
        f"(at most {LIMIT:g} each)"
    )


def _directions_line(found: Mapping[str, Any]) -> str:
    line = f"inverse on {found['rank']} directions of the residuals' gradients"
    if "error" in found:
        line += (
            f"; relative error of the scores of {found['n_probes']} of them, 95th percentile: "
            f"{found['error']:.1e}"
        )
    return line


def _leverage_line(found: Mapping[str, float]) -> str:
    return (
        f"leverage of the training points: median {found['median']:.2g}, 95th percentile "
        f"{found['p95']:.2g}, largest {found['largest']:.4g}"
    )


def _compression_lines(found: Mapping[str, Any], n_test: int) -> list[str]:
    n, n_held = found["n_sampled_points"], found["n_held_out_points"]
    source = f" from {n} test points" if n else ""
    held = f"{n_held} others" if n and n + n_held <= n_test else f"{n_held} test points"
    held = "all test points" if n_held == n_test else held
    lines = [
        f"compressed to rank {found['rank']}{source}; errors at {held} of one point's scores, "
        "relative to their norm, median and 95th percentile:"
    ]
    for name, error in found["errors"].items():
        columns, rows = error["training_points"], error["test_points"]
        if not any((*columns.values(), *rows.values())):
            lines.append(f"  {name:12s} no scores: it acts on none of these test points")
            continue
        lines.append(
            f"  {name:12s} training points {columns['median']:.1e} {columns['p95']:.1e}, "
            f"test points {rows['median']:.1e} {rows['p95']:.1e}"
        )
    return lines


def _warnings(metadata: Mapping[str, Any]) -> list[str]:
    found = []
    given = metadata["recipe"]["weighting"] == "training" and "automatic_damping" not in metadata
    if given and metadata["stationarity"]["ratio"] > STATIONARITY_LIMIT:
        found.append(
            "the network is not at a minimum of its loss: training further would change it more "
            "than removing a point does, so that these scores predict retraining poorly; train "
            "until the gradient vanishes, or take --damping auto (docs/trust.md)"
        )
    chosen = metadata.get("automatic_damping")
    if chosen and max(chosen["at_value"].values()) > LIMIT:
        found.append(_no_damping(chosen))
    if n_hidden := metadata.get("leverage", {}).get("n_at_limit", 0):
        found.append(
            f"the leverage of {n_hidden} training points cannot be distinguished from 1: their "
            "scores may be far too small or too large; give a larger --damping"
        )
    directions = metadata.get("randomised", {})
    if directions.get("error", 0.0) > directions.get("limit", 0.0):
        found.append(
            f"scores are less exact than intended: the error of the inverse, "
            f"{directions['error']:.1e}, is above {directions['limit']:g}, because the damping is "
            "small; take --inverse dense or a larger --damping"
        )
    errors = metadata.get("compression", {}).get("errors", {})
    if above := [name for name, e in errors.items() if e["training_points"]["p95"] > ERROR]:
        found.append(
            f"scores of {', '.join(above)} in this file have relative errors above {ERROR:g}, by "
            "compression; Influence.scores(points, quantity) computes exact ones"
        )
    return found


def _no_damping(chosen: Mapping[str, Any]) -> str:
    is_open = chosen["at_value"]["open"] > LIMIT
    return (
        "no damping satisfies the rule, so the largest eigenvalue "
        f"{chosen['largest_eigenvalue']:.3g} was taken: these scores are small and predict "
        "retraining poorly, because the network is far from a minimum, or its points do not "
        "determine it"
        + ("" if is_open else ", or the curvature is far from the Hessian")
        + "; train until the gradient vanishes, or on more points: pinnfluence diagnose says "
        "which (docs/trust.md)"
    )
