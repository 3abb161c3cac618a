"""Gradients of any PyTorch model's loss, sample by sample, for the interface of captum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pinnfluence.errors import InputError
from pinnfluence.field import module_call
from pinnfluence.loss.differentiators.per_sample import (
    BACKWARD_SAMPLES,
    by_batched_backward,
    by_loop,
    by_vmap,
    leaves,
)
from pinnfluence.runtime.warn_once import reason_of, warn_once

GRADIENT_BYTES = 128_000_000
"""Memory that the gradients of one block of samples may take."""


def parameters(model: nn.Module, layers: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Theta: the trainable parameters by name, or all those of the named layers, in their order.

    Raises:
        InputError: an unknown layer, or no parameter.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if layers is not None:
        names = {id(p): name for name, p in model.named_parameters()}
        modules = dict(model.named_modules())
        unknown = [layer for layer in layers if layer not in modules]
        if unknown:
            raise InputError(
                f"expected layers among {', '.join(n for n in modules if n)}, found {unknown[0]!r}"
            )
        trainable = {names[id(p)]: p for layer in layers for p in modules[layer].parameters()}
    if not trainable:
        where = "the model" if layers is None else f"the layers {list(layers)}"
        raise InputError(f"expected trainable parameters, found none in {where}")
    return {name: p.detach() for name, p in trainable.items()}


def same_parameters(model: nn.Module, other: nn.Module) -> dict[str, str]:
    """Names in ``other`` of the parameters of ``model`` that it has: the same tensor, else name.

    Raises:
        InputError: a parameter of ``other`` is none of the model's.
    """
    by_tensor = {id(p): name for name, p in model.named_parameters()}
    by_name = dict(model.named_parameters())
    found = {}
    for name, p in other.named_parameters():
        original = by_tensor.get(id(p))
        if original is None and name in by_name and by_name[name].shape == p.shape:
            original = name
        if original is None:
            raise InputError(
                f"expected a test model with parameters of the model, the same tensors or the same "
                f"names and shapes; found {name} {list(p.shape)}, which is neither"
            )
        found[original] = name
    if not found:
        raise InputError("expected a test model that shares parameters, found one without any")
    return found


@dataclass(frozen=True)
class Loss:
    """Loss of batches ``(*features, labels)``: ``l(theta) = loss_fn(model(*features), labels)``.

    model: maps the features to outputs ``[n, ...]``. names: name in this model of each parameter,
    by its name in the model that was trained. fixed: values of those that are not in theta.
    loss_fn: None takes the outputs themselves, summed. reduction: what ``loss_fn`` does with the
    samples' losses, ``none``, ``sum`` or ``mean``.
    """

    model: nn.Module
    names: dict[str, str]
    fixed: dict[str, Tensor]
    loss_fn: Callable[..., Tensor] | None
    reduction: str

    def outputs(self, theta: dict[str, Tensor], features: Sequence[Any]) -> Tensor:
        """Outputs ``[n, ...]`` of the model with the parameters theta."""
        values = {**self.fixed, **theta}
        values = {name: values[original] for original, name in self.names.items()}
        outputs = module_call.call(self.model, values, *features)
        if not isinstance(outputs, Tensor) or outputs.ndim == 0:
            found = "a number" if isinstance(outputs, Tensor) else type(outputs).__name__
            raise InputError(f"expected outputs of shape [n_samples, ...], found {found}")
        return outputs

    def total(self, outputs: Tensor, labels: Any) -> Tensor:
        """Sum of the samples' losses; of a loss that takes the mean it is n_samples times that."""
        if self.loss_fn is None:
            return outputs.sum()
        loss = self.loss_fn(outputs, labels)
        if self.reduction == "none":
            return loss.sum()
        if loss.numel() != 1:
            raise InputError(
                f"expected one number from a loss function that takes the {self.reduction}, found "
                f"shape {list(loss.shape)}; set sample_wise_grads_per_batch=False for such a one"
            )
        return loss.sum() * len(outputs) if self.reduction == "mean" else loss.sum()

    def samples(self, outputs: Tensor, labels: Any, cotangent: Tensor) -> Tensor:
        """A number ``[n]`` for each sample, whose gradient by theta is that of its loss."""
        losses = outputs * cotangent
        if self.reduction == "none" and self.loss_fn is not None and labels is not None:
            losses = self.loss_fn(outputs, labels)
            if losses.ndim == 0 or len(losses) != len(outputs):
                raise InputError(
                    f"expected a loss for each of {len(outputs)} samples, found shape "
                    f"{list(losses.shape)}; set reduction='none', or sample_wise_grads_per_batch"
                )
        return losses.reshape(len(outputs), -1).sum(1)

    def cotangent(self, theta: dict[str, Tensor], features: Sequence[Any], labels: Any) -> Tensor:
        """Derivative of the total loss by each output, ``[n, ...]``."""
        outputs = self.outputs(theta, features).detach().requires_grad_()
        total = outputs.sum() if labels is None else self.total(outputs, labels)
        return torch.autograd.grad(total, outputs)[0]


@dataclass
class SampleGradients:
    """Gradients of the samples' losses by theta, in whichever way is right for the model.

    ``how`` it is done, each way slower than the one before: ``vmap``, torch.func over a
    functional model; ``batched backward``, for a model that torch.func refuses, such as one with
    nested ``torch.autograd.grad``; ``loop``, one backward pass a sample through the whole batch,
    for a model whose samples depend on each other, and for single samples. The way is decided at
    a batch by comparing the first and the last sample's gradient with those of the loop.
    """

    loss: Loss
    theta: dict[str, Tensor]
    how: str = field(default="", init=False)

    def rows(self, batch: Sequence[Any]) -> Iterator[Tensor]:
        """Gradients ``[m, n_params]`` of one block of samples after the other."""
        features = [f.detach() if isinstance(f, Tensor) else f for f in batch[:-1]]
        with torch.enable_grad():
            cotangent = self.loss.cotangent(self.theta, features, batch[-1])
            n_samples = len(cotangent)
            if n_samples > 1 and not self.how:
                self.how = self._choose(features, batch[-1], cotangent)
            if n_samples == 1 or self.how == "loop":
                yield from self._loop(features, batch[-1], cotangent, range(n_samples))
                return
            for block in torch.arange(n_samples).split(self._block_size()):
                block = block.to(cotangent.device)
                yield self._block(self.how, *_at(block, features, cotangent))

    def _block_size(self) -> int:
        row = sum(p.numel() * p.element_size() for p in self.theta.values())
        size = max(1, GRADIENT_BYTES // row)
        return min(BACKWARD_SAMPLES, size) if self.how == "batched backward" else size

    def _block(self, how: str, features: list[Any], cotangent: Tensor) -> Tensor:
        function = self._by_vmap if how == "vmap" else self._by_batched_backward
        return function(features, cotangent)

    def _choose(self, features: list[Any], labels: Any, cotangent: Tensor) -> str:
        """The first way that gives the loop's gradients."""
        ends = [0, len(cotangent) - 1]
        expected = torch.cat(list(self._loop(features, labels, cotangent, ends)))
        few = _at(torch.tensor(ends, device=cotangent.device), features, cotangent)
        reasons, chosen = [], "loop"
        for how in ("vmap", "batched backward"):
            try:
                found = self._block(how, *few)
            except Exception as error:  # torch.func refuses with errors of many types
                reasons.append(reason_of(error))
                continue
            difference = (found - expected).abs().max()
            if difference <= torch.finfo(found.dtype).eps ** 0.5 * expected.abs().max():
                chosen = how
                break
            reasons.append("its samples depend on each other")
        if reasons:
            warn_once(
                self.loss.model,
                f"gradients of {type(self.loss.model).__name__} by {chosen}, which is slower than "
                f"torch.func.vmap: {reasons[0]}",
            )
        return chosen

    def _by_vmap(self, features: list[Any], cotangent: Tensor) -> Tensor:
        axes = [0 if _is_batched(f, len(cotangent)) else None for f in features]

        def loss(theta: dict[str, Tensor], cotangent: Tensor, *features: Any) -> Tensor:
            sample = [f[None] if axis == 0 else f for f, axis in zip(features, axes, strict=True)]
            return (self.loss.outputs(theta, sample)[0] * cotangent).sum()

        return by_vmap(loss, self.theta, (cotangent, *features), (0, *axes))[1]

    def _by_batched_backward(self, features: list[Any], cotangent: Tensor) -> Tensor:
        theta = leaves(self.theta)
        losses = self.loss.samples(self.loss.outputs(theta, features), None, cotangent)
        unit = torch.eye(len(losses), dtype=losses.dtype, device=losses.device)
        return by_batched_backward(losses, theta, unit)

    def _loop(
        self, features: list[Any], labels: Any, cotangent: Tensor, samples: Sequence[int]
    ) -> Iterator[Tensor]:
        theta = leaves(self.theta)
        losses = self.loss.samples(self.loss.outputs(theta, features), labels, cotangent)
        for sample in samples:
            yield by_loop([losses[sample]], theta)[0][None]


def _is_batched(feature: Any, n_samples: int) -> bool:
    return isinstance(feature, Tensor) and feature.ndim > 0 and len(feature) == n_samples


def _at(samples: Tensor, features: list[Any], cotangent: Tensor) -> tuple[list[Any], Tensor]:
    """Features and cotangents of some samples; what is the same for all samples is kept."""
    n_samples = len(cotangent)
    chosen = [f[samples] if _is_batched(f, n_samples) else f for f in features]
    return chosen, cotangent[samples]
