"""Functions written with ``dde.grad`` on a field, against DeepXDE's own reverse mode."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from brute_force import derivative
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.network import closure
from pinnfluence.models.deepxde.derivative_lookup import call, needs
from pinnfluence.models.deepxde.grad import answering
from pinnfluence.models.deepxde.model import GradField, dde

jacobian, hessian = dde.grad.jacobian, dde.grad.hessian
Function = Callable[[Tensor, Tensor], Tensor]
Streams = dict[tuple[int, ...], Tensor]


def network(x: Tensor) -> Tensor:
    """Two outputs of three inputs, all of whose derivatives up to the sixth order are not zero."""
    a, b, c = x.unbind(1)
    first = torch.sin(a + 2 * b) * torch.exp(0.3 * c) + a * b * c
    return torch.stack([first, torch.cos(a * b) + torch.sin(c * first)], 1)


POINTS = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.2


def streams(function: Function) -> Streams:
    """What the function needs of the network, by nested autograd."""
    x = POINTS.clone().requires_grad_()
    columns = network(x).unbind(1)
    return {
        index: torch.stack([derivative(y, x, index) for y in columns], 1).detach()
        for index in closure(needs(function, POINTS[:2], 2))
    }


def by_deepxde(function: Function) -> Tensor:
    x = POINTS.clone().requires_grad_()
    result = function(x, network(x))
    dde.grad.clear()
    return result.detach()


LOOKED_UP: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "value": (lambda x, y: y[:, 1:] + x[:, :1], [()]),
    "first": (lambda x, y: jacobian(y, x, i=1, j=2), [(2,)]),
    "row": (lambda x, y: jacobian(y, x, i=0)[:, 1:2] ** 2, [(0,), (1,), (2,)]),
    "mixed": (lambda x, y: hessian(y, x, component=1, i=2, j=0), [(0, 2)]),
    "column": (lambda x, y: jacobian(y[:, 1:2], x, j=0), [(0,)]),
    "column of a list": (lambda x, y: jacobian(y[:, [1]], x, j=0), [(0,)]),
    "split": (lambda x, y: hessian(torch.split(y, 1, 1)[1], x, i=0, j=1), [(0, 1)]),
    "chunk": (lambda x, y: hessian(y.chunk(2, dim=1)[0], x, i=0, j=1), [(0, 1)]),
    "negative": (lambda x, y: jacobian(y[:, -1:], x, j=1), [(1,)]),
    "ellipsis": (lambda x, y: jacobian(y[..., :1], x, j=1), [(1,)]),
    "third": (lambda x, y: jacobian(hessian(y, x, i=0, j=1), x, j=2), [(0, 1), (0, 1, 2)]),
    "fourth": (lambda x, y: hessian(hessian(y, x, i=0, j=0), x, i=1, j=1), [(0, 0), (0, 0, 1, 1)]),
}
EXPRESSIONS: dict[str, Function] = {
    "product": lambda x, y: jacobian(y[:, :1] * y[:, 1:], x, j=1),
    "of points": lambda x, y: jacobian(torch.sin(x[:, :1]) * x[:, 1:2], x, j=0) + y[:, :1],
    "hessian": lambda x, y: hessian(y**2, x, component=1, i=0, j=2),
    "of a derivative": lambda x, y: jacobian(y[:, :1] * jacobian(y, x, i=1, j=0), x, j=0),
    "flipped rows are no columns": lambda x, y: jacobian(y[:5, :1] + 0 * y[:, 1:], x, j=0),
    "all rows are no columns": lambda x, y: jacobian(y[torch.arange(len(y))], x, i=1, j=0),
}


@pytest.mark.parametrize("name", LOOKED_UP)
def test_looked_up(name):
    """Nothing but what is asked for is needed of the field."""
    function, expected = LOOKED_UP[name]
    assert closure(needs(function, POINTS[:2], 2)) == closure(expected)
    found = call(function, POINTS, streams(function), {})
    torch.testing.assert_close(found, by_deepxde(function), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("with_graph", [True, False])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_differentiated_by_the_chain_rule(name, with_graph):
    function = EXPRESSIONS[name]
    given = streams(function)
    with torch.set_grad_enabled(with_graph):
        found = call(function, POINTS, given, {})
    assert found.requires_grad is with_graph
    torch.testing.assert_close(found.detach(), by_deepxde(function), rtol=1e-10, atol=1e-12)


def one_hessian(x: Tensor, y: Tensor) -> Tensor:
    return hessian(y, x, component=0, i=0, j=1) * y[:, 1:] + x[:, :1]


@pytest.mark.parametrize("function", [one_hessian, *EXPRESSIONS.values()])
def test_under_vmap_and_gradients(function):
    """Still a function of the field: differentiated by it, and vmapped over points."""
    given = streams(function)

    def one(x, values):
        fields = {index: v[None] for index, v in zip(given, values, strict=True)}
        return call(function, x[None], fields, {})[0, 0]

    values = tuple(given.values())
    differentiated = torch.func.grad_and_value(one, argnums=1)
    slopes, found = torch.func.vmap(differentiated)(POINTS, values)
    leaves = [v.clone().requires_grad_() for v in values]
    streamed = dict(zip(given, leaves, strict=True))
    whole = call(function, POINTS, streamed, {})[:, 0]
    torch.testing.assert_close(found, whole)
    expected = torch.autograd.grad(whole.sum(), leaves, allow_unused=True, materialize_grads=True)
    for slope, e in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, e)


def test_substitutes_take_the_place_of_tensors_that_a_function_holds():
    unknown = torch.tensor(2.0, dtype=torch.float64)
    function = lambda x, y: unknown * jacobian(y, x, i=0, j=0)  # noqa: E731
    given = streams(function)
    other = torch.tensor(-3.0, dtype=torch.float64)
    found = call(function, POINTS, given, {id(unknown): other})
    torch.testing.assert_close(found, -1.5 * call(function, POINTS, given, {}))


def test_threads_do_not_hear_each_other():
    """One looks up, the other asks DeepXDE itself, at the same time."""
    barrier = Barrier(2, timeout=60)
    function = LOOKED_UP["mixed"][0]
    given = streams(function)

    def slow(x, y):
        barrier.wait()
        result = function(x, y)
        barrier.wait()
        return result

    original = dde.grad.gradients_reverse.hessian
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(call, slow, POINTS, given, {})
        x = POINTS.clone().requires_grad_()
        theirs = pool.submit(slow, x, network(x))
        torch.testing.assert_close(ours.result(), theirs.result().detach())
    dde.grad.clear()
    assert dde.grad.gradients_reverse.hessian is original


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: jacobian(y[:, :1], x), "needs i or j"),
        (lambda x, y: jacobian(y, x, j=0), "needs i, one of 2 columns"),
        (lambda x, y: jacobian(y, x, i=2, j=0), "no column 2, there are 2"),
        (lambda x, y: jacobian(y, x, i=0, j=3), "no input 3, there are 3"),
        (lambda x, y: hessian(y, x, component=2), "no column 2, there are 2"),
        (lambda x, y: hessian(y, x, i=-1), "no input -1, there are 3"),
    ],
)
def test_what_deepxde_would_refuse(function, message):
    with pytest.raises(ValueError, match=message):
        needs(function, POINTS, 2)


def test_derivatives_by_something_else():
    with pytest.raises(InputError, match=r"dde\.grad of another tensor; differentiate by x and"):
        needs(lambda x, y: jacobian(y, x[:, :1], i=0, j=0), POINTS, 2)


def test_a_function_that_changes_its_mind():
    """What was not computed is an error, never a zero."""
    asked: list[int] = []

    def fickle(x, y):
        asked.append(1)
        return jacobian(y, x, i=0, j=0) if len(asked) > 1 else y

    given = streams(fickle)
    with pytest.raises(RuntimeError, match=r"derivative \(0,\) was not computed"):
        call(fickle, POINTS, given, {})


def test_the_answer_is_restored_after_an_error():
    original = dde.grad.gradients_reverse.jacobian
    with pytest.raises(KeyError), answering(lambda *_: POINTS):
        raise KeyError
    assert dde.grad.gradients_reverse.jacobian is original


def grad_field():
    net = dde.nn.FNN([2, 5, 3], "tanh", "Glorot uniform")
    x = torch.rand(6, 2, requires_grad=True)
    return x, net, GradField(("x", "y"), ("u", "v", "p"), x, {(): net(x)})


def test_lookup():
    x, net, f = grad_field()
    torch.testing.assert_close(f.y, x[:, 1])
    torch.testing.assert_close(f.v, net(x)[:, 1])
    for output, name in enumerate(("u", "v", "p")):
        (gradient,) = torch.autograd.grad(net(x)[:, output].sum(), x, create_graph=True)
        for i, letter in enumerate("xy"):
            torch.testing.assert_close(getattr(f, f"{name}_{letter}"), gradient[:, i])
            (second,) = torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)
            for j, other in enumerate("xy"):
                found = getattr(f, f"{name}_{letter}{other}")
                torch.testing.assert_close(found, second[:, j], rtol=1e-4, atol=1e-6)


def test_lookup_errors():
    _, _, f = grad_field()
    with pytest.raises(AttributeError, match="no field 'w'"):
        f.w  # noqa: B018
    with pytest.raises(NotImplementedError, match="u_xxx: derivatives above the second"):
        f.u_xxx  # noqa: B018
    assert not hasattr(f, "_anything")
