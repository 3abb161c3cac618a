"""Gradients of single points: one batched backward pass a quantity, per-layer outer products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pinnfluence.network import MLP, Tape
from pinnfluence.parallel import map_in_threads, pays_in_threads
from pinnfluence.terms import Collocation

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

    A quantity costs only at the points on which it acts. Nothing of the size
    ``n_points x n_params`` is held: at most ``batch_size`` gradients at a time.
    """
    is_mlp = isinstance(collocation.pinn.network, MLP)  # others need jvp, not made for threads
    parallel = is_mlp and pays_in_threads(basis.device, batch_size * len(basis))
    projections: dict[str, Projection] = {}
    for number, names in enumerate(collocation.names):
        chunks = list(collocation.only(number).chunks(batch_size))

        def project(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
            part = _project_chunk(chunk, basis)
            for _ in part:
                advance(len(chunk.x))
            return part

        parts = map_in_threads(project, chunks, parallel)
        empty = (basis.new_zeros(0), basis.new_zeros(0, basis.shape[1]))
        for name in names:
            found = [part[name] for part in parts] or [empty]
            values, gradients = (torch.cat(tensors) for tensors in zip(*found, strict=True))
            projections[name] = Projection(values, gradients, collocation.rows[number])
    return projections


def jacobian(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    """Residuals ``[n]`` of one equation at its points and their gradients ``[n, n_params]``.

    Columns are in the order of ``Pinn.params``; one backward pass a residual.
    """
    if not isinstance(chunk.pinn.network, MLP):
        return _jacobian_by_vmap(chunk)
    tape, values = _taped(chunk)
    return {
        name: (value.detach(), _rows(tape, value.sum(), chunk)) for name, value in values.items()
    }


def _rows(tape: Tape, total: Tensor, chunk: Collocation) -> Tensor:
    """The gradient of each point as a row: outer products ``sum_S delta a^T`` a layer."""
    params = chunk.pinn.params
    sizes = [p.numel() for p in params.values()]
    rows = total.new_zeros(len(chunk.x), sum(sizes))
    blocks = dict(zip(params, rows.split(sizes, dim=1), strict=True))
    for name, deltas, value, activations in _cotangents(tape, total):
        blocks[f"{name}.weight"].copy_(torch.bmm(deltas.mT, activations).flatten(1))
        if value is not None:
            blocks[f"{name}.bias"].copy_(value)
    return rows


def _project_chunk(chunk: Collocation, basis: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    if not isinstance(chunk.pinn.network, MLP):
        found = _jacobian_by_vmap(chunk)
        return {name: (values, rows @ basis) for name, (values, rows) in found.items()}
    blocks = split_basis(basis, chunk.pinn.params)
    tape, values = _taped(chunk)
    return {
        name: (value.detach(), _contract(tape, value.sum(), blocks))
        for name, value in values.items()
    }


def _taped(chunk: Collocation) -> tuple[Tape, dict[str, Tensor]]:
    """Residuals with a graph back to the output streams of each linear layer."""
    params = {name: p.detach().requires_grad_() for name, p in chunk.pinn.params.items()}
    tape: Tape = []
    with torch.enable_grad():
        values = chunk.residuals(params, *chunk.tensors(), tape=tape)
    return tape, values


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
        projected += outer.flatten(1) @ blocks[f"{name}.weight"]
        if value is not None:
            projected += value @ blocks[f"{name}.bias"]
    return projected


def _jacobian_by_vmap(chunk: Collocation) -> dict[str, tuple[Tensor, Tensor]]:
    """The same for any module that ``torch.func`` can treat: a gradient a point, by vmap."""
    x, _ = chunk.tensors()
    params = chunk.pinn.params
    (names,) = chunk.names

    def quantity(params: dict[str, Tensor], point: Tensor, name: str) -> tuple[Tensor, Tensor]:
        value = chunk.residuals(params, point[None], (torch.zeros(1, dtype=torch.long),))[name][0]
        return value, value

    found = {}
    for name in names:
        gradient = torch.func.grad(
            lambda p, point, name=name: quantity(p, point, name), has_aux=True
        )
        gradients, values = torch.func.vmap(gradient, in_dims=(None, 0))(params, x)
        flat = torch.cat([gradients[key].flatten(1) for key in params], 1)
        found[name] = (values.detach(), flat.detach())
    return found


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
    parts = [_chunk_loss_gradients(chunk, weights) for chunk in collocation.chunks(batch_size)]
    norms, gradients = zip(*parts, strict=True)
    return torch.cat(norms), torch.stack(gradients).sum(0)


def _chunk_loss_gradients(
    chunk: Collocation, weights: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    if not isinstance(chunk.pinn.network, MLP):
        return _chunk_loss_gradients_by_vmap(chunk, weights)
    tape, residuals = _taped(chunk)
    loss = sum((weights[name] * r.square().sum() for name, r in residuals.items()), torch.zeros(()))
    x, _ = chunk.tensors()
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


def _chunk_loss_gradients_by_vmap(
    chunk: Collocation, weights: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    params = chunk.pinn.params.values()
    gradients = next(iter(params)).new_zeros(len(chunk.x), sum(p.numel() for p in params))
    for number, rows in enumerate(chunk.rows):
        for name, (values, jac) in _jacobian_by_vmap(chunk.only(number)).items():
            gradients[torch.as_tensor(rows)] += 2 * weights[name] * values[:, None] * jac
    return gradients.norm(dim=1), gradients.sum(0)
