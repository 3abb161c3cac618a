"""Fields against nested ``autograd.grad`` in float64, for the MLP and for other modules."""

from itertools import combinations_with_replacement

import pytest
import torch
from brute_force import derivative
from test_network import PLAIN
from torch import Tensor, nn

from pinnfluence.field.field import Field, derivatives_used, evaluate
from pinnfluence.field.network import ACTIVATIONS, MLP, Tape, closure

INPUTS, OUTPUTS, SCALE = ("x", "y", "t"), ("u", "v"), (2.2, 0.41, 1.7)
ALL = [i for order in range(5) for i in combinations_with_replacement(range(3), order)]


class PlainMLP(nn.Module):
    """The formula of the MLP with torch's layers: for the package an unknown module."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.linears, self.activation = network.linears, PLAIN[network.activation]
        self.scale = torch.tensor(network.scale, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.linears
        x = first(x / self.scale)
        for linear in others:
            x = linear(self.activation(x))
        return x


class Residual(nn.Module):
    """A module that is no MLP: a skip connection and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.first(x))
        return hidden + torch.sin(self.second(hidden)) * x[:, :1]


def make_mlp(activation: str = "tanh", layers: tuple[int, ...] = (3, 6, 5, 2)) -> MLP:
    torch.manual_seed(1)
    return MLP(layers, activation, SCALE).double()


def make_points(n: int = 7) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(n, 3, dtype=torch.float64)


def field_of(network: nn.Module, x: Tensor, wanted: list[tuple[int, ...]]) -> Field:
    return evaluate(network, dict(network.named_parameters()), x, INPUTS, OUTPUTS, wanted)


def name_of(output: str, index: tuple[int, ...]) -> str:
    return "_".join([output, "".join(INPUTS[i] for i in index)]) if index else output


def check(field: Field, reference: nn.Module, x: Tensor, wanted: list[tuple[int, ...]]) -> None:
    x = x.clone().requires_grad_()
    for number, output in enumerate(OUTPUTS):
        for index in wanted:
            expected = derivative(reference(x)[:, number], x, index)
            found = getattr(field, name_of(output, index))
            assert found.shape == (len(x),)
            torch.testing.assert_close(
                found, expected, rtol=1e-10, atol=1e-12, msg=name_of(output, index)
            )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_taylor_streams(activation):
    """All 35 derivatives up to the fourth order in three inputs, mixed ones included."""
    network, x = make_mlp(activation), make_points()
    check(field_of(network, x, ALL), PlainMLP(network), x, ALL)


@pytest.mark.parametrize("index", ALL, ids=lambda index: name_of("u", index))
def test_taylor_streams_one_at_a_time(index):
    """What else is carried does not matter."""
    network, x = make_mlp(), make_points()
    check(field_of(network, x, [index]), PlainMLP(network), x, closure([index]))


def test_nested_jvp():
    network, x = PlainMLP(make_mlp("gelu")), make_points()
    check(field_of(network, x, ALL), network, x, ALL)


def test_nested_jvp_of_another_module():
    network, x = Residual().double(), make_points()
    check(field_of(network, x, ALL), network, x, ALL)


@pytest.mark.parametrize("index", [(0,), (0, 1), (2, 2)])
def test_network_without_hidden_layer(index):
    """Its first derivatives are constants, its second ones are zero."""
    network, x = make_mlp(layers=(3, 2)), make_points()
    check(field_of(network, x, [index]), PlainMLP(network), x, [index])


@pytest.mark.parametrize("kind", [lambda network: network, PlainMLP])
def test_gradients_of_derivatives(kind):
    """Fields can be differentiated, vmapped over points and jvp'ed by the parameters."""
    mlp, x = make_mlp(), make_points()
    network = kind(mlp)
    params = {name: p.detach() for name, p in network.named_parameters()}

    def residual(params, point):
        f = evaluate(network, params, point[None], INPUTS, OUTPUTS, [(0, 0), (0, 1), (2,)])
        return (f.u_xx * f.v + f.u_xy - f.v_t)[0]

    found = torch.func.vmap(torch.func.grad(residual), (None, 0))(params, x)
    plain, points = PlainMLP(mlp), x.clone().requires_grad_()
    u, v = plain(points).unbind(1)
    d = derivative
    expected = d(u, points, (0, 0)) * v + d(u, points, (0, 1)) - d(v, points, (2,))
    for i in range(len(x)):
        gradients = torch.autograd.grad(expected[i], list(plain.parameters()), retain_graph=True)
        for name, gradient in zip(params, gradients, strict=True):
            torch.testing.assert_close(found[name][i], gradient, rtol=1e-10, atol=1e-12)
    tangents = {name: torch.ones_like(p) for name, p in params.items()}
    tangent = torch.func.jvp(lambda p: residual(p, x[0]), (params,), (tangents,))[1]
    total = torch.stack([found[name][0].sum() for name in params]).sum()
    torch.testing.assert_close(tangent, total)


def burgers(f: Field) -> Tensor:
    return f.u_t + f.u * f.u_x - 0.01 * f.u_xx


def test_only_wanted_streams_are_carried():
    """Burgers needs neither tt nor xt."""
    used = derivatives_used([burgers], ("x", "t"), ("u",), torch.zeros(1, 2))
    assert used == [(), (0,), (1,), (0, 0)]
    network = make_mlp()
    tape: Tape = []
    streams = network.taylor(dict(network.named_parameters()), make_points(), [(0, 0), (1,)], tape)
    assert list(streams) == [(), (0,), (1,), (0, 0)]
    assert all(list(inputs) == list(streams) for _, inputs, _ in tape)


def test_inputs_and_selections():
    network, x = make_mlp(), make_points()
    f = field_of(network, x, [(0, 1)])
    torch.testing.assert_close(f.t, x[:, 2], rtol=0, atol=0)
    for rows in (slice(1, 4), torch.tensor([5, 0, 5]), torch.tensor([], dtype=torch.long)):
        for name in ("y", "v", "u_xy"):
            torch.testing.assert_close(getattr(f[rows], name), getattr(f, name)[rows])
    with pytest.raises(TypeError, match="selection of points already"):
        f[:3][:2]


def test_order_of_letters_does_not_matter():
    f = field_of(make_mlp(), make_points(), [(0, 1, 2)])
    torch.testing.assert_close(f.u_xyt, f.u_tyx, rtol=0, atol=0)


def test_zero_derivative_has_the_shape_of_the_points():
    f = field_of(make_mlp(layers=(3, 2)), make_points(), [(0, 0)])
    assert f.u_xx.shape == (7,)
    assert f[:3].u_xx.tolist() == [0.0, 0.0, 0.0]
    assert f.u_xx.dtype == torch.float64


@pytest.mark.parametrize("name", ["w", "u_z", "u_", "u_x_y", "u_xw", "x_x", "uu", "U", "u__x"])
def test_unknown_names(name):
    f = field_of(make_mlp(), make_points(), [(0,)])
    with pytest.raises(AttributeError, match=f"no field '{name}'; inputs are x, y, t, outputs u"):
        getattr(f, name)
    with pytest.raises(AttributeError, match=f"no field '{name}'"):
        derivatives_used([lambda f: getattr(f, name)], INPUTS, OUTPUTS, torch.zeros(1, 3))


def test_derivative_that_was_not_computed():
    f = field_of(make_mlp(), make_points(), [(0,)])
    with pytest.raises(AttributeError, match="derivative 'u_xx' was not computed"):
        f.u_xx  # noqa: B018
    assert not hasattr(f, "_anything")
