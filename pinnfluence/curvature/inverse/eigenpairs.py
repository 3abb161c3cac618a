"""The inverse on the largest eigenpairs of the curvature matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, MethodCost, UnitCosts
from pinnfluence.curvature.lanczos import Eigenpairs, is_small, keep_above, top_eigenpairs
from pinnfluence.curvature.operator import Curvature
from pinnfluence.curvature.operators.hessian import graph_bytes, keeps_graph
from pinnfluence.storage.stage_store import StageStore

STAGE = "eigenpairs"


@dataclass(frozen=True)
class LowRank(Inverse):
    """``V (Lambda + damping)^-1 V^T`` on eigenpairs whose values include the damping."""

    pairs: Eigenpairs
    damping: float

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        V = self.pairs.vectors
        return V @ ((V.T @ vectors) / self.pairs.values[:, None])

    @property
    def eigenvalues(self) -> np.ndarray:
        """Damped eigenvalues, ``[rank]``, falling."""
        return self.pairs.values

    @cached_property
    def root(self) -> np.ndarray:
        """``V (Lambda + damping)^-1/2``, ``[n_params, rank]``."""
        return self.pairs.vectors / np.sqrt(self.pairs.values)


class LargestEigenpairs(InverseMethod):
    """The ``rank`` largest eigenpairs; of the damped ones those above the recipe's threshold.

    The eigenpairs are kept; ARPACK begins again where it was interrupted.
    """

    takes_rank = everywhere = True
    _pairs: Eigenpairs

    def fit(self) -> None:
        """Find the eigenpairs, or take them from the store."""
        saved = self.executor.from_first(self.store.load(STAGE))
        if saved:
            self.executor.stages.kept(STAGE)
            pairs = Eigenpairs(**{**saved.arrays, **saved.facts})
        else:
            pairs = self._find()
            facts = {"most_negative": pairs.most_negative, "n_products": pairs.n_products}
            self.store.save(STAGE, {"values": pairs.values, "vectors": pairs.vectors}, facts)
        self._pairs = pairs
        self.largest, self.lowest = float(pairs.values[0]), pairs.most_negative

    def at(self, damping: float) -> LowRank:
        """The inverse on those eigenpairs whose damped values exceed the threshold."""
        damped = replace(self._pairs, values=self._pairs.values + damping)
        return LowRank(keep_above(damped, self.threshold), damping)

    def metadata(self) -> dict[str, Any]:
        return {"n_products": self._pairs.n_products}

    def _find(self) -> Eigenpairs:
        curvature, rank = self.curvature, self.rank
        small = is_small(curvature.n_params, rank)  # the dense matrix: all take part alike
        n_steps = curvature.n_steps if small else expected_products(rank, curvature.n_params)

        def find(matrix: Curvature) -> Eigenpairs:
            return top_eigenpairs(matrix, rank, 0.0, -np.inf, advance=self.executor.advance)

        with self.executor.stage(STAGE, n_steps):
            if small:
                pairs = self.executor.from_first(find(curvature))
            else:
                pairs = self.executor.on_first(find, curvature, "matvec")
        # in the order of a file: else products with what was saved would round otherwise
        return replace(pairs, vectors=np.ascontiguousarray(pairs.vectors))

    @classmethod
    def cost(cls, curvature: Curvature, rank: int, unit: UnitCosts) -> MethodCost:
        """Products until the eigenpairs converge; the graph of the gradient is held."""
        collocation, p = curvature.loss.collocation, curvature.n_params
        graph = graph_bytes(collocation) / curvature.executor.n_processes
        if not keeps_graph(collocation, curvature.executor.n_processes):
            graph *= unit.batch / len(collocation)
        seconds = {STAGE: expected_products(rank, p) * unit.product}
        return MethodCost(seconds, graph + 8 * 4 * (2 * rank + 1) * p, 8 * p * rank)

    @classmethod
    def kept(cls, curvature: Curvature, store: StageStore) -> dict[str, float]:
        """All eigenpairs or none."""
        return {STAGE: float(store.facts(STAGE) is not None)}


def expected_products(rank: int, n_params: int) -> int:
    """About how many products the eigenpairs need; 154 for rank 50, 102 to 273 were counted."""
    return n_params if is_small(n_params, rank) else 3 * rank + 4


METHOD = LargestEigenpairs
