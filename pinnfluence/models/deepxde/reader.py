"""A trained ``dde.Model`` as a ``Pinn``: its network, its loss terms, its training points."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pinnfluence.errors import InputError, input_errors
from pinnfluence.field.field import Declared, FieldFunction
from pinnfluence.field.network import MLP
from pinnfluence.loss.collocation import Pinn, Places
from pinnfluence.models.deepxde.checks import check_losses, refuse
from pinnfluence.models.deepxde.conditions import (
    POINT_SETS,
    condition_equation,
    kind_of,
    loss_of,
    pde_equation,
    term_names,
)
from pinnfluence.models.deepxde.functions import Context
from pinnfluence.models.deepxde.model import PinnModel, dde
from pinnfluence.models.deepxde.network import Unknowns, cast_copy, translate
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import tensor_like

SPACE, TIME = "xyzabcdefgh", "t"
"""Letters of the inputs: places first, time last."""

N_SAMPLE = 3
"""Points at which a user's functions are tried."""


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
    ``pointset_operator``, ``ic``, numbered in their order where there are several of a kind. The
    columns of a loss with several are terms ``name.0``, ``name.1``, ...

    The training points, ``pinn.training.x``, are ``train_x_all`` (on all of which the PDE acts),
    then points of conditions that are not among them, in the order of the conditions. The points
    of a ``PointSetBC`` have a row of their own even where they coincide with others.
    ``external_trainable_variables`` are parameters as well, called ``unknowns.0``, ...

    Args:
        model: compiled, and trained or restored; it is left as it is.
        inputs: a letter an input; default x, y, z for places, t for time, last.
        outputs: names of outputs; default u, v, w, or u1, u2, ... if there are more than three.
        quantities: derived quantities by name, such as ``lambda f: f.v_x - f.u_y``.
        dtype: in which everything is computed, whatever the model was trained in.

    Raises:
        InputError: what cannot be treated rightly, by name; a model that was not compiled, or
            whose own loss terms are not what is computed here.
    """
    refuse(model)
    given = dict(quantities or {})
    with torch.random.fork_rng(devices=[]):  # new layers begin with random numbers
        if isinstance(model, PinnModel):
            own = _own_model(model, given, dtype)
            if all(eq.data is None and eq.image is None for eq in own.equations):
                check_losses(model, own, str)  # else DeepXDE's look-up cannot evaluate them
            return own
        pinn = _translated(model, inputs, outputs, given, dtype)
        check_losses(model, pinn, loss_of)
    return pinn


def _translated(
    model: Any,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    quantities: Mapping[str, FieldFunction],
    dtype: torch.dtype,
) -> Pinn:
    data, unknowns = model.data, Unknowns(model.external_trainable_variables)
    net = cast_copy(model.net, dtype)
    like = next(net.parameters(), torch.zeros(0, dtype=dtype))
    points = tensor_like(data.train_x[:: max(1, len(data.train_x) // 100)], like)
    context = Context(points[:N_SAMPLE], _n_outputs(net, points), unknowns)
    equations = _equations(data, context)
    network = translate(net, unknowns, points, _orders(equations))
    names = _names(data, points.shape[1], context.n_outputs, inputs, outputs)
    with input_errors("names"):
        pinn = Pinn(network, *names, equations, quantities)
    return replace(pinn, loss_weights=_weights(model, pinn), training=_places(data, equations))


def _own_model(
    model: PinnModel, quantities: Mapping[str, FieldFunction], dtype: torch.dtype
) -> Pinn:
    """A model that this package trains brings its equations along."""
    own = model.pinn
    assert isinstance(own.network, MLP)
    old = own.network
    network = MLP(old.layers, old.activation, old.scale, old.envelope)
    network.load_state_dict(old.state_dict())
    network = network.to(next(old.parameters()).device, dtype)
    places = own.at(model.train_x)
    training = Places(places.x, places.rows, places.data, places.images)
    given = {**own.quantities, **quantities}
    return replace(own, network=network, quantities=given, training=training)


def _n_outputs(net: nn.Module, points: torch.Tensor) -> int:
    """Number of outputs of a network, found by calling it."""
    try:
        with torch.no_grad():
            outputs = net.eval()(points[:N_SAMPLE])
    except Exception as error:  # whatever a user's network raises
        raise InputError(
            f"the network cannot be evaluated in {points.dtype}: {type(error).__name__}: {error}; "
            "expected one that takes any floating dtype, or read the model with its own dtype"
        ) from error
    if outputs.ndim != 2 or outputs.dtype != points.dtype:
        raise InputError(
            f"the network gives {tuple(outputs.shape)} in {outputs.dtype} at {N_SAMPLE} points, "
            f"expected two dimensions in {points.dtype}"
        )
    return outputs.shape[1]


def _equations(data: Any, context: Context) -> tuple[Equation, ...]:
    pde = [] if data.pde is None else [pde_equation(data.pde, context)]
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
    timed = isinstance(data.geom, (dde.geometry.TimeDomain, dde.geometry.GeometryXTime))
    few = tuple("uvw"[:n_outputs])
    many = tuple(f"u{n + 1}" for n in range(n_outputs))
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


def _weights(model: Any, pinn: Pinn) -> dict[str, float]:
    """Weight of each term: that of its loss, divided by the number of its columns."""
    losses = list(dict.fromkeys(map(loss_of, pinn.terms)))
    given = np.ones(1) if model.loss_weights is None else np.asarray(model.loss_weights, float)
    if given.size not in (1, len(losses)):
        raise InputError(f"expected {len(losses)} loss weights, found {given.size}")
    if not np.isfinite(given).all() or (given < 0).any():
        raise InputError(f"loss weights must be at least 0, found {given.tolist()}")
    by_loss = dict(zip(losses, np.broadcast_to(given, len(losses)).tolist(), strict=True))
    widths = {loss: sum(loss_of(term) == loss for term in pinn.terms) for loss in losses}
    return {term: by_loss[loss_of(term)] / widths[loss_of(term)] for term in pinn.terms}


def _places(data: Any, equations: Sequence[Equation]) -> Places:
    """The training points, and the rows, data and images of each equation."""
    x = np.array(data.train_x_all) + 0.0  # -0 becomes 0
    points, chosen, images = [x], [], []
    n_points = len(x)
    starts = np.cumsum([0, *data.num_bcs])
    for condition, start, end in zip(data.bcs, starts[:-1], starts[1:], strict=True):
        own = np.array(data.train_x_bc[start:end]) + 0.0
        kind = kind_of(condition)
        if len(own) == 0:
            raise InputError(f"condition {type(condition).__name__} acts on no training point")
        partner = None
        if kind == "periodic":
            own, partner = np.split(own, 2)
        known = defaultdict(deque) if kind in POINT_SETS else _rows_by_point(x)
        rows = np.array([known[p].popleft() if known[p] else -1 for p in map(bytes, own)])
        new = rows < 0
        rows[new] = n_points + np.arange(new.sum())
        points.append(own[new])
        n_points += int(new.sum())
        chosen.append(rows)
        images.append(partner)
    if data.pde is not None:
        chosen, images = [np.arange(len(x)), *chosen], [None, *images]
    return _sorted_places(np.concatenate(points), chosen, images, data, equations)


def _rows_by_point(x: np.ndarray) -> defaultdict[bytes, deque[int]]:
    """Rows of each point by its bytes: repeated points are told apart by their order."""
    found: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for row, point in enumerate(map(bytes, x)):
        found[point].append(row)
    return found


def _sorted_places(
    x: np.ndarray,
    rows: Sequence[np.ndarray],
    images: Sequence[np.ndarray | None],
    data: Any,
    equations: Sequence[Equation],
) -> Places:
    """Rows in rising order, points without a loss term left out, data by the points' order."""
    used = np.unique(np.concatenate(rows))
    place = np.searchsorted(used, np.arange(len(x)))
    orders = [np.argsort(r) for r in rows]
    numbers = []
    offset = len(equations) - len(data.bcs)
    for n, (equation, r, order) in enumerate(zip(equations, rows, orders, strict=True)):
        given = None if equation.data is None else equation.data(x[r])
        condition = data.bcs[n - offset] if n >= offset else None
        if condition is not None and kind_of(condition) in POINT_SETS and given is not None:
            width = given.shape[1] - x.shape[1]
            values = condition.values.detach().cpu().numpy()
            given = np.hstack([x[r], np.broadcast_to(values, (len(r), width))])
        numbers.append(None if given is None else given[order])
    return Places(
        x[used],
        tuple(place[r[order]] for r, order in zip(rows, orders, strict=True)),
        tuple(numbers),
        tuple(None if im is None else im[o] for im, o in zip(images, orders, strict=True)),
    )
