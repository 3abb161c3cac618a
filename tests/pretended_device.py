"""A device that the tests pretend: what is on it, only operations of PyTorch on it can see.

Its tensors are computed on the CPU, but say that they are elsewhere (on ``meta``, which PyTorch
otherwise keeps for tensors without numbers). As on a GPU, NumPy cannot read them, and operations
refuse tensors of both places; so that a hidden assumption of the CPU is found without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch.__future__ import get_overwrite_module_params_on_conversion as get_overwrite
from torch.__future__ import set_overwrite_module_params_on_conversion as set_overwrite
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from pinnfluence.runtime import devices

Result = TypeVar("Result")
DEVICE = torch.device("meta")
CPU = torch.device("cpu")
DATA: Any = Tensor.data  # of any tensor, as a property
FROM_NUMBERS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
BETWEEN_DEVICES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Elsewhere(Tensor):
    """A tensor of the pretended device, and the tensor of the CPU that holds its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    @property
    def data(self) -> Tensor:
        data: Tensor = DATA.__get__(self)
        return data

    @data.setter
    def data(self, value: Tensor) -> None:
        """With the numbers, which ``Tensor`` itself would leave as they were."""
        assert isinstance(value, Elsewhere)
        DATA.__set__(self, value)
        self.held = value.held

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """Constructors from numbers, which PyTorch leaves without numbers on ``meta``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func not in FROM_NUMBERS:
            return func(*args, **given)
        device = given.pop("device", None)
        if func is torch.Tensor.new_tensor:
            like, *args = args
            device, func = device or like.device, torch.tensor
            given.setdefault("dtype", like.dtype)
        is_leaf = given.pop("requires_grad", False)
        made = func(*args, **given)
        made = made if device is None else made.to(device)
        return made.requires_grad_() if is_leaf else made


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on what the tensors hold; the result is where they are, or where is asked."""
    elsewhere: list[Elsewhere] = []
    here: list[Tensor] = []

    def held(value: Any) -> Any:
        if isinstance(value, Elsewhere):
            elsewhere.append(value)
            return value.held
        if isinstance(value, Tensor) and value.ndim > 0:
            here.append(value)
        return value

    given, named = _mapped(held, args), _mapped(held, kwargs)
    if elsewhere and here and func not in BETWEEN_DEVICES:
        raise RuntimeError(f"{func}: expected all tensors on one device, found cpu and {DEVICE}")
    asked = kwargs.get("device")
    generator = kwargs.get("generator")
    if asked is not None and generator is not None and torch.device(asked) != generator.device:
        raise RuntimeError(f"expected a generator on {asked}, found one on {generator.device}")
    if asked is not None:
        named["device"] = CPU
    results = func(*given, **named)
    if func is torch.ops.aten.copy_.default:  # in place: it stays where it was
        return args[0]
    if not elsewhere if asked is None else torch.device(asked) != DEVICE:
        return results
    known = {id(t.held): t for t in elsewhere}
    return _mapped(lambda r: known[id(r)] if id(r) in known else _moved(r), results)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A function of all that tuples, lists and dictionaries hold, a tenth of a tree_map's time."""
    if type(value) in (tuple, list):
        return type(value)([_mapped(function, part) for part in value])
    if type(value) is dict:
        return {name: _mapped(function, part) for name, part in value.items()}
    return function(value)


def _moved(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    is_array = value.ndim > 0  # numbers of Python are float64 tensors without axes for a while
    if value.dtype == torch.float64 and is_array and DEVICE.type in devices.WITHOUT_FLOAT64:
        raise TypeError("this device has no float64")
    if value._is_zerotensor():  # of forward differentiation: zeros without memory
        value = torch.zeros(value.shape, dtype=value.dtype, device=CPU)
    return Elsewhere(value)


def without(function: Callable[[], Result]) -> Result:
    """A function's result on the CPU alone, where PyTorch may need ``meta`` itself, for shapes."""
    with _disable_current_modes():
        return function()


@contextmanager
def pretended(with_float64: bool = True) -> Iterator[torch.device]:
    """Make the device exist, and ``devices.select`` choose it whatever it is asked for."""
    lacking = () if with_float64 else (DEVICE.type,)
    with ExitStack() as stack:
        stack.enter_context(patch.object(devices, "WITHOUT_FLOAT64", lacking))
        stack.enter_context(patch.object(devices, "select", lambda *_: DEVICE))
        # a parameter's ``data`` cannot be set: its numbers are not those of the tensor itself
        stack.callback(set_overwrite, get_overwrite())
        set_overwrite(True)
        stack.enter_context(_Operations())
        stack.enter_context(_Constructors())
        yield DEVICE
