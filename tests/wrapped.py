"""A network that the package treats as any module, because it is hidden from its own ways."""

from dataclasses import replace

import pytest
from torch import Tensor, nn

from pinnfluence import Pinn


class Wrapped(nn.Module):
    """The same network, hidden from the package's own way for an MLP."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def wrapped(pinn: Pinn) -> Pinn:
    return replace(pinn, network=Wrapped(pinn.network))


by_kind = pytest.mark.parametrize("kind", [lambda pinn: pinn, wrapped], ids=["mlp", "module"])
