"""Retraining without some of the training points, or with more, and as it is, as a control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.influence.identity import NOT_ON_THE_WAY, content_hash, source_hash
from pinnfluence.influence.stationarity import point_gradients
from pinnfluence.loss.fingerprint import fingerprint
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.runtime.executor import Executor
from pinnfluence.runtime.processes import in_processes
from pinnfluence.runtime.progress import progress_bar
from pinnfluence.storage.stage_store import CLOSED, StageStore
from pinnfluence.validation.objective import (
    Objective,
    flat_parameters,
    values_at,
    with_parameters,
)
from pinnfluence.validation.retraining import (
    Precondition,
    Preconditioner,
    Progress,
    Retrained,
    retrain,
)

FEW_POINTS = 40
"""Up to so many removed points the factor of all points serves; beyond, one of the rest is made."""


@dataclass(frozen=True)
class Settings:
    """How an experiment retrains.

    proximal: mu of ``mu |theta - theta-hat|^2``. tolerance: gradient norm at which retraining ends,
    as a part of the median ``||grad l_i||`` at theta-hat, of all points that may be there.
    renormalised: weights are c_k over the number of points that are there, as DeepXDE would; else
    they stay as they are.
    """

    proximal: float
    tolerance: float = 1e-5
    renormalised: bool = False


@dataclass(frozen=True)
class Outcome:
    """What retraining without each group of points, or with it, did at the test points.

    changes: values after that minus those of the control, ``[n_groups, n_test, n_q]``.
    gradient_norms, converged: of each group, ``[n_groups]``. control: figures of the control.
    """

    settings: Settings
    groups: list[np.ndarray]
    quantities: tuple[str, ...]
    changes: np.ndarray
    gradient_norms: np.ndarray
    converged: np.ndarray
    control: dict[str, Any]


class Experiment:
    """Retraining of one network without groups of its training points, or with groups of others.

    The control is retrained with the training's own points; without it the common drift of a
    network that had not quite converged would hide what a single point does.

    Args:
        pinn: the trained network, theta-hat.
        train_x: its training points ``[n_train, n_inputs]``.
        test_x: where quantities are compared, ``[n_test, n_inputs]``.
        settings: see ``Settings``.
        added: further points ``[n, n_inputs]``; given, groups are of these and join the training,
            each with the weights that the training's points have.
    """

    def __init__(
        self,
        pinn: Pinn,
        train_x: np.ndarray,
        test_x: np.ndarray,
        settings: Settings,
        added: np.ndarray | None = None,
    ) -> None:
        self.settings, self.test_x = settings, test_x
        self._theta = flat_parameters(pinn)
        self.pinn = with_parameters(pinn, self._theta)
        self.loss = Loss.of_training(self.pinn.at(train_x))
        self.quantities = (*pinn.outputs, *pinn.quantities)
        self._is_adding, self._whole = added is not None, self.loss
        if added is not None:
            everywhere = self.pinn.at(np.concatenate([train_x, added]))
            self._whole = replace(self.loss, collocation=everywhere)
        self._objective = self._with(np.arange(0))
        self._tolerance = settings.tolerance * self._median_point_gradient()
        self._found: tuple[Tensor, dict[str, Any]] | None = None

    def key(self, groups: Sequence[np.ndarray]) -> str:
        """A hash over all that determines the outcome: equations, weights, points, code."""
        weights = dict(self.loss.weights), self.loss.weight_decay
        code = source_hash(tuple(room for room in NOT_ON_THE_WAY if room != "validation"))
        facts = [vars(self.settings), self.quantities, weights, code, self._is_adding]
        observed = fingerprint(self.pinn.at(self.test_x, [self.pinn.observables]))
        equations = fingerprint(self._whole.collocation)
        return content_hash(facts, [self._theta.numpy(), *equations, *observed, *groups])

    def minimum(self, store: StageStore = CLOSED) -> Pinn:
        """The network after retraining with nothing removed."""
        return with_parameters(self.pinn, self.control(store)[0])

    def run(
        self,
        groups: Sequence[np.ndarray],
        n_processes: int = 1,
        store: StageStore = CLOSED,
        advance: Callable[[int], object] = lambda n: None,
    ) -> Outcome:
        """Retrain without each group of indices; what a store has already is not done again."""
        control, facts = self.control(store)
        done = self._load(store)
        advance(len(done))
        if facts["converged"] and len(done) < len(groups):
            factor = Preconditioner(self._objective, control)
            base = values_at(self.pinn, control, self.test_x)

            def one(group: np.ndarray) -> tuple[np.ndarray, float, bool]:
                found = self._retrain(group, control, factor)
                changes = values_at(self.pinn, found.theta, self.test_x) - base
                return changes, found.gradient_norm, found.converged

            for result in in_processes(one, groups[len(done) :], n_processes):
                done.append(result)
                advance(1)
                if store.is_due():
                    self._save(store, done)
            self._save(store, done)
        changes = [c for c, _, _ in done] or [np.zeros((len(self.test_x), len(self.quantities)))]
        n = len(done)
        return Outcome(
            self.settings,
            list(groups[:n]),
            self.quantities,
            np.stack(changes)[:n],
            np.array([norm for _, norm, _ in done]),
            np.array([converged for *_, converged in done], bool),
            facts,
        )

    def control(self, store: StageStore = CLOSED) -> tuple[Tensor, dict[str, Any]]:
        """Parameters with nothing removed, and figures of the control; from a store that has it."""
        if self._found is None:
            saved = store.load("control")
            self._found = (
                self._make_control(store)
                if saved is None
                else (torch.as_tensor(saved.arrays["theta"]), saved.facts)
            )
        return self._found

    def _make_control(self, store: StageStore) -> tuple[Tensor, dict[str, Any]]:
        found = self._retrain_control(store)
        before, after = (
            values_at(self.pinn, theta, self.test_x) for theta in (self._theta, found.theta)
        )
        plain = Objective(self._objective.loss, 0.0, self._theta)
        facts = {
            "gradient_norm": found.gradient_norm,
            "tolerance": self._tolerance,
            "converged": found.converged,
            "drift": np.sqrt(np.square(after - before).mean(0)).tolist(),
            "loss_before": plain.value(self._theta),
            "loss": plain.value(found.theta),
        }
        store.save("control", {"theta": found.theta.numpy()}, facts)
        store.remove("control_so_far")
        return found.theta, facts

    def _retrain_control(self, store: StageStore) -> Retrained:
        """The minimum of F with all points; goes on from the parameters that a store has."""
        saved, begin = store.load("control_so_far"), None
        if saved:
            theta, anchor = (torch.as_tensor(saved.arrays[name]) for name in ("theta", "anchor"))
            begin = Progress(theta, np.nan, anchor, saved.facts["iteration"])
        renew = partial(Preconditioner, self._objective)
        start, anchor = (begin.theta, begin.anchor) if begin else (self._theta, self._theta)
        with progress_bar("control", None) as bar:

            def reached(now: Progress) -> None:
                bar.set_postfix_str(f"gradient norm {now.gradient_norm:.1e}", refresh=False)
                bar.update()
                if store.is_due():
                    arrays = {"theta": now.theta.numpy(), "anchor": now.anchor.numpy()}
                    store.save("control_so_far", arrays, {"iteration": now.iteration})

            precondition, tolerance = renew(anchor), self._tolerance
            return retrain(self._objective, start, precondition, tolerance, renew, reached, begin)

    def _retrain(self, group: np.ndarray, control: Tensor, factor: Preconditioner) -> Retrained:
        objective = self._with(group)
        few = len(group) <= FEW_POINTS and not self.settings.renormalised
        precondition: Precondition = factor if few else Preconditioner(objective, control)
        if few and not self._is_adding:
            precondition = factor.without(group)
        renew = partial(Preconditioner, objective)
        return retrain(objective, control, precondition, self._tolerance, renew)

    def _with(self, group: np.ndarray) -> Objective:
        """With a group of the further points, or without a group of the training's."""
        own = np.arange(len(self.loss))
        points = np.setdiff1d(own, group)
        if self._is_adding:
            points = np.concatenate([own, len(own) + np.sort(group)])
        rest = self._whole.subset(points)
        if self.settings.renormalised:
            rest = Loss.of_training(rest.collocation)
        return Objective(rest, self.settings.proximal, self._theta)

    def _median_point_gradient(self) -> float:
        norms, _ = point_gradients(self._whole, Executor())
        return float(norms.median())

    @staticmethod
    def _load(store: StageStore) -> list[tuple[np.ndarray, float, bool]]:
        saved = store.load("retrained")
        if saved is None:
            return []
        arrays = (saved.arrays[name] for name in ("changes", "gradient_norms", "converged"))
        return [(c, float(norm), bool(ok)) for c, norm, ok in zip(*arrays, strict=True)]

    @staticmethod
    def _save(store: StageStore, done: list[tuple[np.ndarray, float, bool]]) -> None:
        changes, norms, converged = zip(*done, strict=True)
        arrays = {
            "changes": np.stack(changes),
            "gradient_norms": np.array(norms),
            "converged": np.array(converged),
        }
        store.save("retrained", arrays)


def random_groups(n_train: int, size: int, n: int, seed: int = 0) -> list[np.ndarray]:
    """n groups of ``size`` training points at random; half of all for datamodels."""
    generator = np.random.default_rng(seed)
    return [np.sort(generator.choice(n_train, size, replace=False)) for _ in range(n)]


def spread_points(collocation: Collocation, n: int, seed: int = 0) -> list[np.ndarray]:
    """Groups of one training point each, n of them, as many from each kind of place.

    Kinds are the sets of loss terms that act on a point: the interior, and each boundary.
    """
    kinds: dict[tuple[str, ...], list[int]] = {}
    acting: list[list[str]] = [[] for _ in collocation.x]
    for name, rows in collocation.term_rows().items():
        for i in rows:
            acting[i].append(name)
    for i, names in enumerate(acting):
        kinds.setdefault(tuple(names), []).append(i)
    generator = np.random.default_rng(seed)
    queues = [list(generator.permutation(points)) for points in kinds.values()]
    chosen: list[int] = []
    for queue in _in_turn(queues):
        if len(chosen) == n:
            break
        chosen.append(int(queue.pop()))
    return [np.array([i]) for i in sorted(chosen)]


def _in_turn(queues: list[list[int]]) -> Iterator[list[int]]:
    """The queues that are not empty, again and again."""
    while queues := [queue for queue in queues if queue]:
        for queue in queues:
            if queue:
                yield queue
