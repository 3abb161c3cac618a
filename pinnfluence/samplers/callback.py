"""Samplers for ``model.train(callbacks=[...])`` of DeepXDE."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pinnfluence.diagnosis.sampler import sampler_of
from pinnfluence.errors import InputError
from pinnfluence.influence.quantity import Quantity
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.reader import from_deepxde
from pinnfluence.runtime.devices import as_array
from pinnfluence.samplers.by_influence import ByInfluence
from pinnfluence.samplers.sampler import Resampling, Sampler
from pinnfluence.storage.point_checks import among


class PointSampler(dde.callbacks.Callback):  # type: ignore[name-defined]
    """Adds or replaces points of the equation while a ``dde.Model`` is trained.

    After every ``every`` iterations, just before the next one, candidates are drawn inside the
    domain, and the strategy chooses among them. They join the training by DeepXDE's own
    ``data.add_anchors`` or ``data.replace_with_anchors``, as points of the equation. Points on
    which a condition acts stay. ``model.data.train_x`` is at the end what the last step was trained
    on, so that ``Influence(model)`` and ``diagnose(model)`` take the model as it is.

    DeepXDE's L-BFGS calls callbacks only after each ``iter_per_step`` iterations, 1,000 by default
    (``dde.optimizers.config.LBFGS_options``); its memory begins anew with the new points.

    Args:
        strategy: ``random``, ``rar``, ``rard``, ``rad``, ``r3`` or ``influence``, see
            ``pinnfluence.samplers.strategies``.
        every: iterations between two times.
        n: points that are added each time, default 10; or, where points are replaced, that there
            are inside the domain afterwards, default as many as before.
        mode: ``add`` or ``replace``; default: the strategy's own.
        seed: of candidates and choice. What is drawn depends on it and the step alone.
        n_candidates: drawn each time; default: the strategy's own number.

    Attributes:
        log: what was done, a ``Resampling`` each time: ``step``, ``number`` of new points, the
            ``points`` themselves, and ``|r|`` at the candidates (``residuals``) and at the points
            (``chosen``); see ``samplers.sampler.Resampling``.

    Raises:
        InputError: unknown names, or numbers that cannot be; while training, a model whose loss
            cannot be treated, see ``from_deepxde``.

    >>> model.train(iterations=10000, callbacks=[PointSampler("rad", every=1000)]) # doctest: +SKIP
    """

    def __init__(
        self,
        strategy: str,
        every: int,
        n: int | None = None,
        mode: str | None = None,
        seed: int = 0,
        n_candidates: int | None = None,
    ) -> None:
        super().__init__()
        self._sampler = Sampler(strategy, _nothing, every, n, mode, seed, n_candidates)
        self._by_influence = ByInfluence(_nothing)
        self._since: int | None = None
        self.log: list[Resampling] = []

    def init(self) -> None:
        """Take the domain of the model, now that it is known."""
        domain = getattr(self.model.data, "geom", None)
        if domain is None:
            raise InputError("expected a model with a domain, found data without a geometry")
        draw = drawing(domain, INSIDE, "pseudo")
        chooser = replace(self._by_influence, fresh=sampler_of(self.model))
        self._sampler = replace(self._sampler, draw=draw, by_influence=chooser)
        self._since = None

    def on_epoch_begin(self) -> None:
        """Choose other points if they are due."""
        step = self.model.train_state.iteration
        if self._since is None:
            self._since = step
        if step - self._since < self._sampler.every:
            return
        self._since = step
        pinn = from_deepxde(self.model)
        found = self._sampler.resample(pinn, pinn.training_points, step)
        self._take(found, pinn)
        self.log.append(found)

    def _take(self, found: Resampling, pinn: Pinn) -> None:
        data = self.model.data
        if found.mode == "add":
            data.add_anchors(found.points)
        else:
            own = data.train_x_all + 0.0  # -0 becomes 0, as in the Pinn
            stay = among(own, pinn.training_points[found.kept])
            data.replace_with_anchors(np.concatenate([own[stay], found.points]))
        if isinstance(self.model.opt, torch.optim.LBFGS):
            _forget(self.model.opt)


class InfluenceSampler(PointSampler):
    """The ``PointSampler`` that chooses points by influence: see ``samplers.by_influence``.

    Args:
        every, n, mode, seed, n_candidates: see ``PointSampler``.
        quantity: whose estimated error the points shall lower, as in ``Influence.scores``; default:
            none, the largest residuals that training on the chosen points would leave.
        at: where it is asked for, ``[n, n_inputs]``.
        weights: ``[n]``; given, the quantity is the one number ``sum_i weights_i f(x_i)``.

    >>> sampler = pinnfluence.InfluenceSampler(every=1000, n=20)         # doctest: +SKIP
    >>> model.train(iterations=10000, callbacks=[sampler])               # doctest: +SKIP
    >>> sampler.log[0].points                                            # doctest: +SKIP
    """

    def __init__(
        self,
        every: int,
        n: int | None = None,
        mode: str | None = None,
        seed: int = 0,
        n_candidates: int | None = None,
        quantity: Quantity | None = None,
        at: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__("influence", every, n, mode, seed, n_candidates)
        where, factors = (None if a is None else as_array(a) for a in (at, weights))
        self._by_influence = ByInfluence(_nothing, quantity, where, factors)


def _nothing(n: int, seed: int) -> np.ndarray:
    raise InputError("the sampler knows no domain yet: give it to model.train as a callback")


def _forget(optimizer: torch.optim.LBFGS) -> None:
    """Empty the memory of L-BFGS; its count of iterations goes on, by which DeepXDE counts.

    With ``d = 0`` the next difference of gradients belongs to no step and is not taken; the next
    direction is that of steepest descent.
    """
    for memory in optimizer.state.values():
        if "d" in memory:
            nothing = torch.zeros_like(memory["d"])
            memory.update(d=nothing, prev_flat_grad=nothing.clone(), t=0.0, H_diag=1)
            memory.update(old_dirs=[], old_stps=[], ro=[])
