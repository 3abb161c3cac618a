"""What belongs to a score file: its name, its problem, its network, its reference solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pinnfluence.diagnosis import files
from pinnfluence.diagnosis.new_points import around
from pinnfluence.diagnosis.quantities import changes, evaluate, quantities_of
from pinnfluence.errors import input_errors
from pinnfluence.explorer.agreement import PUBLISHED, RESULTS, find_agreement
from pinnfluence.explorer.integrals import IntegralEmbedding, embed_integrals
from pinnfluence.models.model import Model
from pinnfluence.models.script import ScriptModel
from pinnfluence.models.trained_model import load_model
from pinnfluence.problem.problem import Problem
from pinnfluence.reference.comparison import match_points, with_quantities
from pinnfluence.runtime.executor import BATCH_SIZE
from pinnfluence.scores.file import Scores

SUFFIX = "_influences"
"""Scores of the model ``good`` lie in the folder ``good_influences`` beside it."""


NEW_POINT = "a new point"
"""What the page calls the field that says where one would help."""

LETTERS = "xyzt"
"""Coordinates of a file that does not name them; there are no more than these."""


@dataclass(frozen=True)
class Source:
    """A score file with its model's name, its problem (None for an unknown one) and checkpoint.

    script: instead of a checkpoint, the model that a user's own script returned.
    """

    name: str
    scores: Scores
    problem: Problem | None = None
    checkpoint: Path | None = None
    script: ScriptModel | None = None

    @property
    def origin(self) -> str:
        """Where its predicted fields come from, in words."""
        if self.model is not None:
            return self.model.title
        if self.scores.predicted:
            return "predicted fields as the score file has them"
        return "no checkpoint of these scores beside them, so no predicted fields"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the coordinates: the problem's, the file's, or x, y, z, t."""
        named = self.scores.metadata.get("inputs", LETTERS[: self.scores.test_x.shape[1]])
        return tuple(named) if self.problem is None else self.problem.inputs

    @property
    def fields(self) -> tuple[str, ...]:
        """Outputs and derived quantities in the file."""
        return tuple(name for name in self.scores.test if name not in self.scores.terms)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The network's outputs among them; all, where nothing says which, or where it has none."""
        named = self.scores.metadata.get("outputs") or self.fields
        named = named if self.problem is None else self.problem.outputs
        return tuple(name for name in self.fields if name in named)

    @cached_property
    def model(self) -> Model | None:
        """The network; None with neither script nor checkpoint."""
        if self.checkpoint is None or self.problem is None:
            return self.script
        config = self.scores.metadata.get("config", {})
        names = ("problem", "variant", "conditions", "activation", "scale")
        settings = {name: config[name] for name in names if name in config}
        return load_model(self.checkpoint, self.scores.train_x, **settings)

    def agreement(self) -> dict[str, dict[str, Any]]:
        """How well these scores predicted retraining, by quantity; see ``find_agreement``."""
        if self.model is None:
            return {}
        with input_errors():
            folder = self.model.folder("validation")
        own = [] if self.checkpoint is None else [self.checkpoint.with_name(PUBLISHED)]
        return find_agreement(self.scores.metadata, [folder / RESULTS, *own])

    def integrals(self) -> dict[str, IntegralEmbedding]:
        """The problem's integrals, such as drag, as far as the test points resolve them."""
        if self.model is None or self.problem is None or self.problem.integrals is None:
            return {}
        scores = self.scores
        return embed_integrals(
            self.model.pinn, self.problem.integrals(), scores.test, scores.test_x
        )

    def residuals(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Residuals ``[n]`` at points of the loss terms that act everywhere, by name."""
        if self.model is None:
            return {}
        pinn = self.model.pinn
        inside = [eq for eq in pinn.equations if eq.on is None and eq.data is None]
        return pinn.at(points, inside).evaluate(BATCH_SIZE)

    def leverage(self) -> dict[str, np.ndarray]:
        """Leverage ``[n_train]`` of the training points, from the diagnosis; NaN where unknown."""
        leverage = self._diagnosis.get("leverage")
        if leverage is None or leverage.shape != (len(self.scores.train_x),):
            return {}
        return {"points": leverage}

    def predicted(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """The network's fields at some of the test points, by their numbers; ``[n]`` by name.

        As the checkpoint or the script gives them; without one, those that the file has.
        """
        model, points = self.model, self.scores.test_x[chosen]
        if model is None:
            return {name: values[chosen] for name, values in self.scores.predicted.items()}
        if self.problem is None:
            return evaluate(model.pinn, points, quantities_of(model.pinn, self.fields, points))
        return with_quantities(self.problem, points, model.predict(points))

    def estimated(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Estimated errors, solution minus network, at points ``[n, n_inputs]``, by name of field.

        From the folder ``<name>_diagnosis`` that ``pinnfluence diagnose`` writes beside the
        model's; none where there is none of this network.

        Raises:
            InputError: the file there is damaged.
        """
        model, step = self.model, self._diagnosis.get("step")
        if model is None or step is None:
            return {}
        return changes(model.pinn, step, points, quantities_of(model.pinn, self.outputs, points))

    def helping(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """By what part of itself the squared error would fall with a new training point there.

        From the same folder, ``[n]`` at points ``[n, n_inputs]``; see ``new_points.around``.
        """
        found = self._diagnosis
        if "helping" not in found:
            return {}
        return {NEW_POINT: around(points, found["candidates"], found["helping"])}

    @cached_property
    def _diagnosis(self) -> dict[str, np.ndarray]:
        if self.model is None:
            return {}
        with input_errors():
            folder, identity = self.model.folder("diagnosis"), self.model.identity
            return files.load_arrays(folder, identity)

    def reference(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """The reference's fields at points that are its own, by name; none where they are not."""
        if self.problem is None or self.problem.reference is None:
            return {}
        reference = self.problem.reference()
        try:
            index = match_points(points, reference.points)
        except ValueError:
            return {}
        values = {name: field[index] for name, field in reference.values.items()}
        if set(self.problem.outputs) <= set(values):
            return with_quantities(self.problem, points, values)
        return {name: field.astype(np.float64) for name, field in values.items()}


def by_problem(sources: Sequence[Source]) -> list[list[Source]]:
    """Models of the same problem together, in their order: they share axes, units and a place."""
    groups: list[list[Source]] = []
    for source in sources:
        same = next((group for group in groups if _is_of_one_problem(group[0], source)), None)
        if same is None:
            groups.append([source])
        else:
            same.append(source)
    return groups


def _is_of_one_problem(first: Source, other: Source) -> bool:
    """Of the same name, or without a name the same inputs and a common field."""
    named = [s.scores.metadata.get("config", {}).get("problem") for s in (first, other)]
    differ = None not in named and named[0] != named[1]
    return not differ and other.inputs == first.inputs and bool({*other.fields} & {*first.fields})
