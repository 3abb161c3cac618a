"""The page: template, style and script put around the payload, in one file that needs no other.

The script is bundled from the modules in ``web/src`` by ``make explorer-bundle``. It draws on plain
canvases rather than by Bokeh 3.9, whose inline scripts are 1.65 MB: it has no glyph for a field
between scattered points, so that the map, and nearly all of the page besides, would still be code
like this. Here a click multiplies embeddings, and a table of each pixel's triangle turns the values
into an image. Sizes and times: ``docs/performance.md``.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pinnfluence.explorer.payload import TEST_POINTS, build_payload
from pinnfluence.explorer.source_files import find_sources
from pinnfluence.explorer.sources import Source
from pinnfluence.storage.files import write_bytes


def write_explorer(
    path: str | Path,
    score_files: Sequence[str | Path],
    checkpoints: Sequence[str | Path] = (),
    n_test: int = TEST_POINTS,
    rank: int | None = None,
    scripts: Sequence[str] = (),
) -> list[Source]:
    """Write one HTML file that shows any row or column of the influence matrices, without network.

    A click on a training point z_j draws ``Inf(f(x); z_j)`` over the domain, a click on a place x
    draws ``Inf(f(x); z_j)`` of all training points, for any quantity f in the files: positive
    means that removing z_j raises f. The page multiplies embeddings of 16 or 8 bits a number and
    says how far its numbers are from the files'. The same files give the same bytes.

    Points of one coordinate are drawn as high as their influence. Of three or four, the first two
    are drawn, at the points in a slice of the others that sliders choose.

    Args:
        path: the file to write.
        score_files: score files or their folders, one a model. Models of one problem are drawn
            together; a page of several problems has a switch between them.
        checkpoints: of the networks, in the same order; by default that of ``x_influences`` is
            looked for in ``x``. Without one there is no predicted field behind the points.
        n_test: at most so many test points a model, chosen to cover the domain; fewer where the
            file would pass 25 MB.
        rank: embeddings of more factors are reduced to so many; None: as many as 25 MB hold.
        scripts: instead of checkpoints, functions that return the models, as
            ``script.py:function``; the scripts are run. Without ``score_files``, those that
            ``pinnfluence scores`` writes beside the scripts are taken.

    Returns:
        Each score file with its model's name, problem and checkpoint or script.

    Raises:
        InputError: see ``find_sources``.

    >>> write_explorer("explorer.html", ["runs/good_influences"])        # doctest: +SKIP
    """
    sources = find_sources(score_files, checkpoints, scripts)
    write_bytes(path, page(*build_payload(sources, n_test, rank)).encode())
    return sources


def page(description: Mapping[str, Any], blobs: Mapping[str, str]) -> str:
    """The page as text."""
    models = [model for problem in description["problems"] for model in problem["models"]]
    names = [str(model["name"]) for model in models]
    recipes = dict.fromkeys(map(_recipe, models))
    parts = {
        "title": html.escape(f"PINNfluence: {', '.join(names)}"),
        "models": html.escape(" · ".join(names)),
        "recipes": html.escape("; ".join(recipes)),
        "style": _static("style.css"),
        "description": json.dumps(description, sort_keys=False).replace("<", "\\u003c"),
        "blobs": "\n".join(
            f'<script type="text/plain" id="blob-{name}">{text}</script>'
            for name, text in blobs.items()
        ),
        "script": _static("explorer.js"),
    }
    head, *rest = _static("page.html").split("@")
    # Every second piece is a name: the template has no other @.
    texts = [parts[piece] if number % 2 == 0 else piece for number, piece in enumerate(rest)]
    return head + "".join(texts)


def _recipe(model: Mapping[str, Any]) -> str:
    """What a model's recipe is worth, and its settings."""
    names = ("curvature", "rank", "damping", "weighting")
    settings = (f"{name} {model['recipe'][name]}" for name in names if name in model["recipe"])
    return f"{model['note']} ({', '.join(settings) or 'settings not stated'})"


def _static(name: str) -> str:
    return resources.files("pinnfluence.explorer").joinpath("static", name).read_text("utf-8")
