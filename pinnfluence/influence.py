"""Influence of training points on a network's predictions and losses."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from captum.influence import DataInfluence
from torch import Tensor
from torch.utils.data import TensorDataset

from pinnfluence.curvature import Eigenpairs, Hessian, is_small, top_eigenpairs
from pinnfluence.errors import InputError
from pinnfluence.gradients import Projection, point_loss_gradients, project_gradients
from pinnfluence.progress import Stages
from pinnfluence.scores import Embedding, Scores
from pinnfluence.terms import Pinn

STATIONARITY_LIMIT = 1.0
"""||grad L|| over the median ||grad l_i|| above which a run warns: then the loss changes more on
the way to its minimum than by the removal of a point, which is what influence functions predict."""

BATCH_SIZE = 500
"""Points whose derivatives are held at a time."""


@dataclass(frozen=True)
class Recipe:
    """How the inverse curvature is approximated.

    The recipe ``paper`` (arXiv 2409.08958): the Hessian of the plain sum of squared residuals,
    its ``rank`` largest eigenpairs after adding ``regularization`` to the diagonal, of these the
    eigenvalues above ``threshold``.

    Raises:
        InputError: a rank below 1, or a negative number.
    """

    name: str = "paper"
    curvature: str = "hessian"
    weighting: str = "uniform"
    rank: int = 50
    regularization: float = 1e-6
    threshold: float = 1e-5

    def __post_init__(self) -> None:
        if self.curvature != "hessian" or self.weighting != "uniform":
            raise InputError(
                f"expected curvature hessian and weighting uniform, found {self.curvature} "
                f"and {self.weighting}"
            )
        if self.rank < 1 or min(self.regularization, self.threshold) < 0:
            raise InputError("rank must be at least 1, regularization and threshold at least 0")


PAPER = Recipe()


class Influence(DataInfluence):
    """Influence functions of a physics-informed neural network, a captum ``DataInfluence``.

    For a quantity f at a test point x and a training point z_i with loss
    ``l_i(theta) = sum_k r_k(z_i; theta)^2`` over the loss terms that act on it,

        Inf(f(x); z_i) = grad f(x)^T (H + regularization I)^-1 grad l_i
                       ~ f(theta without z_i) - f(theta):

    positive means that removing the training point raises f. H is the Hessian of ``sum_i l_i``; its
    inverse is taken on the recipe's eigenpairs, ``R R^T`` with ``R = V Lambda^-1/2``, so that
    ``Inf = e_f(x) . e_l(z_i)`` with embeddings ``e = R^T grad``. The paper plots ``n_train Inf``.

    Args:
        model: the network and its equations, of which a copy is kept as it is now.
        train_x: training points ``[n_train, n_inputs]`` as stored, float32.
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
        model: Pinn,
        train_x: np.ndarray,
        recipe: Recipe = PAPER,
        batch_size: int | None = None,
        stages: Stages | None = None,
    ) -> None:
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
        self._fitted: tuple[Eigenpairs, dict[str, Projection], dict[str, Any]] | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Weights w_k of the loss terms under the recipe's weighting."""
        return dict.fromkeys(self.pinn.terms, 1.0)

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
        test_x = self.train_x if inputs is None else np.asarray(inputs)
        if len(test_x) == 0:
            raise InputError("no test points: expected at least one")
        eigenpairs, train, stationarity = self.fit()
        observables = self.pinn.at(test_x, [self.pinn.observables])
        losses = self.pinn.at(test_x)
        total = _n_gradients(observables.term_rows()) + _n_gradients(losses.term_rows())
        with self.stages.stage("test points", total) as advance:
            basis = self._basis(eigenpairs)
            found = project_gradients(observables, basis, self.batch_size, advance)
            squares = project_gradients(losses, basis, self.batch_size, advance)
        ones = dict.fromkeys(self.pinn.terms, 1.0)
        test = {name: _embedding(p.gradients, p.rows) for name, p in found.items()}
        return Scores(
            self.train_x,
            test_x,
            _loss_embeddings(train, self.weights),
            test | _loss_embeddings(squares, ones),
            self._metadata(eigenpairs, stationarity),
            eigenpairs.values,
        )

    def _metadata(self, eigenpairs: Eigenpairs, stationarity: dict[str, Any]) -> dict[str, Any]:
        return {
            "terms": list(self.pinn.terms),
            "groups": self.pinn.groups,
            "recipe": asdict(self.recipe),
            "stationarity": stationarity,
            "n_products": eigenpairs.n_products,
            "dtype": str(next(iter(self.pinn.params.values())).dtype).removeprefix("torch."),
            "scale": "removal: Inf ~ f(theta without z_j) - f(theta)",
        }

    def fit(self) -> tuple[Eigenpairs, dict[str, Projection], dict[str, Any]]:
        """Curvature and embeddings of the training side, computed once."""
        if self._fitted is None:
            hessian = Hessian(self._collocation, self.weights, self.batch_size)
            recipe = self.recipe
            n_products = expected_products(recipe.rank, hessian.n_params)
            with self.stages.stage("eigenpairs", n_products) as advance:
                pairs = top_eigenpairs(
                    hessian, recipe.rank, recipe.regularization, recipe.threshold, advance=advance
                )
            del hessian
            with self.stages.stage("training points", self._n_train_gradients()) as advance:
                train = project_gradients(
                    self._collocation, self._basis(pairs), self.batch_size, advance
                )
                stationarity = self._stationarity(train, pairs)
            self._fitted = (pairs, train, stationarity)
        return self._fitted

    def _n_train_gradients(self) -> int:
        return _n_gradients(self._collocation.term_rows())

    def _basis(self, pairs: Eigenpairs) -> Tensor:
        like = next(iter(self.pinn.params.values()))
        return torch.as_tensor(pairs.vectors / np.sqrt(pairs.values)).to(like.device, like.dtype)

    def _stationarity(self, train: Mapping[str, Projection], pairs: Eigenpairs) -> dict[str, Any]:
        """How far theta is from a minimum of the loss, with which influence functions begin."""
        norms, total = point_loss_gradients(self._collocation, self.weights, self.batch_size)
        median, norm = float(norms.median()), float(total.norm())
        return {
            "losses": {
                name: float(p.values.square().mean()) if len(p.values) else 0.0
                for name, p in train.items()
            },
            "gradient_norm": norm,
            "median_point_gradient_norm": median,
            "ratio": norm / median if median else float("inf"),
            "most_negative_eigenvalue": pairs.most_negative,
            "largest_eigenvalue": float(pairs.values[0]),
        }


def expected_products(rank: int, n_params: int) -> int:
    """About how many products the eigenpairs need; at rank 50, 102 to 269 were counted."""
    return n_params if is_small(n_params, rank) else 3 * rank + 4


def _n_gradients(rows: Mapping[str, np.ndarray]) -> int:
    return sum(len(r) for r in rows.values())


def _embedding(values: Tensor, rows: np.ndarray) -> Embedding:
    return Embedding(values.float().cpu().numpy(), rows.astype(np.int32))


def _loss_embeddings(
    projections: Mapping[str, Projection], weights: Mapping[str, float]
) -> dict[str, Embedding]:
    """Embeddings of ``w_k r_k^2``, whose gradient is ``2 w_k r_k grad r_k``."""
    return {
        name: _embedding(2 * weights[name] * p.values[:, None] * p.gradients, p.rows)
        for name, p in projections.items()
    }
