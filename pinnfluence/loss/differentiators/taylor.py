"""Taylor mode: one backward pass a residual gives the gradients of all points of an MLP.

The gradient by a layer's weights is, for each point, a sum of outer products of the derivatives by
the layer's output streams and its input streams: ``sum_S delta_S a_S^T``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pinnfluence.field.network import Tape
from pinnfluence.loss.differentiators.base import Differentiator, Gradients
from pinnfluence.loss.differentiators.per_sample import leaves
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Params


class Taylor(Differentiator):
    """Gradients of single points from the streams of ``MLP.taylor``."""

    name = "taylor"

    def jacobian(self, chunk: Collocation) -> Gradients:
        tape, theta, values = _taped(chunk)
        return {
            name: (value.detach(), _rows(tape, value, theta, chunk))
            for name, value in values.items()
        }

    def projection(self, chunk: Collocation, basis: Tensor) -> Gradients:
        """Residuals ``[n]`` and ``grad r^T basis``, ``[n, rank]``, without the gradients' rows."""
        blocks = _split_basis(basis, chunk.pinn.params)
        tape, theta, values = _taped(chunk)
        projections = {}
        for (name, value), whole in zip(
            values.items(), _contracted(tape, list(values.values()), blocks), strict=True
        ):
            projected = _folded(whole, chunk)
            for variable, rows in _by_variables(value, _variables(theta, tape)).items():
                projected = projected + rows.to(basis.dtype) @ blocks[variable]
            projections[name] = (value.detach(), projected)
        return projections

    def loss_gradients(self, chunk: Loss) -> tuple[Tensor, Tensor]:
        """``||grad l_i||`` ``[n]`` and ``grad L`` ``[n_params]``, from products a layer."""
        if chunk.collocation.points.has_images:
            return super().loss_gradients(chunk)
        tape, theta, residuals = _taped(chunk.collocation)
        if _variables(theta, tape):
            return super().loss_gradients(chunk)
        squared = (chunk.weights[name] * r.square().sum() for name, r in residuals.items())
        total = sum(squared, chunk.pinn.like.new_zeros(()))
        squares = total.new_zeros(len(chunk))
        gradients = {name: torch.zeros_like(p) for name, p in chunk.pinn.params.items()}
        for name, deltas, value, activations in _cotangents(tape, total):
            if f"{name}.weight" in gradients:
                grams = torch.bmm(deltas, deltas.mT) * torch.bmm(activations, activations.mT)
                squares += grams.sum((1, 2))
                gradients[f"{name}.weight"] = torch.einsum("nso,nsi->oi", deltas, activations)
            if value is not None and f"{name}.bias" in gradients:
                squares += value.square().sum(1)
                gradients[f"{name}.bias"] = value.sum(0)
        return squares.sqrt(), torch.cat([g.flatten() for g in gradients.values()])


def _taped(chunk: Collocation) -> tuple[Tape, dict[str, Tensor], dict[str, Tensor]]:
    """Residuals with a graph back to the output streams of each linear layer, and theta."""
    theta = leaves(chunk.pinn.params)
    tape: Tape = []
    with torch.enable_grad():
        values = chunk.residuals(theta, tape=tape)
    return tape, theta, values


def _rows(tape: Tape, values: Tensor, params: Params, chunk: Collocation) -> Tensor:
    """The gradient of each point as a row: outer products ``sum_S delta a^T`` a layer."""
    sizes = [p.numel() for p in params.values()]
    rows = values.new_zeros(len(tape[0][2][()]), sum(sizes))  # type: ignore[arg-type]
    blocks = dict(zip(params, rows.split(sizes, dim=1), strict=True))
    for name, deltas, value, activations in _cotangents(tape, values.sum()):
        if f"{name}.weight" in blocks:
            blocks[f"{name}.weight"].copy_(torch.bmm(deltas.mT, activations).flatten(1))
        if value is not None and f"{name}.bias" in blocks:
            blocks[f"{name}.bias"].copy_(value)
    for name, gradients in _by_variables(values, _variables(params, tape)).items():
        blocks[name][: len(values)] = gradients
    return _folded(rows, chunk)


def _folded(rows: Tensor, chunk: Collocation) -> Tensor:
    """Rows of points with those of their images added, ``[n, ...]``."""
    return rows.view(2, len(chunk), rows.shape[1]).sum(0) if chunk.points.has_images else rows


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
    if not total.requires_grad:  # it does not depend on theta
        return []
    all_streams = [z for _, _, outputs in tape for z in outputs.values()]
    streams = [z for z in all_streams if z is not None and z.requires_grad]
    found = iter(torch.autograd.grad(total, streams, retain_graph=True, allow_unused=True))
    layers = []
    for name, inputs, outputs in tape:
        deltas, activations, value = [], [], None
        for index, z in outputs.items():
            delta = next(found) if z is not None and z.requires_grad else None
            a = inputs[index]
            if delta is None or a is None or z is None:
                continue
            deltas.append(delta)
            activations.append(a.detach().expand(len(z), -1))
            value = delta if index == () else value
        if deltas:
            layers.append((name, torch.stack(deltas, 1), value, torch.stack(activations, 1)))
    return layers


def _contracted(tape: Tape, values: list[Tensor], blocks: Mapping[str, Tensor]) -> list[Tensor]:
    """``basis^T grad`` of each of some values; where the network has fewer outputs, from theirs.

    By the chain rule, as for the speed from u and v; the last layer alone gives all outputs.
    """
    if tape[-1][0] == "further":
        return [_contract(tape, value.sum(), blocks) for value in values]
    streams = [z for z in tape[-1][2].values() if z is not None and z.requires_grad]
    n_outputs = sum(z.shape[1] for z in streams)
    if n_outputs >= len(values):
        return [_contract(tape, value.sum(), blocks) for value in values]
    outputs = [(z[:, j].sum()) for z in streams for j in range(z.shape[1])]
    columns = [_contract(tape, output, blocks) for output in outputs]
    found = []
    for value in values:
        slopes = torch.autograd.grad(
            value.sum(), streams, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        factors = torch.cat(slopes, 1).to(columns[0].dtype).T
        found.append(sum(f[:, None] * c for f, c in zip(factors, columns, strict=True)))
    return found


def _contract(tape: Tape, total: Tensor, blocks: Mapping[str, Tensor]) -> Tensor:
    """``basis^T grad`` of each point: outer products ``sum_S delta a^T``, times the basis."""
    some = next(iter(blocks.values()))
    projected = some.new_zeros(len(tape[0][2][()]), some.shape[1])  # type: ignore[arg-type]
    for name, deltas, value, activations in _cotangents(tape, total):
        if f"{name}.weight" in blocks:
            outer = torch.bmm(deltas.to(some.dtype).mT, activations.to(some.dtype))
            projected += outer.flatten(1) @ blocks[f"{name}.weight"]
        if value is not None and f"{name}.bias" in blocks:
            projected += value.to(some.dtype) @ blocks[f"{name}.bias"]
    return projected


def _split_basis(basis: Tensor, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of ``[n_params, rank]`` that belong to each parameter, in the order of ``params``."""
    sizes = [p.numel() for p in params.values()]
    return dict(zip(params, basis.split(sizes), strict=True))
