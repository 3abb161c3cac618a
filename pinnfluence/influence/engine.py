"""Influence of training points on a network's predictions and losses."""

from __future__ import annotations

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
from pinnfluence.curvature.recipe import GAUSS_NEWTON, Recipe, recipe_of
from pinnfluence.errors import InputError
from pinnfluence.field.module_call import copied
from pinnfluence.influence.batch_size import check_batch_size, default_batch_size
from pinnfluence.influence.candidates import Candidates, check_recipe, equations_at
from pinnfluence.influence.embeddings import embed
from pinnfluence.influence.fit import Fitted, Fitter, as_params
from pinnfluence.influence.identity import fitting_key, scores_key
from pinnfluence.influence.network_and_points import network_and_points
from pinnfluence.influence.quantity import (
    Quantity,
    as_field_function,
    check_quantity,
    exact_scores_of,
    self_influence,
    warn_of_zeros,
)
from pinnfluence.influence.target import Target, target_of
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.calculation import calculations
from pinnfluence.runtime.devices import as_array
from pinnfluence.runtime.executor import Executor
from pinnfluence.runtime.progress import Stages
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.exact import ExactMatrix
from pinnfluence.scores.file import Scores
from pinnfluence.storage.point_checks import check_points
from pinnfluence.storage.stage_store import StageStore


@calculations
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
        recipe: how the inverse curvature is approximated; by name, or a ``Recipe``.
            ``gauss-newton`` predicts retraining; ``paper`` reproduces the published figures.
        batch_size: points whose derivatives are held at a time; never changes the result beyond
            rounding. None: from the memory that is free, see ``default_batch_size``.
        stages: receives the stages, for progress bars, and keeps their times.
        stages_path: folder in which stages are kept as they complete, and from which they are
            taken by a later computation of the same bytes: with the same network, equations,
            points, recipe, batch size, machine, packages and source code. Those of others are
            removed. Blocks of points are kept half a minute apart, and so is a matrix while it is
            summed, which serves all dampings; eigenpairs and compression begin again. None: nothing
            is kept.
        settings: names of problem, variant, ...: what else distinguishes the model from others.
        changes: settings of the recipe that are other than in it, such as ``damping=1e-3``.

    Raises:
        InputError: a batch size below 1 or above the points', points without loss, no such recipe.

    Source: Naujoks et al., PINNfluence, arXiv 2409.08958; Koh and Liang, arXiv 1703.04730.

    >>> model = pinnfluence.load_model("model_zoo/bad")             # doctest: +SKIP
    >>> scores = Influence(model.pinn, model.train_x).influence(test_x)  # doctest: +SKIP
    >>> scores["speed"][0]   # of all training points, at the first test point  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Pinn | Any,
        train_x: np.ndarray | Tensor | None = None,
        recipe: Recipe | str = GAUSS_NEWTON,
        batch_size: int | None = None,
        stages: Stages | None = None,
        stages_path: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        pinn, self.train_x = network_and_points(model, train_x)
        self.pinn = replace(pinn, network=copied(pinn.network))
        self.recipe = recipe_of(recipe, **changes)
        self.model = self.pinn.network
        self.train_dataset = TensorDataset(torch.as_tensor(self.train_x))
        check_batch_size(batch_size, len(self.train_x))
        collocation = self.pinn.at(self.train_x)
        weighted = Loss.uniform if self.recipe.weighting == "uniform" else Loss.of_training
        self.loss = weighted(collocation)
        self.executor = Executor(batch_size or default_batch_size(collocation), stages)
        self.settings = dict(settings or {})
        self._folder = stages_path if self.executor.is_first else None
        self._store = self._open_store()
        self._fitter = Fitter(self.loss, self.recipe, self.executor, self._store)

    def _open_store(self) -> StageStore:
        if not self._folder:
            return StageStore(None)
        settings = self.recipe.settings()
        del settings["leverage"]
        others = dict.fromkeys(("damping", "stationarity"), self._key_of(settings))
        if not self.recipe.is_low_rank:  # its matrix serves all dampings
            others[STAGE] = self._key_of({"curvature": self.recipe.curvature})
        return StageStore(self._folder, self._key, others)

    @cached_property
    def _key(self) -> str:
        return self._key_of(self.recipe.metadata())

    def _key_of(self, recipe: Mapping[str, Any]) -> str:
        return fitting_key(self.loss, recipe, self.executor, self.settings)

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

    def influence(self, inputs: np.ndarray | Tensor | None = None, **unknown: Any) -> Scores:
        """Influence of all training points on all quantities at the points ``inputs``, factored.

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
        for name in self.pinn.quantities:
            check_quantity(self.pinn, test_x, name)
        observables = self.pinn.at(test_x, [self.pinn.observables])
        squares = Loss.uniform(self.pinn.at(test_x))
        total = observables.n_residuals + squares.collocation.n_residuals
        if not total:
            raise InputError("the model predicts nothing by name; expected quantities={name: ...}")
        _, store = self.stores(test_x)
        factors, about = self._fitter.factors(test_x, store)
        basis = as_params(factors.basis, self.pinn)
        with self.executor.stage("test points", total):
            test = embed(observables, basis, self.executor, store, "test_outputs")
            test |= embed(squares, basis, self.executor, store, "test_losses")
        rows = self.loss.collocation.term_rows()
        train = {
            name: Embedding(values.astype(np.float32), rows[name].astype(np.int32))
            for name, values in factors.train.items()
        }
        if not self.executor.is_first:
            train, test = {}, {}
        metadata = self._metadata() | about | factors.metadata
        metadata |= {"key": store.key} if store.key else {}
        return Scores(self.train_x, test_x, train, test, metadata, factors.eigenvalues)

    def scores(
        self,
        inputs: np.ndarray | Tensor,
        quantity: Quantity,
        weights: np.ndarray | None = None,
    ) -> ExactMatrix:
        """Influence of all training points on one quantity at some test points, exactly.

        Without compression and in float64, up to the error of the inverse where that is on few
        directions: for few points, or for an integral; ``influence`` treats all quantities at many
        points.

        Args:
            inputs: test points ``[n_test, n_inputs]``.
            quantity: an output by name or number, a derived quantity, a loss term (its square,
                where it acts), ``pde``, ``bcs`` or ``all``; or a function of the field.
            weights: ``[n_test]``; given, the quantity is ``sum_i weights_i f(x_i)``, one row.

        Raises:
            InputError: no points; no usable curvature; what ``check_quantity`` refuses.

        >>> scores = influence.scores(test_x, lambda f: f.v_x - f.u_y)   # doctest: +SKIP
        >>> points, values = scores.top(10)                              # doctest: +SKIP
        >>> drag = influence.scores(arc, force, weights=lengths)         # doctest: +SKIP
        """
        found = self._exact(inputs, [quantity], weights)[0]
        warn_of_zeros(self.pinn, self._points(inputs), quantity)
        return found

    def scores_by_quantity(
        self, inputs: np.ndarray | Tensor, quantities: Sequence[str] | None = None
    ) -> dict[str, ExactMatrix]:
        """``scores`` of several quantities by name; None: outputs, derived quantities and sums."""
        pinn = self.pinn
        names = list(quantities or [*pinn.outputs, *pinn.quantities, *pinn.groups])
        return dict(zip(names, self._exact(inputs, names), strict=True))

    def _exact(
        self,
        inputs: np.ndarray | Tensor,
        quantities: Sequence[Quantity],
        weights: np.ndarray | None = None,
    ) -> list[ExactMatrix]:
        test_x = self._points(inputs)
        of_field = [as_field_function(self.pinn, quantity) for quantity in quantities]
        for quantity in of_field:
            check_quantity(self.pinn, test_x, quantity, weights)
        inverse, train = self.fit().inverse, self._fitter.training_gradients()
        return exact_scores_of(self.pinn, inverse, train, test_x, of_field, weights)

    def candidates(
        self,
        points: np.ndarray | Tensor | Pinn,
        target: Quantity | Loss | Target,
        at: np.ndarray | Tensor | None = None,
        weights: np.ndarray | None = None,
    ) -> Candidates:
        """Influence of ADDING points to the training on a target: ``changes``, ``select(n)``.

        Args:
            points: candidates ``[n, n_inputs]``; see ``equations_at``.
            target: a quantity as in ``scores``, at the points ``at`` (loss terms by name are sums
                of squares there); a ``Loss`` at any points; or what ``Report.target`` gives, the
                estimated squared error of a diagnosis.
            weights: as in ``scores``: an integral.

        Raises:
            InputError: a recipe other than ``gauss-newton`` at full rank; see ``target_of``.

        >>> found = influence.candidates(points, "u", at=[[0.5, 0.2]])   # doctest: +SKIP
        >>> found.changes              # of u there, by adding each   # doctest: +SKIP
        """
        check_recipe(self.recipe)
        at = None if at is None else as_array(at)
        wanted = target_of(self.pinn, target, at, weights, self.executor)
        where = equations_at(self.pinn, points, "candidate")
        solve = self.fit().inverse.solve
        with self.executor.stage("candidates", len(where)):
            return Candidates(Loss(where, self.loss.weights), solve, wanted, self.executor)

    def self_influence(self) -> np.ndarray:
        """``Inf(l_i; z_i)`` of each training point, ``[n_train]``: how hard it is to predict."""
        if self.recipe.leverage:
            return self._fitter.leverage().self_influence
        return self_influence(self.fit().inverse, self._fitter.training_gradients())

    def _metadata(self) -> dict[str, Any]:
        return {
            "inputs": list(self.pinn.inputs),
            "outputs": list(self.pinn.outputs),
            "terms": list(self.pinn.terms),
            "groups": self.pinn.groups,
            "recipe": self.recipe.metadata(),
            "dtype": str(self.pinn.like.dtype).removeprefix("torch."),
            "scale": "removal: Inf ~ f(theta without z_j) - f(theta)",
        }

    def fit(self) -> Fitted:
        """Inverse curvature and distance from a minimum, computed once."""
        return self._fitter.fit()

    def _points(self, inputs: np.ndarray | Tensor) -> np.ndarray:
        points = as_array(inputs)
        check_points(points, len(self.pinn.inputs), "test")
        return points
