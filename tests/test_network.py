"""The MLP against torch's own layers and DeepXDE's FNN, its activations against autograd."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pinnfluence.field.network import ACTIVATIONS, MAX_ORDER, MLP, closure, set_partitions
from pinnfluence.models.deepxde.model import dde

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sin": torch.sin,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def test_every_activation_is_tested():
    assert set(ACTIVATIONS) == set(PLAIN)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivatives(name):
    z = torch.linspace(-7, 7, 141, dtype=torch.float64, requires_grad=True)
    expected = PLAIN[name](z)
    for order, found in enumerate(ACTIVATIONS[name](z, MAX_ORDER)):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13, msg=f"order {order}")
        (expected,) = torch.autograd.grad(expected.sum(), z, create_graph=True)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gives_as_many_derivatives_as_asked(name):
    z = torch.linspace(-2, 2, 5)
    every = ACTIVATIONS[name](z, MAX_ORDER)
    for order in range(MAX_ORDER + 1):
        found = ACTIVATIONS[name](z, order)
        assert len(found) == order + 1
        for one, other in zip(found, every, strict=False):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite_far_out(name):
    z = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    for found in ACTIVATIONS[name](z, MAX_ORDER):
        assert torch.isfinite(found).all()
        (gradient,) = torch.autograd.grad(found.sum(), z, retain_graph=True)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_same_state_dict_and_outputs_as_deepxde(name):
    ours = MLP((2, 7, 5, 3), name, (2.2, 0.41))
    theirs = dde.nn.FNN([2, 7, 5, 3], name, "Glorot uniform")
    theirs.apply_feature_transform(lambda x: x / x.new_tensor((2.2, 0.41)))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(11, 2)
    torch.testing.assert_close(ours(x), theirs(x))


def test_keys_of_the_state_dict():
    keys = [f"linears.{n}.{part}" for n in range(3) for part in ("weight", "bias")]
    assert list(MLP((2, 4, 4, 1), "tanh").state_dict()) == keys


def test_without_scale_inputs_are_as_they_are():
    network = MLP((2, 3), "tanh")
    x = torch.rand(5, 2)
    torch.testing.assert_close(network(x), network.linears[0](x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(dtype):
    network = MLP((2, 4, 1), "gelu", (2.2, 0.41)).to(dtype)
    streams = network.taylor(dict(network.named_parameters()), torch.rand(3, 2).to(dtype), [(0, 1)])
    assert {z.dtype for z in streams.values() if z is not None} == {dtype}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2, 4, 1), "relu"), "unknown activation 'relu', expected one of gelu, "),
        (((2,), "tanh"), r"layers must be at least two positive widths, found \[2\]"),
        (((2, 0, 1), "tanh"), "layers must be at least two positive widths"),
        (((2, 4, 1), "tanh", (1.0,)), r"scale needs 2 values, one an input, found \[1.0\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MLP(*arguments)


def test_order_above_the_highest():
    network = MLP((1, 4, 1), "tanh")
    with pytest.raises(ValueError, match="up to order 4, found 5"):
        network.taylor(dict(network.named_parameters()), torch.rand(3, 1), [(0,) * 5])


def test_closure_holds_the_parts_of_what_is_wanted():
    assert closure([]) == [()]
    assert closure([(0, 0), (1,)]) == [(), (0,), (1,), (0, 0)]
    assert closure([(0, 1, 1)]) == [(), (0,), (1,), (0, 1), (1, 1), (0, 1, 1)]


def test_number_of_set_partitions_is_bells():
    for n, bell in enumerate([1, 1, 2, 5, 15]):
        partitions = set_partitions(range(n))
        assert len(partitions) == bell
        as_sets = {frozenset(map(frozenset, partition)) for partition in partitions}
        assert len(as_sets) == bell
        assert all(sorted(sum(partition, ())) == list(range(n)) for partition in partitions)


def test_tape_has_a_row_of_its_own_for_each_point():
    network = MLP((2, 4, 4, 3), "tanh")
    tape: list = []
    wanted = [(0, 0), (0, 1)]
    params = dict(network.named_parameters())
    streams = network.taylor(params, torch.rand(6, 2), wanted, tape)
    assert [name for name, _, _ in tape] == ["linears.0", "linears.1", "linears.2"]
    for _, inputs, outputs in tape:
        assert list(inputs) == list(outputs) == closure(wanted)
        assert all(z is None or len(z) == 6 for z in outputs.values())
    plain = network.taylor(params, tape[0][1][()], wanted)
    for index, z in streams.items():
        torch.testing.assert_close(z, plain[index])
