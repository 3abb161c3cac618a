"""The multilayer perceptron (MLP) of a PINN and its Taylor-mode streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from pinnfluence.field.envelope import Envelope, multiply

MultiIndex = tuple[int, ...]
"""Sorted input numbers of a derivative: ``()`` the value, ``(0,)`` d/dx, ``(0, 1)`` d2/dxdy."""

SQRT_HALF = math.sqrt(0.5)
INVERSE_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


def _tanh(z: Tensor, order: int) -> list[Tensor]:
    t = torch.tanh(z)
    d1 = 1 - t * t
    rules: tuple[Callable[[], Tensor], ...] = (
        lambda: t,
        lambda: d1,
        lambda: -2 * t * d1,
        lambda: (6 * t * t - 2) * d1,
        lambda: (16 - 24 * t * t) * t * d1,
    )
    return [rule() for rule in rules[: order + 1]]


def _sin(z: Tensor, order: int) -> list[Tensor]:
    s, c = torch.sin(z), torch.cos(z)
    return [s, c, -s, -c, s][: order + 1]


def _gelu(z: Tensor, order: int) -> list[Tensor]:
    """Exact GELU ``z Phi(z)``; with Phi' = phi and phi' = -z phi the rest follows."""
    cdf = 0.5 * (1 + torch.erf(z * SQRT_HALF))
    if order == 0:
        return [z * cdf]
    pdf = torch.exp(-0.5 * z * z) * INVERSE_SQRT_2PI
    z2 = z * z
    rules: tuple[Callable[[], Tensor], ...] = (
        lambda: z * cdf,
        lambda: cdf + z * pdf,
        lambda: (2 - z2) * pdf,
        lambda: (z2 - 4) * z * pdf,
        lambda: (7 * z2 - z2 * z2 - 4) * pdf,
    )
    return [rule() for rule in rules[: order + 1]]


def _sigmoid(z: Tensor, order: int) -> list[Tensor]:
    s = torch.sigmoid(z)
    d1 = s * (1 - s)
    rules: tuple[Callable[[], Tensor], ...] = (
        lambda: s,
        lambda: d1,
        lambda: d1 * (1 - 2 * s),
        lambda: d1 * (1 - 6 * d1),
        lambda: d1 * (1 - 2 * s) * (1 - 12 * d1),
    )
    return [rule() for rule in rules[: order + 1]]


def _silu(z: Tensor, order: int) -> list[Tensor]:
    """SiLU (swish) ``z s(z)`` with the logistic s: its n-th derivative is z s^(n) + n s^(n-1)."""
    s = _sigmoid(z, order)
    return [z * s[n] + (n * s[n - 1] if n else 0) for n in range(order + 1)]


ACTIVATIONS: Mapping[str, Callable[[Tensor, int], list[Tensor]]] = {
    "gelu": _gelu,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "sin": _sin,
    "swish": _silu,
    "tanh": _tanh,
}
"""Functions ``(z, order) -> [s(z), s'(z), ..., s^(order)(z)]``, order at most 4."""

MAX_ORDER = 4


def closure(wanted: Iterable[MultiIndex]) -> list[MultiIndex]:
    """All multi-indices that the wanted ones are built from, short ones first."""
    indices = {()} | {
        part for index in wanted for n in range(len(index) + 1) for part in combinations(index, n)
    }
    return sorted(indices, key=lambda index: (len(index), index))


def set_partitions(items: Sequence[int]) -> list[list[MultiIndex]]:
    """All ways to split the items into non-empty blocks."""
    if not items:
        return [[]]
    head, *tail = items
    partitions = []
    for partition in set_partitions(tail):
        partitions.append([(head,), *partition])
        for i, block in enumerate(partition):
            partitions.append([*partition[:i], (head, *block), *partition[i + 1 :]])
    return partitions


Streams = dict[MultiIndex, Tensor | None]
"""Derivatives ``[n, width]`` by multi-index; None is a derivative that is identically zero."""


Tape = list[tuple[str, Streams, Streams]]
"""For each linear layer its name, its input streams and its output streams."""


class MLP(nn.Module):
    """Multilayer perceptron ``N(x) = W_L s(... s(W_1 (x / scale) + b_1) ...) + b_L``.

    Its ``state_dict`` has the keys of DeepXDE's FNN: ``linears.<n>.weight``, ``linears.<n>.bias``.

    Args:
        layers: widths, inputs first, outputs last, for example ``(2, 64, 64, 3)``.
        activation: one of ``gelu`` (exact), ``sigmoid``, ``silu`` (= ``swish``), ``sin``, ``tanh``.
        scale: length by which each input is divided; none means 1.
        envelope: factor ``a(x)`` of the outputs, which are then ``a(x) N(x)``; none means 1.

    Raises:
        ValueError: unknown activation, or layers and scale that do not fit.
    """

    added: tuple[Tensor, Tensor] | None = None
    """Weights ``[n, width]`` and biases ``[n]`` of further neurons in the last hidden layer, which
    are no parameters. Their weights to the outputs are: ``further.weight``, outside the envelope.
    """

    def __init__(
        self,
        layers: Sequence[int],
        activation: str,
        scale: Sequence[float] | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"unknown activation {activation!r}, expected one of {known}")
        if len(layers) < 2 or min(layers) < 1:
            raise ValueError(f"layers must be at least two positive widths, found {list(layers)}")
        self.layers = tuple(layers)
        self.activation, self.envelope = activation, envelope
        self.scale = tuple(scale) if scale is not None else (1.0,) * layers[0]
        if len(self.scale) != layers[0]:
            raise ValueError(
                f"scale needs {layers[0]} values, one an input, found {list(self.scale)}"
            )
        if not all(0 < length < math.inf for length in self.scale):
            raise ValueError(f"scale must be positive lengths, found {list(self.scale)}")
        self.linears = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``[n, n_outputs]`` at the points ``x`` of shape ``[n, n_inputs]``."""
        value = self.taylor(dict(self.named_parameters()), x, [()])[()]
        assert value is not None
        return value

    def taylor(
        self,
        params: Mapping[str, Tensor],
        x: Tensor,
        wanted: Iterable[MultiIndex],
        tape: Tape | None = None,
    ) -> Streams:
        """Derivatives of the outputs with respect to the inputs, all in one forward pass.

        Through an activation s goes, by Faa di Bruno's formula over set partitions,
        ``d_I s(z) = sum_P s^(|P|)(z) prod_{B in P} d_B z``; a linear layer maps each stream alone.

        Args:
            params: parameters by the names of ``named_parameters``.
            x: points ``[n, n_inputs]``.
            wanted: multi-indices; only these and what they are built from are carried.
            tape: if given, ``(layer name, input streams, output streams)`` is appended for each
                linear layer, with every stream a tensor of n rows of its own, so that gradients
                with respect to output streams are gradients of single points.

        Returns:
            Streams ``[n, n_outputs]``; a derivative that is identically zero is None.
        """
        indices = closure(wanted)
        streams, more = self._input_streams(x, indices), None
        for number in range(len(self.linears)):
            if number:
                streams = self._activate(streams, indices)
            if self.added is not None and number == len(self.linears) - 2:
                more = self._activate(_linear(streams, *self.added), indices)
            inputs, name = streams, f"linears.{number}"
            streams = _linear(inputs, params[f"{name}.weight"], params[f"{name}.bias"])
            streams = _taped(tape, name, inputs, streams, len(x))
        if self.envelope is not None:
            streams = multiply(streams, self.envelope, x)
        if more is not None:
            further = _linear(more, params["further.weight"], None)
            streams = _sum(streams, _taped(tape, "further", more, further, len(x)))
        return streams

    def _input_streams(self, x: Tensor, indices: list[MultiIndex]) -> Streams:
        scale = torch.tensor(self.scale, dtype=x.dtype, device=x.device)
        unit = torch.diag(1 / scale)
        streams: Streams = dict.fromkeys(indices)
        for index in indices:
            if len(index) == 1:
                streams[index] = unit[index[0]][None]
        streams[()] = x / scale
        return streams

    def _activate(self, z: Streams, indices: list[MultiIndex]) -> Streams:
        value = z[()]
        assert value is not None
        order = max(len(index) for index in indices)
        if order > MAX_ORDER:
            raise ValueError(f"derivatives are supported up to order {MAX_ORDER}, found {order}")
        s = ACTIVATIONS[self.activation](value, order)
        out: Streams = {(): s[0]}
        for index in indices[1:]:
            total: Tensor | None = None
            for partition in set_partitions(index):
                blocks = [z[tuple(sorted(block))] for block in partition]
                product = s[len(blocks)]
                for block in blocks:
                    if block is None:
                        break
                    product = product * block
                else:
                    total = product if total is None else total + product
            out[index] = total
        return out


def _taped(tape: Tape | None, name: str, inputs: Streams, outputs: Streams, n: int) -> Streams:
    """A layer's output streams, with rows of their own where they are put on a tape."""
    if tape is not None:
        outputs = {i: None if z is None else z.expand(n, -1) for i, z in outputs.items()}
        tape.append((name, inputs, outputs))
    return outputs


def _sum(streams: Streams, others: Streams) -> Streams:
    return {
        index: z if (more := others[index]) is None else more if z is None else z + more
        for index, z in streams.items()
    }


def _linear(streams: Streams, weight: Tensor, bias: Tensor | None) -> Streams:
    return {
        index: None if a is None else nn.functional.linear(a, weight, bias if index == () else None)
        for index, a in streams.items()
    }
