"""A PINN that was trained with PINA (``pina-mathlab``), as ``Influence`` takes it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError
from pinnfluence.loss.differentiators import loss_gradient
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.plain_torch import LETTERS, Residual, Term, pinn_of
from pinnfluence.runtime.calculation import calculation
from pinnfluence.runtime.devices import float64_array
from pinnfluence.runtime.executor import BATCH_SIZE
from pinnfluence.runtime.warn_once import reason_of, warn_once

TOLERANCES = {torch.float64: (1e-6, 1e-5), torch.float32: (1e-2, 3e-2)}
"""Largest differences of losses and of gradients from PINA's own, by the dtype of the solver."""


@calculation()
def from_pina(
    solver: Any,
    dtype: torch.dtype = torch.float64,
    quantities: Mapping[str, Residual] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Pinn:
    """The network of a trained solver of PINA with the conditions of its problem.

    The loss is that of PINA: the sum over the conditions k of ``w_k`` times the mean square of
    their residuals at all points and all of their equations. Residuals come from PINA's own
    ``condition.evaluate``. A condition of several equations has a loss term for each,
    ``<condition>_1``, ``<condition>_2``, ...

    Args:
        solver: a ``pina.solver.PINN`` with the loss ``MSELoss`` or ``PowerLoss(p=2)``.
        dtype: in which everything is computed. The solver is left as it is.
        quantities: see ``torch_model``; the network takes points ``[n, n_inputs]``.
        weights: w_k by condition, 1 where none is given; default: those of the solver's
            ``ScalarWeighting``.

    Raises:
        InputError: what cannot be treated rightly, by name; a loss or a gradient that differs from
            PINA's own.

    >>> influence = pinnfluence.Influence(pinnfluence.from_pina(solver))      # doctest: +SKIP
    """
    try:
        from pina.solver import PhysicsInformedSingleModelSolver
    except ImportError as error:
        raise InputError(f"from_pina needs the package pina-mathlab: {error}") from None
    if type(solver) is not PhysicsInformedSingleModelSolver:
        raise InputError(
            f"expected a trained pina.solver.PINN, whose loss is a sum of mean squares, found "
            f"{type(solver).__name__}"
        )
    network = Labelled(solver)
    conditions = _conditions(solver)
    given = _weights(solver, conditions, weights)
    parts, factor = [], _factor(solver)
    for name, (condition, data) in conditions.items():
        n, width = _shape(solver, name, condition, data)
        names = (name,) if width == 1 else tuple(f"{name}_{k + 1}" for k in range(width))
        points = tuple(_plain(data[key]).detach() for key in data)
        residual = network.residual_of(condition, tuple(data))
        parts.append(Term(names, points, residual, given[name] * factor(n, width)))
    problem, unknowns = solver.problem, tuple((solver._params or {}).values())
    inputs = problem.input_variables
    pinn = pinn_of(
        network,
        parts,
        unknowns,
        dtype,
        inputs if all(len(name) == 1 for name in inputs) else LETTERS[: len(inputs)],
        quantities,
        problem.output_variables,
        _weight_decay(solver),
    )
    _compare(pinn, solver, conditions, given)
    return pinn


class Labelled(nn.Module):
    """The solver's network between plain tensors; inputs in the order of the problem."""

    def __init__(self, solver: Any) -> None:
        super().__init__()
        self.model = solver.model
        self._solver = (solver,)  # a module here would be part of this one

    def __deepcopy__(self, memo: Any) -> Labelled:
        (solver,), copied = self._solver, Labelled.__new__(Labelled)
        nn.Module.__init__(copied)
        copied.model, copied._solver = copy.deepcopy(self.model, memo), (solver,)
        return copied

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[n, n_outputs]`` at points ``[n, n_inputs]``."""
        (solver,) = self._solver
        return _plain(solver.forward(_labelled(x, solver.problem.input_variables)))

    def residual_of(self, condition: Any, keys: tuple[str, ...]) -> Callable[..., Tensor]:
        """The residuals of a condition ``[n, n_equations]`` as ``torch_model`` asks for them."""
        (solver,) = self._solver
        names = solver.problem.input_variables

        def residual(network: Labelled, x: Tensor, *others: Tensor) -> Tensor:
            batch = dict(zip(keys, (_labelled(x, names), *others), strict=True))
            return _plain(condition.evaluate(batch, solver))

        return residual


def _plain(x: Tensor) -> Tensor:
    """Without labels, with the graph: batched backward passes take no subclass of a tensor."""
    return x.as_subclass(Tensor)


def _labelled(x: Tensor, names: list[str]) -> Any:
    """Points with labels, which PINA's operators look for."""
    from pina import LabelTensor

    labelled = x.as_subclass(LabelTensor)
    labelled.labels = list(names)
    return labelled


def _conditions(solver: Any) -> dict[str, tuple[Any, dict[str, Tensor]]]:
    """The conditions by name, each with the tensors at which it was trained, in PINA's names."""
    from pina import Condition, LabelTensor
    from pina.condition import InputEquationCondition, InputTargetCondition

    problem, found = solver.problem, {}
    for name, given in problem.conditions.items():
        condition = given
        if hasattr(given, "domain") and not hasattr(given, "input"):  # no trainer was there yet
            if given.domain not in problem.discretised_domains:
                raise InputError(f"the domain of {name} has no points; call discretise_domain")
            points = problem.discretised_domains[given.domain]
            condition = Condition(input=points, equation=given.equation)
        if not isinstance(condition, InputEquationCondition | InputTargetCondition):
            raise InputError(
                f"{name}: expected a condition of an equation or of target values, found "
                f"{type(condition).__name__}"
            )
        if not isinstance(condition.input, LabelTensor) or condition.input.ndim != 2:
            raise InputError(
                f"{name}: expected points as a LabelTensor [n, n_inputs], found "
                f"{type(condition.input).__name__}"
            )
        rows = _trained_rows(solver, name, len(condition.input))
        data = {"input": condition.input.extract(problem.input_variables)}
        if isinstance(condition, InputTargetCondition):
            data["target"] = condition.target
        found[name] = condition, {key: _plain(value)[rows] for key, value in data.items()}
    return found


def _trained_rows(solver: Any, name: str, n: int) -> Tensor:
    """Rows of a condition's points that the trainer took for training, all without a trainer."""
    trainer = getattr(solver, "_trainer", None)
    if trainer is None:
        return torch.arange(n)
    from pina.callback import RefinementInterface

    if any(isinstance(callback, RefinementInterface) for callback in trainer.callbacks):
        warn_once(
            solver.model,
            "points were resampled during the training: scores are those of the last points; "
            "earlier ones shaped the network, too, and have no scores",
        )
    rows = torch.tensor(sorted(trainer.data_module.split_idxs[name]["train"]), dtype=torch.int64)
    if len(rows) == 0 or int(rows[-1]) >= n:
        raise InputError(
            f"{name} had {len(rows)} training points when the trainer was made, and has {n} points "
            "now; make the trainer again"
        )
    return rows


def _weights(
    solver: Any, conditions: Mapping[str, Any], given: Mapping[str, float] | None
) -> dict[str, float]:
    """w_k by condition."""
    from pina.weighting import ScalarWeighting, _NoWeighting

    weighting = solver.weighting
    if given is None and type(weighting) not in (ScalarWeighting, _NoWeighting):
        raise InputError(
            f"the weights of {type(weighting).__name__} change while a network is trained; give "
            "those of its end, weights=solver.weighting.last_saved_weights()"
        )
    if unknown := sorted((given or {}).keys() - conditions.keys()):
        raise InputError(f"no condition {unknown[0]}, expected some of {', '.join(conditions)}")
    if given is None:
        given = weighting.update_weights(conditions)
    return {name: float(given.get(name, 1.0)) for name in conditions}


def _factor(solver: Any) -> Callable[[int, int], float]:
    """From numbers of points and equations: what a mean square over points is multiplied by."""
    from pina.loss import PowerLoss

    loss, reduction = solver.loss, solver._reduction
    mean_of_equations = type(loss) is PowerLoss and loss.p == 2 and not loss.relative
    if not (mean_of_equations or type(loss) is nn.MSELoss) or reduction not in ("mean", "sum"):
        raise InputError(
            f"expected the loss MSELoss or PowerLoss(p=2), whose second derivative by the residual "
            f"is positive, found {type(loss).__name__}, reduced by {reduction}"
        )
    if reduction == "mean":
        return lambda n, width: 1 / width
    return lambda n, width: n / width if mean_of_equations else n


def _shape(solver: Any, name: str, condition: Any, data: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers of points and of equations of a condition."""
    n = len(data["input"])
    try:
        residuals = condition.evaluate(_batch(solver, data), solver)
    except Exception as error:  # of a user's equation
        raise InputError(f"{name} cannot be evaluated: {reason_of(error)}") from error
    if residuals.ndim not in (1, 2) or len(residuals) != n:
        raise InputError(
            f"{name}: expected a row of residuals for each of its {n} points, found the shape "
            f"{tuple(residuals.shape)}"
        )
    return n, residuals.numel() // n


def _batch(solver: Any, data: Mapping[str, Tensor]) -> dict[str, Any]:
    points = _labelled(data["input"].detach().clone(), solver.problem.input_variables)
    return {**data, "input": points}


def _weight_decay(solver: Any) -> float:
    """Of the optimiser, where it adds it to the gradient."""
    optimizer = solver.optimizer
    decay = float(optimizer.kwargs.get("weight_decay") or 0.0)
    if decay and optimizer.optimizer_class not in (torch.optim.Adam, torch.optim.SGD):
        raise InputError(
            f"weight decay of {optimizer.optimizer_class.__name__} is no part of a loss; expected "
            "that of Adam or SGD, or none"
        )
    return decay


def _compare(
    pinn: Pinn, solver: Any, conditions: Mapping[str, Any], weights: Mapping[str, float]
) -> None:
    """Refuse a loss, or a gradient, that differs from the one that PINA computes."""
    loss = Loss.of_training(pinn.at(pinn.training_points))
    trained = [p for p in solver.model.parameters() if p.requires_grad]
    trained += [p for p in (solver._params or {}).values() if p.requires_grad]
    limits = TOLERANCES.get(trained[0].dtype, TOLERANCES[torch.float32])
    for number, (name, (condition, data)) in enumerate(conditions.items()):
        one, training = loss.only(number), solver.model.training
        solver.model.train()  # as it was trained: what is random then is no loss of points
        try:
            own = weights[name] * solver._compute_condition_loss(
                condition=condition, data=_batch(solver, data), batch_idx=0
            )
        finally:
            solver.model.train(training)
        parts = torch.autograd.grad(own, trained, allow_unused=True, materialize_grads=True)
        gradient = float64_array(torch.cat([_plain(part).flatten() for part in parts]))
        mine = float(sum(one.term_sums(BATCH_SIZE).values())), loss_gradient(one, BATCH_SIZE)
        off = abs(mine[0] - float(own)), float(np.linalg.norm(float64_array(mine[1]) - gradient))
        sizes = abs(float(own)), float(np.linalg.norm(gradient))
        for what, limit, size, difference in zip(
            ("loss", "gradient"), limits, sizes, off, strict=True
        ):
            if not difference <= limit * size + 1e-12:
                raise InputError(
                    f"the {what} of {name} is {difference / max(size, 1e-300):.1e} off PINA's own, "
                    "relative to it; expected residuals that depend on their own point alone, and "
                    "a network without dropout and batch normalisation"
                )
