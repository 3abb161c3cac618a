"""A wider network with the same fields, whose tangent space can correct more of an error."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pinnfluence.field.module_call import copied
from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn

N_ADDED = 900
"""Parameters that are added."""


def widened(pinn: Pinn) -> Pinn | None:
    """The same PINN with further neurons in the last hidden layer, which change nothing yet.

    Their weights to the outputs are 0 and become parameters, after those of the network. Those
    from the layer before stay as they are drawn: from the normal distribution with the mean and the
    covariance of the weights that the layer's own neurons have. So the fields are those of the
    network, and a step of the parameters may correct them by any combination of the new neurons as
    well, also where an envelope holds the network at zero: see ``held``.

    None where the network is no ``MLP`` or has no hidden layer.
    """
    network = pinn.network
    if not isinstance(network, MLP) or len(network.linears) < 2:
        return None
    network = copied(network)
    hidden, last = network.linears[-2], network.linears[-1]
    assert isinstance(hidden, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        own = torch.cat([hidden.weight, hidden.bias[:, None]], 1)
        n = -(-N_ADDED // last.out_features)
        draws = torch.randn(n, len(own), generator=torch.Generator().manual_seed(0)).to(own)
        added = own.mean(0) + draws @ (own - own.mean(0)) / len(own) ** 0.5
        network.added = added[:, :-1].contiguous(), added[:, -1].contiguous()
        network.further = nn.Linear(n, last.out_features, bias=False).to(own)
        network.further.weight.zero_()
    theta = None if pinn.theta is None else (*pinn.theta, "further.weight")
    return replace(pinn, network=network, theta=theta)
