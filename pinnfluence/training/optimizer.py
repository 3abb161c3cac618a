"""The contract of a training phase: an optimiser that advances by iterations and can be resumed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from pinnfluence.problem.parts import Schedule
from pinnfluence.training.objective import TrainingLoss

VOLATILE = {"max_iter", "max_eval", "capturable", "foreach", "fused"}
"""Settings that each block of L-BFGS or the device chooses anew."""


class Optimizer(ABC):
    """An optimiser of a ``TrainingLoss``; it changes the network in place.

    title: its name for people. order: phases are run in rising order.
    block: iterations of one ``step``. record_every, errors_every: iterations between two rows of
    the history, and between two of them with errors against the reference.

    Attributes:
        ended: why it cannot go on, or nothing.
    """

    title: ClassVar[str]
    order: ClassVar[int]
    block: ClassVar[int] = 1
    record_every: ClassVar[int] = 100
    errors_every: ClassVar[int] = 1000

    def __init__(self, loss: TrainingLoss, schedule: Schedule) -> None:
        self.loss, self.schedule, self.ended = loss, schedule, ""

    @abstractmethod
    def step(self, n: int) -> int:
        """Advance by up to n iterations, at most a block; gives how many were made."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What must be kept, beside the network, to go on bit for bit."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``.

        Raises:
            ValueError: it is not one of this optimiser for this network.
        """

    def restorable(self) -> dict[str, Any]:
        """What ``dde.Model.restore`` reads beside the network: by default, that of a new Adam."""
        return torch.optim.Adam(self.loss.network.parameters(), lr=self.schedule.lr).state_dict()

    def points_changed(self) -> None:  # noqa: B027
        """Forget what was remembered of the loss at other points."""


class TorchOptimizer(Optimizer):
    """A phase that stands on an optimiser of PyTorch."""

    algorithm: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """That of PyTorch's optimiser."""
        return self.algorithm.state_dict()

    def restorable(self) -> dict[str, Any]:
        """The same, because DeepXDE has this optimiser as well."""
        return self.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state_dict``, checked against what this optimiser remembers."""
        groups = self.algorithm.state_dict()["param_groups"]
        given = state["param_groups"] if set(state) == {"state", "param_groups"} else None
        if not _same_settings(given, groups):
            raise ValueError("other settings of the optimiser")
        if not isinstance(state["state"], dict) or not all(
            self.is_memory(number, memory) for number, memory in state["state"].items()
        ):
            raise ValueError("a damaged memory of the optimiser")
        self.algorithm.load_state_dict(dict(state))

    @abstractmethod
    def is_memory(self, number: Any, memory: Any) -> bool:
        """Whether that can be what the optimiser remembers of a parameter of that number."""


def _same_settings(found: Any, expected: list[dict[str, Any]]) -> bool:
    """Whether these are the groups of parameters that the optimiser has now.

    Other versions of PyTorch may know other settings; those that both know must agree.
    """
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
        return False
    (given,), (own,) = found, expected
    common = (own.keys() & given.keys()) - VOLATILE
    return "params" in given and all(given[key] == own[key] for key in common)


def is_finite(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is a tensor of finite numbers of that shape."""
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and tuple(value.shape) == shape
        and bool(torch.isfinite(value).all())
    )
