"""How the points of a model's training were drawn: others of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from pinnfluence.errors import InputError
from pinnfluence.models.deepxde.drawing import INSIDE, Draw, drawing
from pinnfluence.problem.parts import NUMBERS

N_PLACES = 4000
"""Points at which errors are looked at."""


def sampler_of(model: Any, inside: bool = False) -> Draw:
    """Draws points as the training of a model did that knows its domain.

    That is a ``TrainedModel``, a ``dde.Model``, or a script's model that is one.

    Pseudo-random ones: DeepXDE's Hammersley points do not depend on the seed.

    Args:
        inside: only points inside the domain, evenly spread (Hammersley), for averages over it.

    Raises:
        InputError: nothing says where its points came from.
    """
    from pinnfluence.models.deepxde.model import geometry  # DeepXDE takes seconds to import

    data: Any = getattr(getattr(model, "given", model), "data", None)
    if getattr(model, "problem", None) is not None:
        domain = geometry(model.problem.domain)
        found = model.problem.sampling.numbers | {
            name: n for name, n in model.config.stated().items() if name in NUMBERS
        }
        numbers = [found[name] for name in reversed(NUMBERS)]
    elif data is not None and getattr(data, "geom", None) is not None:
        domain = data.geom
        numbers = [getattr(data, name, 0) or 0 for name in reversed(NUMBERS)]
    else:
        raise InputError(
            "expected a model whose points can be drawn anew, found one without a domain: give "
            "your own fresh points, --fresh_model or --fresh_x_path (in Python fresh_x)"
        )
    return drawing(domain, INSIDE, "Hammersley") if inside else drawing(domain, numbers, "pseudo")


def places_of(model: Any, otherwise: np.ndarray) -> np.ndarray:
    """Points spread evenly over a model's domain; other ones where nothing draws them."""
    try:
        return sampler_of(model, inside=True)(N_PLACES, 0)
    except InputError:
        return otherwise
