"""Influence of training points on a network's predictions and losses."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.influence import DataInfluence
from torch import Tensor
from torch.utils.data import TensorDataset

from pinnfluence.curvature.matrix_store import STAGE
from pinnfluence.curvature.recipe import PAPER, Recipe
from pinnfluence.errors import InputError
from pinnfluence.field.field import FieldFunction
from pinnfluence.influence.batch_size import default_batch_size
from pinnfluence.influence.compression import exact_scores
from pinnfluence.influence.embeddings import embed
from pinnfluence.influence.fit import Fitted, Fitter, as_params, n_gradients
from pinnfluence.influence.identity import fitting_key, scores_key
from pinnfluence.influence.quantity_scores import (
    QuantityScores,
    check_quantity,
    quantity_scores,
    self_influence,
)
from pinnfluence.loss.collocation import Pinn
from pinnfluence.loss.weights import training_weights
from pinnfluence.runtime import distributed
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.progress import Stages
from pinnfluence.scores.dense import DenseScores, published_keys
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores
from pinnfluence.storage.points import check_points, repeats_warning
from pinnfluence.storage.stage_store import StageStore

EXACT_POINTS = 100
"""Test points whose exact scores by loss term are held at a time."""


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
            rounding. None: from the memory that is free, see ``default_batch_size``.
        stages: is told of the stages, for progress bars, and keeps their times.
        stages_path: folder in which stages are kept as they complete, and from which they are
            taken by a later computation of the same bytes: with the same network, equations,
            points, recipe, batch size, machine and packages. Those of others are removed. Blocks of
            points are kept half a minute apart, and so is a matrix while it is summed, which serves
            all dampings; eigenpairs and compression begin again. None: nothing is kept.
        settings: names of problem, variant, ...: what else tells the model from others.

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
        train_x: np.ndarray | Tensor | None = None,
        recipe: Recipe = PAPER,
        batch_size: int | None = None,
        stages: Stages | None = None,
        stages_path: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        pinn, self.train_x = _read(model, train_x)
        self.pinn = replace(pinn, network=copy.deepcopy(pinn.network))
        self.recipe = recipe
        self.model = self.pinn.network
        self.train_dataset = TensorDataset(torch.as_tensor(self.train_x))
        if batch_size is not None and not 1 <= batch_size <= len(self.train_x):
            raise InputError(
                f"expected a batch size from 1 to the {len(self.train_x)} training points, "
                f"found {batch_size}"
            )
        self._collocation = self.pinn.at(self.train_x)
        self.batch_size = batch_size or default_batch_size(self._collocation)
        self.stages = stages or Stages()
        self.settings = dict(settings or {})
        self._folder = stages_path if distributed.is_first() else None
        self._store = self._open_store()
        self._fitter = Fitter(
            self._collocation,
            self.weights,
            recipe,
            self.batch_size,
            self.stages,
            self._store,
        )

    def _open_store(self) -> StageStore:
        if not self._folder:
            return StageStore(None)
        settings = self.recipe.settings()
        del settings["leverage"]
        others = dict.fromkeys(("damping", "stationarity"), self._key_of(settings))
        if self.recipe.is_full:  # its matrix serves all dampings: where one was too small, the next
            others[STAGE] = self._key_of({"curvature": self.recipe.curvature})
        return StageStore(self._folder, self._key, others)

    @cached_property
    def _key(self) -> str:
        return self._key_of(self.recipe.metadata())

    def _key_of(self, recipe: Mapping[str, Any]) -> str:
        weights, size = self.weights, self.batch_size
        return fitting_key(self._collocation, weights, recipe, size, self.settings)

    def key(self, inputs: np.ndarray | Tensor) -> str:
        """SHA-256 of all that determines the bytes of the scores at the points ``inputs``."""
        return scores_key(self._key, self.pinn, self._points(inputs))

    def stores(self, test_x: np.ndarray) -> tuple[StageStore, StageStore]:
        """Where stages are kept: those of the fit, and those that depend on the test points."""
        return self._store, self._store.with_key(self.key(test_x) if self._folder else "")

    def discard_test_stages(self) -> None:
        """Remove the stages that belong to test points; those of the fit stay for other ones."""
        self._store.remove("factors", "test_outputs", "test_losses")

    def discard_stages(self) -> None:
        """Remove all stages."""
        self._store.clear()

    @property
    def weights(self) -> dict[str, float]:
        """Weights w_k of the loss terms under the recipe's weighting: 1, or c_k / |S_k|."""
        if self.recipe.weighting == "uniform":
            return dict.fromkeys(self.pinn.terms, 1.0)
        return training_weights(self._collocation)

    def influence(self, inputs: np.ndarray | Tensor | None = None, **unknown: Any) -> Scores:
        """Influence of all training points on all quantities at the points ``inputs``.

        Quantities are the outputs, the derived quantities, every loss term ``r_k(x)^2`` where it
        acts, and their sums ``pde``, ``bcs``, ``all``; each can be split by loss term of the
        training points.

        Args:
            inputs: test points ``[n_test, n_inputs]``; None takes the training points.

        Several processes (see ``distributed``) must all call this; the first gets the embeddings.

        Raises:
            InputError: no points; no usable eigenvalue. TypeError: unknown arguments.
        """
        if unknown:
            raise TypeError(f"influence() takes no {', '.join(unknown)}; sort the scores instead")
        test_x = self._points(self.train_x if inputs is None else inputs)
        self._check_quantities(test_x)
        key = self.key(test_x) if self._folder else ""
        store = self._store.with_key(key)
        factors, about = self._fitter.factors(test_x, store)
        observables = self.pinn.at(test_x, [self.pinn.observables])
        losses = self.pinn.at(test_x)
        total = n_gradients(observables) + n_gradients(losses)
        basis, size = as_params(factors.basis, self.pinn), self.batch_size
        with self.stages.stage("test points", total) as advance:
            test = embed(observables, basis, size, None, store, "test_outputs", advance)
            ones = dict.fromkeys(self.pinn.terms, 1.0)
            test |= embed(losses, basis, size, ones, store, "test_losses", advance)
        rows = self._collocation.term_rows()
        train = {
            name: Embedding(values.astype(np.float32), rows[name].astype(np.int32))
            for name, values in factors.train.items()
        }
        if not distributed.is_first():
            train, test = {}, {}
        metadata = self._metadata() | about | factors.metadata | ({"key": key} if key else {})
        eigenvalues = factors.eigenvalues
        return Scores(self.train_x, test_x, train, test, metadata, eigenvalues)

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
        test_x = self._points(inputs)
        self._check_quantities(test_x)
        names = [*self.pinn.outputs, *self.pinn.quantities] if outputs is None else list(outputs)
        inverse = self.fit().curvature.inverse
        train = self._fitter.training_gradients()
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
        ``quantity_scores``, and ``check_quantity`` for what is refused.

        >>> scores = influence.scores(test_x, lambda f: f.v_x - f.u_y)   # doctest: +SKIP
        >>> points, values = scores.top(10)                              # doctest: +SKIP
        >>> drag = influence.scores(arc, force, weights=lengths)         # doctest: +SKIP
        """
        test_x = self._points(inputs)
        check_quantity(self.pinn, test_x, quantity, weights)
        solve = self.fit().curvature.inverse.solve
        train = self._fitter.training_gradients()
        return quantity_scores(self.pinn, solve, train, test_x, quantity, weights)

    def self_influence(self) -> np.ndarray:
        """``Inf(l_i; z_i)`` of each training point, ``[n_train]``: how hard it is to predict."""
        if self.recipe.leverage:
            return self._fitter.leverage().self_influence
        return self_influence(self.fit().curvature.inverse.solve, self._fitter.training_gradients())

    def _metadata(self) -> dict[str, Any]:
        return {
            "inputs": list(self.pinn.inputs),
            "outputs": list(self.pinn.outputs),
            "terms": list(self.pinn.terms),
            "groups": self.pinn.groups,
            "recipe": self.recipe.metadata(),
            "dtype": str(next(iter(self.pinn.params.values())).dtype).removeprefix("torch."),
            "scale": "removal: Inf ~ f(theta without z_j) - f(theta)",
        }

    def fit(self) -> Fitted:
        """Inverse curvature and distance from a minimum, computed once."""
        return self._fitter.fit()

    def _check_quantities(self, test_x: np.ndarray) -> None:
        for name in self.pinn.quantities:
            check_quantity(self.pinn, test_x, name)

    def _points(self, inputs: np.ndarray | Tensor) -> np.ndarray:
        points = as_array(inputs)
        check_points(points, len(self.pinn.inputs), "test")
        return points


def _read(model: Pinn | Any, train_x: np.ndarray | Tensor | None) -> tuple[Pinn, np.ndarray]:
    """The network with its equations, and the training points that are meant."""
    pinn = model
    if not isinstance(model, Pinn):
        from pinnfluence.models.deepxde.reader import (
            from_deepxde,  # DeepXDE takes seconds to import
        )

        pinn = from_deepxde(model)
    points = np.ascontiguousarray(as_array(pinn.training_points if train_x is None else train_x))
    check_points(points, len(pinn.inputs), "training")
    if pinn is not model and train_x is not None and (warning := repeats_warning(points)):
        warnings.warn(warning, stacklevel=3)
    return pinn, points
