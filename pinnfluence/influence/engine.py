"""Influence of training points on a network's predictions and losses."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from captum.influence import DataInfluence
from torch import Tensor
from torch.utils.data import TensorDataset

from pinnfluence.curvature.inverse_curvature import InverseCurvature, invert
from pinnfluence.curvature.recipe import PAPER, Recipe
from pinnfluence.errors import InputError
from pinnfluence.field import FieldFunction
from pinnfluence.gradients import Projection, project_gradients
from pinnfluence.influence.compression import Factors, compress, exact_scores
from pinnfluence.influence.gradient_rows import TrainingGradients
from pinnfluence.influence.quantity_scores import QuantityScores, quantity_scores, self_influence
from pinnfluence.influence.stationarity import stationarity
from pinnfluence.progress import Stages
from pinnfluence.scores.dense import DenseScores, published_keys
from pinnfluence.scores.file import Embedding, Scores
from pinnfluence.terms import Pinn

BATCH_SIZE = 500
"""Points whose derivatives are held at a time."""

EXACT_POINTS = 100
"""Test points whose exact scores by loss term are held at a time."""


@dataclass(frozen=True)
class _Fitted:
    """What does not depend on the test points."""

    curvature: InverseCurvature
    stationarity: dict[str, Any]


class Influence(DataInfluence):
    """Influence functions of a physics-informed neural network, a captum ``DataInfluence``.

    For a quantity f at a test point x and a training point z_i with loss
    ``l_i(theta) = sum_k w_ik r_k(z_i; theta)^2`` over the loss terms that act on it,

        Inf(f(x); z_i) = grad f(x)^T (M + damping I)^-1 grad l_i
                       ~ f(theta without z_i) - f(theta):

    positive means that removing the training point raises f. M is the Hessian of ``sum_i l_i`` or
    its Gauss-Newton matrix, w_ik is 1 or, as trained, c_k / |S_k|: see ``Recipe``. Scores are
    products of embeddings, ``Inf = e_f(x) . e_l(z_i)``. At low rank the inverse is taken on
    eigenpairs, ``R R^T`` with ``R = V Lambda^-1/2`` and ``e = R^T grad``; at full rank it is whole
    and the embeddings are compressed with a measured error, see ``compress``. The paper plots
    ``n_train Inf``.

    Args:
        model: the network and its equations, of which a copy is kept as it is now; or a trained
            ``dde.Model``, see ``from_deepxde``.
        train_x: training points ``[n_train, n_inputs]`` as stored, float32; None takes those of
            the ``dde.Model``.
        recipe: how the inverse curvature is approximated.
        batch_size: points whose derivatives are held at a time; never changes the result beyond
            rounding.
        stages: is told of the stages, for progress bars, and keeps their times.

    Raises:
        InputError: a batch size below 1 or above the number of points, points without loss.

    Source: Naujoks et al., PINNfluence, arXiv 2409.08958; Koh and Liang, arXiv 1703.04730.

    >>> model = pinnfluence.load_model("model_zoo/bad")             # doctest: +SKIP
    >>> scores = Influence(model.pinn, model.train_x).influence(test_x)  # doctest: +SKIP
    >>> scores["speed"][0]   # of all training points, at the first test point  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Pinn | Any,
        train_x: np.ndarray | None = None,
        recipe: Recipe = PAPER,
        batch_size: int | None = None,
        stages: Stages | None = None,
    ) -> None:
        if not isinstance(model, Pinn):
            from pinnfluence.deepxde.reader import from_deepxde  # DeepXDE takes seconds to import

            model = from_deepxde(model)
        if train_x is None:
            train_x = model.training_points
        self.pinn = replace(model, network=copy.deepcopy(model.network))
        self.recipe = recipe
        self.model = self.pinn.network
        self.train_x = np.ascontiguousarray(train_x)
        self.train_dataset = TensorDataset(torch.as_tensor(self.train_x))
        if batch_size is not None and not 1 <= batch_size <= len(train_x):
            raise InputError(
                f"expected a batch size from 1 to the {len(train_x)} training points, "
                f"found {batch_size}"
            )
        self.batch_size = batch_size or min(BATCH_SIZE, len(train_x))
        self.stages = stages or Stages()
        self._collocation = self.pinn.at(self.train_x)
        self._fitted: _Fitted | None = None
        self._low_rank_factors: Factors | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Weights w_k of the loss terms under the recipe's weighting: 1, or c_k / |S_k|."""
        if self.recipe.weighting == "uniform":
            return dict.fromkeys(self.pinn.terms, 1.0)
        given = self.pinn.loss_weights
        return {
            name: given.get(name, 1.0) / max(1, len(rows))
            for name, rows in self._collocation.term_rows().items()
        }

    def influence(self, inputs: np.ndarray | Tensor | None = None, **unknown: Any) -> Scores:
        """Influence of all training points on all quantities at the points ``inputs``.

        Quantities are the outputs, the derived quantities, every loss term ``r_k(x)^2`` where it
        acts, and their sums ``pde``, ``bcs``, ``all``; each can be split by loss term of the
        training points.

        Args:
            inputs: test points ``[n_test, n_inputs]``; None takes the training points.

        Raises:
            InputError: no points; no usable eigenvalue. TypeError: unknown arguments.
        """
        if unknown:
            raise TypeError(f"influence() takes no {', '.join(unknown)}; sort the scores instead")
        test_x = _points(self.train_x if inputs is None else inputs)
        fitted = self.fit()
        factors = self._factors(fitted.curvature, test_x)
        observables = self.pinn.at(test_x, [self.pinn.observables])
        losses = self.pinn.at(test_x)
        total = _n_gradients(observables.term_rows()) + _n_gradients(losses.term_rows())
        with self.stages.stage("test points", total) as advance:
            basis = self._like_params(factors.basis)
            found = project_gradients(observables, basis, self.batch_size, advance)
            test = {name: _embedding(p.gradients, p.rows) for name, p in found.items()}
            del found
            squares = project_gradients(losses, basis, self.batch_size, advance)
            test |= _loss_embeddings(squares)
        rows = self._collocation.term_rows()
        train = {
            name: Embedding(values.astype(np.float32), rows[name].astype(np.int32))
            for name, values in factors.train.items()
        }
        metadata = self._metadata(fitted) | factors.metadata
        return Scores(self.train_x, test_x, train, test, metadata, fitted.curvature.eigenvalues)

    def exact(
        self, inputs: np.ndarray | Tensor, outputs: Sequence[str] | None = None
    ) -> DenseScores:
        """Scores at chosen test points without compression, kept dense: ``[n_test, n_train]``.

        For few points: ``grad f^T (M + damping I)^-1 grad l_i`` one by one, of the quantities
        ``outputs`` (None: all outputs and derived quantities), ``pde``, ``bcs``, ``all``.

        Raises:
            InputError: no points; no usable curvature.

        >>> influence.exact(test_x[:3]).save("runs/good_exact")      # doctest: +SKIP
        """
        test_x = _points(inputs)
        names = [*self.pinn.outputs, *self.pinn.quantities] if outputs is None else list(outputs)
        inverse = self.fit().curvature.inverse
        train = TrainingGradients(self._collocation, self.weights, self.batch_size)
        keys, groups = published_keys(names), self.pinn.groups
        parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        for start in range(0, len(test_x), EXACT_POINTS):
            x = test_x[start : start + EXACT_POINTS]
            (exact,) = exact_scores([x], inverse, self.pinn, train)
            scores = train.totals(exact.scores)
            for key, name in keys.items():
                found = np.zeros((len(x), len(self.train_x)), np.float32)
                for part in groups.get(name, [name]):
                    points, columns = exact.rows[part]
                    found[points] += scores[:, columns].T
                parts[key].append(found)
        arrays = {key: np.concatenate(found) for key, found in parts.items()}
        return DenseScores(arrays | {"train_x": self.train_x, "test_x": test_x}, names)

    def scores(
        self,
        inputs: np.ndarray | Tensor,
        quantity: str | FieldFunction,
        weights: np.ndarray | None = None,
    ) -> QuantityScores:
        """Influence of all training points on one quantity at some test points, exactly.

        For few points or an integral; ``influence`` treats all quantities at many points. See
        ``quantity_scores``.

        >>> scores = influence.scores(test_x, lambda f: f.u_y - f.v_x)   # doctest: +SKIP
        >>> points, values = scores.top(10)                              # doctest: +SKIP
        >>> drag = influence.scores(arc, force, weights=lengths)         # doctest: +SKIP
        """
        solve = self.fit().curvature.inverse.solve
        train = TrainingGradients(self._collocation, self.weights, self.batch_size)
        return quantity_scores(self.pinn, solve, train, _points(inputs), quantity, weights)

    def self_influence(self) -> np.ndarray:
        """``Inf(l_i; z_i)`` of each training point, ``[n_train]``: how hard it is to predict."""
        solve = self.fit().curvature.inverse.solve
        train = TrainingGradients(self._collocation, self.weights, self.batch_size)
        return self_influence(solve, train)

    def _metadata(self, fitted: _Fitted) -> dict[str, Any]:
        return {
            "terms": list(self.pinn.terms),
            "groups": self.pinn.groups,
            "recipe": self.recipe.metadata(),
            "stationarity": fitted.stationarity,
            "dtype": str(next(iter(self.pinn.params.values())).dtype).removeprefix("torch."),
            "scale": "removal: Inf ~ f(theta without z_j) - f(theta)",
        } | fitted.curvature.metadata()

    def fit(self) -> _Fitted:
        """Inverse curvature and distance from a minimum, computed once."""
        if self._fitted is None:
            curvature = invert(
                self.recipe, self._collocation, self.weights, self.batch_size, self.stages
            )
            facts = stationarity(self._collocation, self.weights, self.batch_size) | {
                "most_negative_eigenvalue": curvature.most_negative,
                "largest_eigenvalue": curvature.largest,
            }
            self._fitted = _Fitted(curvature, facts)
        return self._fitted

    def _factors(self, curvature: InverseCurvature, test_x: np.ndarray) -> Factors:
        """The embeddings of the training points, and the basis for those of the test points."""
        n_rows = _n_gradients(self._collocation.term_rows())
        if curvature.pairs is None:
            with self.stages.stage("compression", 2 * n_rows) as advance:
                train = TrainingGradients(self._collocation, self.weights, self.batch_size, advance)
                return compress(curvature.inverse, self.pinn, train, test_x)
        if self._low_rank_factors is None:
            basis = curvature.pairs.vectors / np.sqrt(curvature.pairs.values)
            with self.stages.stage("training points", n_rows) as advance:
                found = project_gradients(
                    self._collocation, self._like_params(basis), self.batch_size, advance
                )
            embeddings = {
                name: e.values for name, e in _loss_embeddings(found, self.weights).items()
            }
            self._low_rank_factors = Factors(basis, embeddings)
        return self._low_rank_factors

    def _like_params(self, array: np.ndarray) -> Tensor:
        like = next(iter(self.pinn.params.values()))
        return torch.as_tensor(array).to(like.device, like.dtype)


def _points(inputs: np.ndarray | Tensor) -> np.ndarray:
    points = np.asarray(inputs)
    if len(points) == 0:
        raise InputError("no test points: expected at least one")
    return points


def _n_gradients(rows: Mapping[str, np.ndarray]) -> int:
    return sum(len(r) for r in rows.values())


def _embedding(values: Tensor, rows: np.ndarray) -> Embedding:
    return Embedding(values.float().cpu().numpy(), rows.astype(np.int32))


def _loss_embeddings(
    projections: Mapping[str, Projection], weights: Mapping[str, float] | None = None
) -> dict[str, Embedding]:
    """Embeddings of ``w_k r_k^2``, whose gradient is ``2 w_k r_k grad r_k``; without weights 1."""
    return {
        name: _embedding(
            2 * (1.0 if weights is None else weights[name]) * p.values[:, None] * p.gradients,
            p.rows,
        )
        for name, p in projections.items()
    }
