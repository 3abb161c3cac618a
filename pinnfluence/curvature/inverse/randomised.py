"""The whole inverse on a few thousand directions, found by random sums of the matrix's rows.

With ``M = A^T A``, a row of A a residual, few directions Q ``[n_params, rank]``, orthonormal, hold
nearly all of A's rows. They are those of a sketch ``S W A``: each row goes with random signs into a
few of its ``rank`` sums; W divides it by the root of its norm, so that small rows count as well.
With ``T = A Q``, the inverse by Galerkin's principle is

    (M + damping I)^-1 ~ Q (T^T T + damping I)^-1 Q^T + (I - Q Q^T) / damping:

what lies outside Q is damped, as if it had no curvature. A score ``g^T (M + damping I)^-1 h`` has
the error ``rho_g^T (M + damping I)^-1 rho_h`` with the residuals of both gradients, that is of
second order in what Q lacks. Two passes over the points make Q and T; the matrix is never made.

How large the rank must be is measured. Some rows of A, the probes, are made exact by adding them to
Q; the change of their scores with all rows is the error, which falls exponentially with the rank.
More directions are added until it is at most ``ERROR``.

Source: Halko, Martinsson and Tropp, SIAM Review 53 (2011), 217, on sketches; Clarkson and Woodruff,
STOC 2013, on sparse ones.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log
from typing import Any

import numpy as np
import torch
from scipy.linalg import block_diag, cho_factor, cho_solve, eigh
from torch import Tensor

from pinnfluence.curvature.inverse.base import Inverse, InverseMethod, MethodCost, UnitCosts
from pinnfluence.curvature.lanczos import check_finite
from pinnfluence.curvature.operator import Curvature
from pinnfluence.curvature.sketch import N_PROBES, Sketch, in_float64, orthonormal, product
from pinnfluence.errors import InputError
from pinnfluence.storage.stage_store import StageStore

FIRST_RANK = 1024
"""Directions that are looked for at first."""

USUAL_RANK = 1600
"""Directions that are taken to be needed, for estimates: as many as for 12,867 parameters."""

ERROR = 0.0005
"""Largest relative error of the probes' scores, at the 95th percentile of the rows of A. Scores of
the test points' squared residuals, the worst quantity, had 5 to 9 times the error of the probes:
less than half of what a compression may have (``influence.compression``)."""

SMALL_BYTES = 200_000_000
"""Size of Q and T in float64 up to which they are; beyond, they are float32."""

PARTS, PASS = "randomised", "pass"
"""Stages: what each pass over the points gave, and the one that runs."""


class RandomisedInverse(Inverse):
    """The damped inverse from Q ``[rank, n_params]``, a row a direction, and T ``[n, rank]``.

    pairs: eigenvalues and eigenvectors of ``T^T T``.
    """

    has_rows = False

    def __init__(
        self,
        Q: np.ndarray,
        T: np.ndarray,
        pairs: tuple[np.ndarray, np.ndarray],
        damping: float,
        has_rows: bool,
    ) -> None:
        if not damping > 0:
            raise InputError(
                f"the curvature is inverted on {len(Q)} directions, and the others are damped: "
                "give a positive --damping"
            )
        self.damping, self._Q, self._T, self.has_rows = damping, Q, T, has_rows
        self._values, self._vectors = pairs

    @property
    def whitened_rows(self) -> np.ndarray | None:
        """``T (T^T T + damping I)^-1/2`` in eigenvectors, float32 ``[n_residuals, rank]``."""
        if not self.has_rows:
            return None
        root = self._vectors / np.sqrt(self._values + self.damping)
        return np.concatenate([(T.T @ root).astype(np.float32) for _, T in in_float64(self._T.T)])

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        filters = 1 / (self._values + self.damping) - 1 / self.damping
        coefficients = self._filtered(filters, product(self._Q, vectors))
        return vectors / self.damping + self._outward(coefficients)

    def rows_solve(self, vectors: np.ndarray) -> np.ndarray:
        """``T (T^T T + damping I)^-1 Q^T`` times columns ``[n_params, k]``."""
        inner = self._filtered(1 / (self._values + self.damping), product(self._Q, vectors))
        return np.concatenate([T.T @ inner for _, T in in_float64(self._T.T)])

    def solve_rows(self, coefficients: np.ndarray) -> np.ndarray:
        """``Q (T^T T + damping I)^-1 T^T`` times columns ``[n_residuals, k]``."""
        inside = product(self._T.T, coefficients)
        return self._outward(self._filtered(1 / (self._values + self.damping), inside))

    def _filtered(self, filters: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return self._vectors @ (filters[:, None] * (self._vectors.T @ inside))

    def _outward(self, coefficients: np.ndarray) -> np.ndarray:
        """``Q`` times columns ``[rank, k]``, ``[n_params, k]``."""
        return np.concatenate([Q.T @ coefficients for _, Q in in_float64(self._Q)])


class Randomised(InverseMethod):
    """Directions of the matrix's rows from a random sketch, and the rows on these directions.

    Each pass over the points is kept when it is done, and now and then before.
    """

    needs_rows = everywhere = refines = True

    def fit(self) -> None:
        """Find the first directions and the curvature on them."""
        p, n = self.curvature.n_params, self.curvature.n_residuals
        rank = min(FIRST_RANK, p, n)
        self._type = np.dtype(np.float64 if 8 * rank * (p + n) < SMALL_BYTES else np.float32)
        saved = self.store.load_parts(PARTS) if self.executor.is_first else []
        self._parts = [part.arrays for part in self.executor.from_first(saved)]
        self._n_passes = 0
        self._facts: dict[str, Any] = {}
        self._Q = np.zeros((0, p), self._type)
        self._T = np.zeros((n, 0), self._type)
        self._probes = np.zeros((0, p))
        quiet = np.errstate(over="ignore", invalid="ignore")  # refused as soon as it is seen
        with self.executor.stage("curvature", 2 * self.curvature.n_steps), quiet:
            self._add(rank)
        self.largest, self.lowest = float(self._pairs[0][-1]), 0.0
        if not self.largest > 0:
            raise InputError(
                f"the curvature's largest eigenvalue is {self.largest:.3g}: no minimum"
            )

    def prepare(self, damping: float) -> None:
        """Add directions until the probes' scores are right within ``ERROR`` at a damping."""
        most = min(self.curvature.n_params, self.curvature.n_residuals)
        if damping > 0 and len(self._Q) < most:
            error = self._error(damping)
            while error > ERROR and (more := self._more(error, damping, most)):
                with self.executor.stage("more directions", 2 * self.curvature.n_steps):
                    self._add(more)
                error = self._error(damping)
            self._facts = {"error": error, "n_probes": len(self._probes), "limit": ERROR}

    def at(self, damping: float) -> RandomisedInverse:
        has_rows = self.curvature.has_loss_rows
        return RandomisedInverse(self._Q, self._T, self._pairs, damping, has_rows)

    def metadata(self) -> dict[str, Any]:
        facts = {"rank": len(self._Q), **self._facts}
        return {"n_products": self.curvature.n_products, "randomised": facts}

    def _add(self, rank: int) -> None:
        """Find so many more directions, and project the rows and the probes on them."""
        new = self._passed(lambda: self._sketched(rank))
        self._probes = new.pop("probes", self._probes)
        self._sums = new["sums"]
        self._Q = np.concatenate([self._Q, new["directions"]])
        outside = self._probes.astype(self._type)
        self._outside, _ = orthonormal(outside, self._Q)
        first = self._T.shape[1]
        T = self._passed(lambda: self._projected(first))["rows"]
        n_new = len(self._Q) - first
        self._T = np.concatenate([self._T, T[:, :n_new]], 1)
        self._T_outside = T[:, n_new:]
        self._C = np.zeros((len(self._Q),) * 2)
        for _, block in in_float64(self._T.T):
            self._C += block @ block.T
        check_finite(self._C)
        self._pairs = eigh(self._C, driver="evr", check_finite=False)
        self._pairs = self._pairs[0].clip(0), self._pairs[1]

    def _sketched(self, rank: int) -> dict[str, np.ndarray]:
        """The next directions, their sums in the sketch, and at first the probes."""
        if rank == self.curvature.n_params:  # all there are
            self.executor.advance(self.curvature.n_steps)
            directions = np.eye(rank, dtype=self._type)
            return {"directions": directions, "sums": directions.astype(np.float64)}
        sketch = Sketch(self.curvature, rank, self._n_passes)
        n_probes = N_PROBES if self._n_passes == 0 else 0
        arrays = {
            "sketch": np.zeros((rank, self.curvature.n_params), self._type),
            "probes": np.zeros((n_probes, self.curvature.n_params)),
        }
        self._pass(arrays, sketch.add)
        check_finite(arrays["sketch"])
        directions, sums = orthonormal(arrays["sketch"], self._Q)
        found = {"directions": directions, "sums": sums}
        if n_probes:
            found["probes"] = arrays["probes"][arrays["probes"].any(1)]
        return found

    def _projected(self, first: int) -> dict[str, np.ndarray]:
        """The rows times the directions from the first on and the probes' parts outside of all."""
        right = np.concatenate([self._Q[first:], self._outside]).T
        arrays = {"rows": np.zeros((self.curvature.n_residuals, right.shape[1]), self._type)}
        on_device: list[Tensor] = []

        def add(arrays: dict[str, np.ndarray], where: slice, rows: Tensor) -> None:
            if not on_device:
                on_device.append(torch.from_numpy(right).to(rows.device))
            arrays["rows"][where] = (rows @ on_device[0]).cpu().numpy()

        self._pass(arrays, add)
        return arrays

    def _pass(self, arrays: dict[str, np.ndarray], add: Callable[..., None]) -> None:
        """Go once over all rows, from where it was interrupted."""
        done = 0
        if (saved := self.store.load(PASS)) and saved.facts["number"] == self._n_passes:
            done = saved.facts["n_blocks"]
            for name, array in saved.arrays.items():
                arrays[name][:] = array
        dtype = torch.float64 if self._type == np.float64 else torch.float32
        for number, block in enumerate(self.curvature.row_blocks(dtype, done), done + 1):
            for _, where, rows in block:
                add(arrays, where, rows)
            if self.executor.n_processes == 1 and self.store.is_due():
                self.store.save(PASS, arrays, {"number": self._n_passes, "n_blocks": number})
        for array in arrays.values():
            self.executor.sum(torch.from_numpy(array))

    def _passed(self, work: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What the next pass gives, or gave before."""
        number = self._n_passes
        if number < len(self._parts):
            found, self._parts[number] = self._parts[number], {}
            self.executor.advance(self.curvature.n_steps)
        else:
            found = work()
            self.store.save_part(PARTS, number, found)
            self.store.remove(PASS)
        self._n_passes += 1
        return dict(found)

    def _error(self, damping: float, part: float = 1.0) -> float:
        """Relative error of the probes' scores, at the 95th percentile of the rows.

        part: of the newest directions, to see how the error falls with their number.
        """
        C, n_old = self._C, len(self._Q) - self._sums.shape[1]
        inside = product(self._Q, self._probes.T)
        Z = np.eye(len(C))
        if part < 1:
            kept = np.linalg.qr(self._sums[: int(part * len(self._sums))].T)[0]
            Z = block_diag(np.eye(n_old), kept)
        few = Z @ _solve(Z.T @ C @ Z, damping, Z.T @ inside)
        T = self._T.astype(np.float64)
        U = self._T_outside.astype(np.float64)
        with_probes = np.block([[C, T.T @ U], [U.T @ T, U.T @ U]])
        right = np.concatenate([inside, product(self._outside, self._probes.T)])
        more = _solve(with_probes, damping, right)
        exact = T @ more[: len(C)] + U @ more[len(C) :]
        sizes = np.linalg.norm(exact, axis=0)
        wrong = (exact - T @ few)[:, sizes > 0] / sizes[sizes > 0]
        exact = exact[:, sizes > 0] / sizes[sizes > 0]
        size = np.linalg.norm(exact, axis=1)
        errors = np.linalg.norm(wrong, axis=1)[size > 0] / size[size > 0]
        return float(np.percentile(errors, 95)) if len(errors) else 0.0

    def _more(self, error: float, damping: float, most: int) -> int:
        """How many directions more bring the error to its limit, if it goes on as it fell."""
        rank, part = len(self._Q), 0.75
        fewer = int((1 - part) * len(self._sums))
        fall = log(max(self._error(damping, part), 1.1 * error) / error) / max(1, fewer)
        needed = ceil(log(2 * error / ERROR) / fall)  # with room: another round costs two passes
        return min(max(needed, 64), rank, most - rank) if self._sums.shape[1] else 0

    @classmethod
    def cost(cls, curvature: Curvature, rank: int, unit: UnitCosts) -> MethodCost:
        """Products of the rows in float32, at half the time, and orthogonalisations."""
        p, n = curvature.n_params, curvature.n_residuals
        r = min(USUAL_RANK, p, n)
        operations = n * p * r + 4 * p * r * r + n * r * r
        seconds = {"curvature": operations * unit.operation + 4 * unit.losses}
        return MethodCost(seconds, 4 * 3 * r * (p + n), 4 * r * (p + n), r)

    @classmethod
    def kept(cls, curvature: Curvature, store: StageStore) -> dict[str, float]:
        """The passes that are finished, of the first two."""
        done = sum(store.facts(f"{PARTS}.{number:04d}") is not None for number in (0, 1))
        return {"curvature": done / 2}


def _solve(matrix: np.ndarray, damping: float, right: np.ndarray) -> np.ndarray:
    return cho_solve(cho_factor(matrix + damping * np.eye(len(matrix))), right)


METHOD = Randomised
