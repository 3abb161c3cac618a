"""Modules that are called with other values of their parameters, and copied."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._pytree import tree_leaves


def call(module: nn.Module, values: Mapping[str, Tensor], *arguments: Any) -> Any:
    """``module(*arguments)`` with other values of parameters and buffers, by name.

    A parameter or a layer that occurs several times has the value everywhere. The module is left
    as it is; ``torch.func.functional_call`` by itself, of PyTorch 2.13, leaves the values in a
    layer that occurs twice.
    """
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    given = {id(named[name]): value for name, value in values.items()}
    everywhere = {
        f"{path}.{name}" if path else name: given[id(own)]
        for path, layer in module.named_modules()
        for name, own in (*layer._parameters.items(), *layer._buffers.items())
        if id(own) in given
    }
    with _not_compiled():
        return torch.func.functional_call(module, everywhere, arguments, tie_weights=False)


def _not_compiled() -> AbstractContextManager[Any]:
    """``torch.compile`` is passed over: what it makes has no second derivatives."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and its import takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def copied(module: nn.Module) -> Any:
    """A copy of a module; tensors that it keeps of an earlier call are without their graph.

    Those that only had a meaning inside of ``torch.func`` become None.
    """
    kept: dict[int, Tensor | None] = {}
    for value in (v for layer in module.modules() for v in tree_leaves(vars(layer))):
        if isinstance(value, Tensor) and is_functorch_wrapped_tensor(value):
            kept[id(value)] = None
        elif isinstance(value, Tensor) and not value.is_leaf:
            kept[id(value)] = value.detach().clone()
    return copy.deepcopy(module, kept)
