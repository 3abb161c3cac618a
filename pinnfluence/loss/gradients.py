"""Gradients of single points: one batched backward pass a quantity, per-layer outer products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnfluence.field.network import MLP, Tape
from pinnfluence.loss.collocation import Collocation, Params
from pinnfluence.loss.functional_gradients import jacobian_by_functions
from pinnfluence.runtime.distributed import gather_rows, share, sum_over_ranks
from pinnfluence.runtime.parallel import map_in_threads, pays_in_threads

Advance = Callable[[int], object]
"""Called with the number of gradients that were finished, for a progress bar."""


@dataclass(frozen=True)
class Projection:
    """A quantity at the points on which it acts, and its gradients in a basis.

    values: ``r(z_i; theta)``, ``[n]``.
    gradients: ``basis^T grad r(z_i; theta)``, ``[n, rank]``.
    rows: indices of the points, ``[n]``.
    """

    values: Tensor
    gradients: Tensor
    rows: np.ndarray


def project_gradients(
    collocation: Collocation, basis: Tensor, batch_size: int, advance: Advance = lambda n: None
) -> dict[str, Projection]:
    """Per-point gradients of all quantities, projected on a basis ``[n_params, rank]``.

    The products have the basis's dtype, which may be narrower than that of the parameters. A
    quantity costs only at the points on which it acts. At most ``batch_size`` gradients are held
    at a time. Of several processes, the first gets the whole, the others their own part.
    """
    is_mlp = isinstance(collocation.pinn.network, MLP)  # others need jvp, not made for threads
    parallel = is_mlp and pays_in_threads(basis.device, batch_size * len(basis))
    projections: dict[str, Projection] = {}
    for number, names in enumerate(collocation.names):
        chunks = share(list(collocation.only(number).chunks(batch_size)))

        def project(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
            part = _project_chunk(chunk, basis)
            for _ in part:
                advance(len(chunk.x))
            return part

        parts = map_in_threads(project, chunks, parallel)
        like = next(iter(collocation.pinn.params.values()))
        empty = (like.new_zeros(0), basis.new_zeros(0, basis.shape[1]))
        for name in names:
            found = [part[name] for part in parts] or [empty]
            values, gradients = (gather_rows(torch.cat(t)) for t in zip(*found, strict=True))
            projections[name] = Projection(values, gradients, collocation.rows[number])
    return projections


def jacobian(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    """Residuals ``[n]`` of one equation at its points and their gradients ``[n, n_params]``.

    Columns are in the order of ``Pinn.params``; one backward pass a residual.
    """
    if not isinstance(chunk.pinn.network, MLP):
        return jacobian_by_functions(chunk)
    tape, params, values = _taped(chunk)
    return {
        name: (value.detach(), _rows(tape, value, params, chunk)) for name, value in values.items()
    }


def _rows(tape: Tape, values: Tensor, params: Params, chunk: Collocation) -> Tensor:
    """The gradient of each point as a row: outer products ``sum_S delta a^T`` a layer."""
    sizes = [p.numel() for p in params.values()]
    rows = values.new_zeros(len(tape[0][2][()]), sum(sizes))  # type: ignore[arg-type]
    blocks = dict(zip(params, rows.split(sizes, dim=1), strict=True))
    for name, deltas, value, activations in _cotangents(tape, values.sum()):
        blocks[f"{name}.weight"].copy_(torch.bmm(deltas.mT, activations).flatten(1))
        if value is not None:
            blocks[f"{name}.bias"].copy_(value)
    for name, gradients in _by_variables(values, _variables(params, tape)).items():
        blocks[name][: len(values)] = gradients
    return _folded(rows, chunk)


def _folded(rows: Tensor, chunk: Collocation) -> Tensor:
    """Rows of points with those of their images added, ``[n, ...]``."""
    return rows.view(2, len(chunk.x), rows.shape[1]).sum(0) if chunk.has_images else rows


def _project_chunk(chunk: Collocation, basis: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    if not isinstance(chunk.pinn.network, MLP):
        found = jacobian_by_functions(chunk)
        return {
            name: (values, rows.to(basis.dtype) @ basis) for name, (values, rows) in found.items()
        }
    blocks = split_basis(basis, chunk.pinn.params)
    tape, params, values = _taped(chunk)
    projections = {}
    for name, value in values.items():
        projected = _folded(_contract(tape, value.sum(), blocks), chunk)
        for variable, gradients in _by_variables(value, _variables(params, tape)).items():
            projected = projected + gradients.to(basis.dtype) @ blocks[variable]
        projections[name] = (value.detach(), projected)
    return projections


def _taped(chunk: Collocation) -> tuple[Tape, dict[str, Tensor], dict[str, Tensor]]:
    """Residuals with a graph back to the output streams of each linear layer, and parameters."""
    params = {name: p.detach().requires_grad_() for name, p in chunk.pinn.params.items()}
    tape: Tape = []
    with torch.enable_grad():
        values = chunk.residuals(params, *chunk.tensors(), tape=tape)
    return tape, params, values


def _variables(params: Params, tape: Tape) -> dict[str, Tensor]:
    """The parameters outside the linear layers: the unknowns of an inverse problem."""
    layers = {f"{name}.{kind}" for name, _, _ in tape for kind in ("weight", "bias")}
    return {name: p for name, p in params.items() if name not in layers}


def _by_variables(values: Tensor, variables: Params) -> dict[str, Tensor]:
    """Gradients ``[n, size]`` of each point by parameters that all points share.

    ``sum_i w_i r_i`` has the gradient ``sum_i w_i grad r_i``, whose derivative by w is the rows.
    """
    if not variables:
        return {}
    weights = torch.ones_like(values, requires_grad=True)
    with torch.enable_grad():
        sums = torch.autograd.grad(
            (weights * values).sum(), list(variables.values()), create_graph=True, allow_unused=True
        )
    rows = {}
    for (name, variable), total in zip(variables.items(), sums, strict=True):
        if total is None:
            rows[name] = values.new_zeros(len(values), variable.numel())
            continue
        columns = [
            torch.autograd.grad(entry, weights, retain_graph=True)[0] for entry in total.flatten()
        ]
        rows[name] = torch.stack(columns, 1)
    return rows


def _cotangents(tape: Tape, total: Tensor) -> list[tuple[str, Tensor, Tensor | None, Tensor]]:
    """Per layer: name, stacked cotangents ``[n, S, out]``, the value's, inputs ``[n, S, in]``.

    ``total`` is a sum over points, each of which depends on its own rows of the streams only, so
    that its gradient holds the gradients of the single points.
    """
    streams = [z for _, _, outputs in tape for z in outputs.values() if z is not None]
    found = iter(torch.autograd.grad(total, streams, retain_graph=True, allow_unused=True))
    layers = []
    for name, inputs, outputs in tape:
        deltas, activations, value = [], [], None
        for index, z in outputs.items():
            delta = None if z is None else next(found)
            a = inputs[index]
            if delta is None or a is None or z is None:
                continue
            deltas.append(delta)
            activations.append(a.detach().expand(len(z), -1))
            value = delta if index == () else value
        if deltas:
            layers.append((name, torch.stack(deltas, 1), value, torch.stack(activations, 1)))
    return layers


def _contract(tape: Tape, total: Tensor, blocks: Mapping[str, Tensor]) -> Tensor:
    """``basis^T grad`` of each point: outer products ``sum_S delta a^T``, times the basis."""
    some = next(iter(blocks.values()))
    projected = some.new_zeros(len(tape[0][2][()]), some.shape[1])  # type: ignore[arg-type]
    for name, deltas, value, activations in _cotangents(tape, total):
        outer = torch.bmm(deltas.transpose(1, 2), activations)
        projected += outer.flatten(1).to(some.dtype) @ blocks[f"{name}.weight"]
        if value is not None:
            projected += value.to(some.dtype) @ blocks[f"{name}.bias"]
    return projected


def split_basis(basis: Tensor, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of ``[n_params, rank]`` that belong to each parameter, in the order of ``params``."""
    sizes = [p.numel() for p in params.values()]
    return dict(zip(params, basis.split(sizes), strict=True))


def point_loss_gradients(
    collocation: Collocation, weights: Mapping[str, float], batch_size: int
) -> tuple[Tensor, Tensor]:
    """Norms of the gradients of the single points' losses, and their sum.

    With ``l_i = sum_k w_k r_k(z_i)^2``: ``||grad l_i||``, ``[n_points]``, and ``grad L``,
    ``[n_params]``.
    """
    like = next(iter(collocation.pinn.params.values()))
    parts = [(like.new_zeros(0), like.new_zeros(collocation.pinn.n_params))]
    for chunk in share(list(collocation.chunks(batch_size))):
        parts.append(_chunk_loss_gradients(chunk, weights))
    norms, gradients = zip(*parts, strict=True)
    return gather_rows(torch.cat(norms)), sum_over_ranks(torch.stack(gradients).sum(0))


def _chunk_loss_gradients(
    chunk: Collocation, weights: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    by_layers = isinstance(chunk.pinn.network, MLP) and not chunk.has_images
    taped = _taped(chunk) if by_layers else None
    if taped is None or _variables(taped[1], taped[0]):
        rows = point_loss_rows(chunk, weights)
        return rows.norm(dim=1), rows.sum(0)
    tape, _, residuals = taped
    x, _ = chunk.tensors()
    squared = (weights[name] * r.square().sum() for name, r in residuals.items())
    loss = sum(squared, x.new_zeros(()))
    squares = x.new_zeros(len(x))
    gradients = {name: torch.zeros_like(p) for name, p in chunk.pinn.params.items()}
    for name, deltas, value, activations in _cotangents(tape, loss):
        grams = torch.bmm(deltas, deltas.mT) * torch.bmm(activations, activations.mT)
        squares += grams.sum((1, 2))
        gradients[f"{name}.weight"] = torch.einsum("nso,nsi->oi", deltas, activations)
        if value is not None:
            squares += value.square().sum(1)
            gradients[f"{name}.bias"] = value.sum(0)
    return squares.sqrt(), torch.cat([g.flatten() for g in gradients.values()])


def point_loss_rows(chunk: Collocation, weights: Mapping[str, float]) -> Tensor:
    """Gradients ``[n, n_params]`` of the loss of each point, ``sum_k w_k r_k^2``."""
    like = next(iter(chunk.pinn.params.values()))
    gradients = like.new_zeros(len(chunk.x), chunk.pinn.n_params)
    for number, rows in enumerate(chunk.rows):
        here = torch.as_tensor(rows, device=like.device)
        for name, (values, jac) in jacobian(chunk.only(number)).items():
            if weights[name]:
                gradients[here] += 2 * weights[name] * values[:, None] * jac
    return gradients
