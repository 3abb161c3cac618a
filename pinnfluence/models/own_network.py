"""A user's own network, evaluated with other values of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pinnfluence.errors import InputError
from pinnfluence.field import module_call

Array = Tensor | np.ndarray


class Substitute(TorchFunctionMode):
    """Tensors and arrays that the user's functions hold, by identity, replaced by others."""

    def __init__(self, substitutes: Mapping[int, Array]) -> None:
        super().__init__()
        self._substitutes = substitutes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._substitutes:
            args, kwargs = self._replaced(args), self._replaced(kwargs)
        return func(*args, **(kwargs or {}))

    def _replaced(self, found: Any) -> Any:
        if isinstance(found, Array):
            return self._of(found)
        if type(found) in (tuple, list):
            return type(found)(self._replaced(item) for item in found)
        if type(found) is dict:
            return {key: self._replaced(item) for key, item in found.items()}
        return found

    def _of(self, array: Array) -> Array:
        return self._substitutes.get(id(array), array)


class Unknowns:
    """The ``external_trainable_variables`` of a model, which its functions hold by identity.

    Copies of a network share them: a copy would no longer be what the user's functions hold.
    """

    def __init__(self, variables: Sequence[Tensor] | None) -> None:
        self.variables = tuple(variables or ())

    def __deepcopy__(self, memo: Any) -> Unknowns:
        return self

    def __len__(self) -> int:
        return len(self.variables)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.variables)

    def parameters(self, like: Tensor) -> nn.ParameterList:
        """Their values as parameters."""
        return nn.ParameterList(
            nn.Parameter(variable.detach().clone().to(like)) for variable in self.variables
        )

    def substitutes(self, params: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """What takes the place of each variable, by its identity."""
        if not self.variables:
            return {}
        return {id(v): params[f"unknowns.{n}"] for n, v in enumerate(self.variables)}


class OwnNetwork:
    """The user's own network and unknowns, evaluated with other values of their parameters.

    A user's functions may hold the network, one of its parameters, or an unknown: whatever they
    compute with them depends on the values that are given. Copies share them.
    """

    def __init__(self, net: nn.Module, unknowns: Unknowns) -> None:
        self.net, self.unknowns = net, unknowns

    def __deepcopy__(self, memo: Any) -> OwnNetwork:
        return self

    def __call__(self, params: Mapping[str, Tensor], function: Callable[[Any], Any]) -> Any:
        """``function(network)`` with other values of the parameters, by name.

        The names are those of the network, with or without ``net.`` before them, and
        ``unknowns.0``, ...
        """
        net, like = self.net, next(iter(params.values()))
        values = {n if n.startswith("net.") else f"net.{n}": p for n, p in params.items()}
        values = {n: p for n, p in values.items() if not n.startswith("net.unknowns.")}
        by_identity = {id(p): values[f"net.{n}"] for n, p in net.named_parameters()}
        by_identity |= self.unknowns.substitutes(params)
        buffers = {f"net.{n}": b.to(like.device) for n, b in net.named_buffers()}
        values |= {name: cast(buffer, like.dtype) for name, buffer in buffers.items()}
        training = net.training
        net.eval()
        try:
            with _ByFormula(by_identity), exact_attention():
                return module_call.call(_Evaluation(net), values, function)
        finally:
            net.train(training)


@contextmanager
def exact_attention() -> Iterator[None]:
    """Attention by its formula: the fused kernels have no second derivatives."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


class _ByFormula(Substitute):
    """Layer normalisation by its formula: PyTorch's kernel has wrong higher derivatives.

    Measured with PyTorch 2.13 in float64 on the CPU: the gradient by theta of a residual with
    second derivatives by the inputs is 2 % off the difference quotient, by the formula it is not.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.layer_norm, nn.functional.layer_norm):
            args, kwargs = self._replaced(args), self._replaced(kwargs or {})
            return layer_norm(*args, **kwargs)
        return super().__torch_function__(func, types, args, kwargs)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes, as torch.layer_norm."""
    axes = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(axes, keepdim=True)
    scaled = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()
    scaled = scaled if weight is None else scaled * weight
    return scaled if bias is None else scaled + bias


class _Evaluation(nn.Module):
    """A function of a module, as a module itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, function: Callable[[nn.Module], Any]) -> Any:
        return function(self.net)


class Wrapped(nn.Module):
    """Any network, with the unknowns of an inverse problem, which its transforms may use."""

    def __init__(self, net: nn.Module, unknowns: Unknowns) -> None:
        super().__init__()
        self.net = net
        self._identities = unknowns
        self.unknowns = unknowns.parameters(next(net.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[n, n_outputs]`` at the points ``x`` of shape ``[n, n_inputs]``."""
        if not self._identities:
            return self.net(x)
        named = {f"unknowns.{n}": p for n, p in enumerate(self.unknowns)}
        with Substitute(self._identities.substitutes(named)):
            return self.net(x)


class ByAutograd(Wrapped):
    """A network that is evaluated as the user's own, with derivatives in reverse mode.

    It holds the values of the parameters; see ``field.evaluate`` for the derivatives.
    """

    by_autograd = True

    def __init__(self, net: nn.Module, own: OwnNetwork) -> None:
        super().__init__(net, own.unknowns)
        self._own = own

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            params = dict(self.named_parameters())
            outputs: Tensor = self._own(params, lambda net: self._outputs(net, x))
        return outputs

    def _outputs(self, net: Any, x: Tensor) -> Tensor:
        outputs: Tensor = net(x)
        return outputs


def cast_copy(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a network in another dtype, tensors that are no parameters included."""
    if unfit := [name for name, p in net.named_parameters() if p.is_complex()]:
        raise InputError(
            f"expected real parameters, found the complex {unfit[0]}: hold its real and its "
            "imaginary part, and join them by torch.complex"
        )
    copied: nn.Module = module_call.copied(net).to(dtype)
    for module in copied.modules():
        for name, value in vars(module).items():
            if not name.startswith("_"):
                vars(module)[name] = cast(value, dtype)
    return copied


def cast(value: Any, dtype: torch.dtype) -> Any:
    """A tensor of floats, or those in a list, in another dtype; anything else as it is."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    if type(value) in (list, tuple):
        return type(value)(cast(item, dtype) for item in value)
    return value
