"""A trained ``dde.Model`` as a ``Pinn``: its network, its loss terms, its training points."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Declared, FieldFunction
from pinnfluence.field.module_call import copied
from pinnfluence.loss.pinn import Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.models.deepxde.checks import MismatchError, check_model, refuse
from pinnfluence.models.deepxde.conditions import (
    condition_equation,
    kind_of,
    loss_of,
    pde_equation,
    regression_equation,
    term_names,
)
from pinnfluence.models.deepxde.functions import Context
from pinnfluence.models.deepxde.model import PinnModel, dde
from pinnfluence.models.deepxde.network import own_parameters, translate
from pinnfluence.models.deepxde.own_loss import Expansion, expanded, expansions, loss_weights
from pinnfluence.models.deepxde.training_points import N_SAMPLE, training_points
from pinnfluence.models.own_network import OwnNetwork, Unknowns, cast_copy
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.calculation import calculation
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.warn_once import reason_of, warn_once

TIME = "t"
SPACE = "xyz" + "".join(c for c in string.ascii_letters if c not in "xyztuvwp")
"""Letters of the inputs: coordinates in space first, time last."""


@calculation()
def from_deepxde(
    model: Any,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    quantities: Mapping[str, FieldFunction] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Pinn:
    """The network and the loss of a trained ``dde.Model`` with the PyTorch backend.

    The loss is that of DeepXDE, ``L = sum_k c_k mean_{i in S_k} r_k(z_i)^2``. Its terms are called
    ``residual`` (``residual_1``, ... where the PDE gives several) and after the conditions:
    ``dirichlet``, ``neumann``, ``robin``, ``periodic``, ``operator``, ``pointset``,
    ``pointset_operator``, ``ic``, or the name of a class of the user's own, numbered in their order
    where there are several of a kind; ``data`` for ``dde.data.DataSet`` and ``Function``. The
    columns of a loss with several are terms ``name.0``, ``name.1``, ...

    The training points, ``pinn.training.x``, are ``train_x_all`` (on all of which the PDE acts),
    then points of conditions that are not among them, in the order of the conditions. The points
    of a ``PointSetBC`` have a row of their own even where they coincide with others.

    theta are the parameters that the model's optimiser trains, among them the
    ``external_trainable_variables`` ``unknowns.0``, ...; all others are constants.

    The model's own loss terms and their gradients by theta are computed by DeepXDE in ``dtype`` and
    compared with those computed here.

    Args:
        model: compiled, and trained or restored; it is left as it is.
        inputs: a letter an input; default x, y, z for places, t for time, last.
        outputs: names of outputs; default u, v, w, or u1, u2, ... if there are more than three.
        quantities: derived quantities by name, such as ``lambda f: f.v_x - f.u_y``.
        dtype: in which everything is computed, whatever the model was trained in.

    Raises:
        InputError: what cannot be treated rightly, by name; a model that was not compiled, or
            whose own loss terms or gradients are not what is computed here.
    """
    refuse(model)
    given = dict(quantities or {})
    with torch.random.fork_rng(devices=[]):  # new layers begin with random numbers
        if isinstance(model, PinnModel):
            pinn = _own_model(model, given, dtype)
            check_model(model, pinn, loss_of)
            return pinn
        settings = (inputs, outputs, given, dtype)
        try:
            return _checked(model, *settings)
        except (MismatchError, RuntimeError) as error:
            return _checked(model, *settings, by_autograd=reason_of(error))


def _checked(model: Any, *settings: Any, **named: Any) -> Pinn:
    """See ``_translated``; its losses and gradients are those of the model."""
    pinn, offsets = _translated(model, *settings, **named)
    check_model(model, pinn, loss_of, offsets)
    return pinn


def _translated(
    model: Any,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    quantities: Mapping[str, FieldFunction],
    dtype: torch.dtype,
    by_autograd: str = "",
) -> tuple[Pinn, list[float]]:
    """The translation, and what each loss of DeepXDE is more than that of the translation."""
    points = training_points(model)
    net = cast_copy(model.net, dtype)
    if next(net.parameters(), None) is None:
        raise InputError("the network has no parameters: expected a torch.nn.Module that has some")
    like = next(net.parameters())
    sample = tensor_like(points.all[:: max(1, len(points.all) // 100)], like)
    n_outputs, differentiates = _n_outputs(net, sample)
    by_autograd = by_autograd or differentiates
    own = OwnNetwork(model.net, Unknowns(model.external_trainable_variables))
    context = Context(sample[:N_SAMPLE], n_outputs, own, by_autograd)
    equations = _equations(model.data, context)
    network = translate(net, own, sample, _orders(equations), by_autograd)
    names = _names(model.data, sample.shape[1], n_outputs, inputs, outputs)
    with input_errors("names"):
        pinn = Pinn(network, *names, equations, quantities)
    losses = _expansions(model, pinn, dtype)
    columns = [_columns(terms, losses) for terms in pinn.names]
    training = points.sets(equations, columns)
    pinn = replace(
        pinn,
        equations=tuple(_expanded(equations, training, columns)),
        loss_weights=_weights(model, pinn, losses),
        training=training,
        theta=_theta(model, network),
        weight_decay=_weight_decay(model),
    )
    return pinn, [0.0 if e is None else e.offset for e in losses.values()]


def _own_model(
    model: PinnModel, quantities: Mapping[str, FieldFunction], dtype: torch.dtype
) -> Pinn:
    """A model that this package trains brings its equations along."""
    own = replace(model.pinn, network=copied(model.net).to(dtype))
    training = own.at(model.train_x).points
    return replace(own, quantities={**own.quantities, **quantities}, training=training)


def _n_outputs(net: nn.Module, points: torch.Tensor) -> tuple[int, str]:
    """Number of outputs of a network; and why it needs autograd in its forward pass, if so."""
    why = ""
    try:
        try:
            with torch.no_grad():
                outputs = net.eval()(points[:N_SAMPLE])
        except RuntimeError as error:
            why = f"the network needs autograd in its forward pass: {str(error).splitlines()[0]}"
            outputs = net.eval()(points[:N_SAMPLE].clone().requires_grad_())
    except Exception as error:  # whatever a user's network raises
        raise InputError(
            f"the network cannot be evaluated in {points.dtype}: {type(error).__name__}: {error}; "
            "expected one that takes any floating dtype, or read the model with its own dtype"
        ) from error
    finally:
        dde.grad.clear()
    if outputs.ndim != 2 or outputs.dtype != points.dtype:
        raise InputError(
            f"the network gives {tuple(outputs.shape)} in {outputs.dtype} at {N_SAMPLE} points, "
            f"expected two dimensions in {points.dtype}"
        )
    return outputs.shape[1], why


def _equations(data: Any, context: Context) -> tuple[Equation, ...]:
    if not isinstance(data, dde.data.PDE):
        return (regression_equation(context.n_outputs),)
    pde = [] if data.pde is None else [pde_equation(data, context)]
    names = term_names([kind_of(condition) for condition in data.bcs])
    conditions = [
        condition_equation(condition, name, context)
        for condition, name in zip(data.bcs, names, strict=True)
    ]
    return (*pde, *conditions)


def _orders(equations: Sequence[Equation]) -> dict[str, int]:
    """Highest order of a derivative, by the name of the equation's loss."""
    declared = [eq.residuals for eq in equations if isinstance(eq.residuals, Declared)]
    return {", ".join(d.names): max(map(len, d.derivatives), default=0) for d in declared}


def _names(
    data: Any,
    n_inputs: int,
    n_outputs: int,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kinds = (dde.geometry.TimeDomain, dde.geometry.GeometryXTime)
    timed = isinstance(getattr(data, "geom", None), kinds)
    few = tuple("uvw"[:n_outputs])
    many = tuple(f"u{n + 1}" for n in range(n_outputs))
    if n_inputs > len(SPACE) and inputs is None:
        raise InputError(f"expected at most {len(SPACE)} inputs, one letter each, found {n_inputs}")
    letters = (*SPACE[: n_inputs - timed], *TIME[:timed])
    for what, given, expected in (("inputs", inputs, n_inputs), ("outputs", outputs, n_outputs)):
        if given is not None and len(given) != expected:
            raise InputError(f"expected {expected} names of {what}, found {', '.join(given)}")
    for name in inputs or ():
        if len(name) != 1:
            raise InputError(f"inputs must be single letters, found {name!r}")
    for name in outputs or ():
        if "_" in name or not name.isidentifier():
            raise InputError(f"outputs must be names without underscore, found {name!r}")
    return tuple(inputs or letters), tuple(outputs or (few if n_outputs <= 3 else many))


def _expansions(model: Any, pinn: Pinn, dtype: torch.dtype) -> dict[str, Expansion | None]:
    """The losses of a model by name, see ``expansions``."""
    names, found = list(dict.fromkeys(map(loss_of, pinn.terms))), expansions(model, dtype)
    if len(names) != len(found):
        raise InputError(f"DeepXDE has {len(found)} loss terms, found {len(names)}: {names}")
    return dict(zip(names, found, strict=True))


def _weights(
    model: Any, pinn: Pinn, expansions: Mapping[str, Expansion | None]
) -> dict[str, float]:
    """Weight of each term: that of its loss, divided by the number of its columns."""
    given = loss_weights(model, len(expansions)).tolist()
    by_loss = {
        loss: weight if expansion is None else weight * expansion.weight
        for (loss, expansion), weight in zip(expansions.items(), given, strict=True)
    }
    widths = Counter(map(loss_of, pinn.terms))
    return {term: by_loss[loss_of(term)] / widths[loss_of(term)] for term in pinn.terms}


def _expanded(
    equations: Sequence[Equation], training: PointSet, columns: Sequence[np.ndarray | None]
) -> Iterator[Equation]:
    """The equations with the factors and shifts that stand behind their data."""
    for number, (equation, own) in enumerate(zip(equations, columns, strict=True)):
        if own is None:
            yield equation
            continue
        data = training.data[number]
        assert data is not None
        yield expanded(equation, training.x[training.rows[number]], data[:, -own.shape[1] :])


def _columns(names: Sequence[str], expansions: Mapping[str, Expansion | None]) -> np.ndarray | None:
    """Factors and shifts of the terms of an equation; None where all are means of squares."""
    losses = Counter(map(loss_of, names))
    own = [e for e in map(expansions.get, losses) if e is not None and not e.is_square]
    if not own:
        return None
    columns = []
    for loss, width in losses.items():
        expansion, shape = expansions[loss], (len(own[0].factors), width)
        pair = [np.ones(shape), np.zeros(shape)]
        if expansion is not None:
            pair = [expansion.factors, expansion.shifts]
        columns.append(np.stack(pair, 2).reshape(len(pair[0]), 2 * width))
    return np.hstack(columns)


def _theta(model: Any, network: nn.Module) -> tuple[str, ...] | None:
    """Names of the parameters that the optimiser trains; None means all."""
    groups = getattr(model.opt, "param_groups", [])
    moved = {id(p) for group in groups for p in group["params"] if p.requires_grad}
    own = own_parameters(model, network)
    names = tuple(n for n, _ in network.named_parameters() if id(own[n]) in moved)
    if not names:
        raise InputError("the model's optimiser trains none of its parameters; expected some")
    if len(names) == len(own):
        return None
    warn_once(
        model.net,
        f"scores are by the {len(names)} of {len(own)} parameter tensors that the model's "
        f"optimiser trains ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''}); the others "
        "count as constants",
    )
    return names


def _weight_decay(model: Any) -> float:
    """The factor of ``|theta|^2 / 2`` that the optimiser adds to the loss."""
    groups = getattr(model.opt, "param_groups", [])
    decays = {float(group.get("weight_decay") or 0.0) for group in groups if group["params"]}
    if len(decays) > 1:
        raise InputError(
            f"weight decay of some parameters alone cannot be treated, found {sorted(decays)}"
        )
    return decays.pop() if decays else 0.0
