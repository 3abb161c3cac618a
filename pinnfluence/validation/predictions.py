"""What different methods predict for the removal of groups of training points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from pinnfluence.curvature.inverse import Inverse, Solve
from pinnfluence.curvature.inverse.cholesky import without_rows
from pinnfluence.curvature.operators import OPERATORS, GaussNewton
from pinnfluence.curvature.recipe import GAUSS_NEWTON, RECIPES, Recipe
from pinnfluence.field.module_call import copied
from pinnfluence.influence import Influence
from pinnfluence.loss.differentiators import jacobian, loss_gradient
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.runtime.devices import float64_array
from pinnfluence.runtime.executor import BATCH_SIZE, Executor
from pinnfluence.runtime.progress import Stages
from pinnfluence.validation.arnoldi import HESSIAN_REG, arnoldi_influence, projection
from pinnfluence.validation.results import SPECTRUM

MOST_PARAMETERS = 4000
"""Up to so many parameters whole spectra are computed, for all ranks and dampings."""

OF_THE_REST = ", curvature of the rest"

RANKS = (10, 20, 50, 100, 200)
DAMPINGS = tuple(10.0**-k for k in range(2, 11))


@dataclass(frozen=True)
class Method:
    """A way to predict: its name, settings for a table, and its predictions.

    predict: ``[n_groups, n_test, n_q]``, the changes by the removal of each group.
    """

    name: str
    curvature: str
    weighting: str
    rank: int | str
    damping: float
    predict: Callable[[], np.ndarray]


class Predictions:
    """Predicted changes ``sum_{i in group} grad f^T (M + damping I)^-1 grad l_i`` by many methods.

    Args:
        pinn: the network theta-hat, float64.
        train_x, test_x: training points, and points at which quantities are predicted.
        groups: indices of training points that are removed together.
        stages: receives the making of curvature matrices, for progress bars.
        stages_path: folder in which they are kept, for other dampings and other calls.
    """

    def __init__(
        self,
        pinn: Pinn,
        train_x: np.ndarray,
        test_x: np.ndarray,
        groups: Sequence[np.ndarray],
        stages: Stages | None = None,
        stages_path: Path | None = None,
    ) -> None:
        self.pinn, self.train_x, self.test_x = pinn, train_x, test_x
        self._stages, self._stages_path = stages, stages_path
        self.groups = list(groups)
        self._collocation = pinn.at(train_x)
        self._known: dict[tuple[float, ...], np.ndarray] = {}
        self._last: Influence | None = None  # a single one: each may hold a whole matrix

    def recipes(self) -> Iterator[Method]:
        """The named recipes, as the engine computes them; see ``dampings`` for the rest."""
        for name, recipe in RECIPES.items():
            yield from self._by_recipe(name, recipe)

    def dampings(self, values: Sequence[float], name: str) -> Iterator[Method]:
        """The damped Gauss-Newton matrix at full rank with given dampings.

        Also that of the points that are left, ``G - U^T U`` with the rows U of the removed ones:
        what remains of the curvature when they are gone. For a single residual that divides the
        score by 1 minus its leverage.
        """
        for value in values:
            yield from self._by_recipe(name, replace(GAUSS_NEWTON, damping=value))

    def _by_recipe(self, name: str, recipe: Recipe) -> Iterator[Method]:
        inverse, loss = self.fit(recipe)
        of_all = Method(
            name,
            recipe.curvature,
            recipe.weighting,
            recipe.rank,
            inverse.damping,
            partial(self._by, inverse.solve, loss),
        )
        yield of_all
        if not recipe.is_low_rank and OPERATORS[recipe.curvature].has_rows:
            of_the_rest = partial(self._by_the_rest, inverse.solve, loss)
            yield replace(of_all, name=name + OF_THE_REST, predict=of_the_rest)

    def fit(self, recipe: Recipe) -> tuple[Inverse, Loss]:
        """The inverse curvature of a recipe and its loss; the last one is not made again."""
        if self._last is None or self._last.recipe != recipe:
            self._last = None
            path = self._stages_path
            path = path and path / f"{recipe.curvature}_{recipe.weighting}"
            self._last = Influence(
                self.pinn, self.train_x, recipe, stages=self._stages, stages_path=path
            )
        return self._last.fit().inverse, self._last.loss

    def leverages(self, damping: float) -> np.ndarray:
        """The largest leverage of each group, ``[n_groups]``, between 0 and 1.

        The largest eigenvalue of ``U (G + damping I)^-1 U^T`` with the Gauss-Newton matrix G and
        the rows U of the group: near 1 where the group alone determines something.
        """
        inverse, loss = self.fit(replace(GAUSS_NEWTON, damping=damping))
        blocks = [self._rows(group, loss) for group in self.groups]
        return np.array([np.linalg.eigvalsh(U @ inverse.solve(U.T))[-1] for U in blocks])

    def arnoldi(self) -> Iterator[Method]:
        """Stock captum's ``ArnoldiInfluenceFunction`` with its defaults, under both weightings."""
        for weighting in ("uniform", "training"):
            loss = self._loss(weighting)
            R = projection(arnoldi_influence(loss))
            yield Method(
                f"captum Arnoldi, {weighting}",
                "hessian",
                weighting,
                R.shape[1],
                HESSIAN_REG,
                partial(self._by, partial(_projected, R), loss),
            )

    def spectral(self) -> Iterator[Method]:
        """All curvature matrices, both weightings, ranks and dampings, from whole spectra."""
        for weighting in ("training", "uniform"):
            loss = self._loss(weighting)
            for curvature, operator in OPERATORS.items():
                matrix = operator(loss, Executor()).dense()
                values, vectors = scipy.linalg.eigh(0.5 * (matrix + matrix.T), overwrite_a=True)
                values, vectors = values[::-1], vectors[:, ::-1]
                tested = np.stack([rows @ vectors for rows in self.test_gradients])
                removed = vectors.T @ self._columns(loss)
                for rank in (*RANKS, "full"):
                    for damping in DAMPINGS:
                        of_these = partial(_spectral, values, tested, removed, rank, damping)
                        yield Method(SPECTRUM, curvature, weighting, rank, damping, of_these)

    def controls(self, seed: int = 0) -> Iterator[Method]:
        """What must do worse: no curvature, random scores, a network of random weights."""
        dot_product = partial(self._by, lambda vectors: vectors, self._loss("training"))
        shape = (len(self.groups), len(self.test_x), len(self.quantities))
        other = Predictions(
            randomised(self.pinn, seed), self.train_x, self.test_x, self.groups, self._stages
        )
        randomised_ones = (method for method in other.recipes() if method.name in RECIPES)
        return control_methods(dot_product, shape, randomised_ones, seed)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Outputs and derived quantities, in the order of the last axis."""
        return (*self.pinn.outputs, *self.pinn.quantities)

    def _loss(self, weighting: str) -> Loss:
        uniform = weighting == "uniform"
        return (Loss.uniform if uniform else Loss.of_training)(self._collocation)

    def _by(self, solve: Solve, loss: Loss) -> np.ndarray:
        return self._changes(solve(self._columns(loss)))

    def _by_the_rest(self, solve: Solve, loss: Loss) -> np.ndarray:
        columns = self._columns(loss)
        steps = [
            without_rows(solve, self._rows(group, loss))(columns[:, [number]])
            for number, group in enumerate(self.groups)
        ]
        return self._changes(np.hstack(steps))

    def _rows(self, group: np.ndarray, loss: Loss) -> np.ndarray:
        """Rows U ``[m, n_params]`` of a group's residuals: its part of G is ``U^T U``."""
        return GaussNewton(loss.subset(np.sort(group)), Executor()).rows()

    def _changes(self, solved: np.ndarray) -> np.ndarray:
        """From parameters' changes ``[n_params, n_groups]`` to those of the quantities."""
        found = np.stack([rows @ solved for rows in self.test_gradients], 2)
        return found.transpose(1, 0, 2)

    def _columns(self, loss: Loss) -> np.ndarray:
        """Gradients of the losses of all groups, ``[n_params, n_groups]``, made once."""
        key = tuple(loss.weights[name] for name in self.pinn.terms)
        if key not in self._known:
            columns = [self._removed(group, loss) for group in self.groups]
            self._known[key] = np.stack(columns, 1)
        return self._known[key]

    @staticmethod
    def _removed(group: np.ndarray, loss: Loss) -> np.ndarray:
        """Gradient of the loss of a group's points, ``[n_params]``."""
        return float64_array(loss_gradient(loss.subset(np.sort(group)), BATCH_SIZE))

    @cached_property
    def test_gradients(self) -> list[np.ndarray]:
        """Gradients ``[n_test, n_params]`` of each quantity."""
        observed = self.pinn.at(self.test_x, [self.pinn.observables])
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.quantities}
        for chunk in observed.chunks(BATCH_SIZE):
            for name, (_, rows) in jacobian(chunk).items():
                parts[name].append(float64_array(rows))
        return [np.concatenate(parts[name]) for name in self.quantities]


def control_methods(
    dot_product: Callable[[], np.ndarray],
    shape: tuple[int, ...],
    randomised_ones: Iterator[Method],
    seed: int,
) -> Iterator[Method]:
    """What must do worse: no curvature, random scores of a shape, methods at random weights."""
    yield Method("gradient dot product", "none", "training", "full", 0.0, dot_product)
    random = np.random.default_rng(seed).standard_normal
    yield Method("random scores", "none", "none", 0, 0.0, lambda: random(shape))
    for method in randomised_ones:
        yield replace(method, name=f"randomised network, {method.name}")


def randomised(pinn: Pinn, seed: int = 0) -> Pinn:
    """The same with the entries of each trained parameter in random order."""
    network = copied(pinn.network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name not in pinn.params:
                continue
            order = torch.randperm(p.numel(), generator=generator)
            p.copy_(p.flatten()[order].view_as(p))
    return replace(pinn, network=network)


def _projected(R: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``R R^T`` times columns."""
    product: np.ndarray = R @ (R.T @ columns)
    return product


def _spectral(
    values: np.ndarray, tested: np.ndarray, removed: np.ndarray, rank: int | str, damping: float
) -> np.ndarray:
    """Changes by ``(M + damping I)^-1`` on the largest eigenpairs, those not positive left out.

    values: eigenvalues of M, falling, ``[n_params]``. tested, removed: coordinates of gradients in
    the eigenvectors, ``[n_q, n_test, n_params]`` and ``[n_params, n_groups]``.
    """
    n = len(values) if rank == "full" else int(rank)
    kept = np.flatnonzero(values[:n] + damping > 0)
    damped = removed[kept] / (values[kept] + damping)[:, None]
    found = np.stack([coordinates[:, kept] @ damped for coordinates in tested], 2)
    return found.transpose(1, 0, 2)
