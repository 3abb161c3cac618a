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
from pinnfluence.models.deepxde.derivative_lookup import Plan, call, plan
from pinnfluence.models.deepxde.grad import answering
from pinnfluence.models.deepxde.model import dde

jacobian, hessian = dde.grad.jacobian, dde.grad.hessian


def network(x: Tensor) -> Tensor:
    """Two outputs of three inputs, all of whose derivatives up to the sixth order are not zero."""
    a, b, c = x.unbind(1)
    first = torch.sin(a + 2 * b) * torch.exp(0.3 * c) + a * b * c
    return torch.stack([first, torch.cos(a * b) + torch.sin(c * first)], 1)


POINTS = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.2


def streams(found: Plan) -> dict[tuple[int, ...], Tensor]:
    x = POINTS.clone().requires_grad_()
    columns = network(x).unbind(1)
    return {
        index: torch.stack([derivative(y, x, index) for y in columns], 1).detach()
        for index in closure(found.needs)
    }


def looked_up(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Plan]:
    found = plan(function, POINTS[:2], 2)
    return call(function, POINTS, streams(found), found, {}), found


def by_deepxde(function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    x = POINTS.clone().requires_grad_()
    result = function(x, network(x))
    dde.grad.clear()
    return result.detach()


def unrelated(x, y):
    """Many expressions, of which each depends on one before it at most."""
    total, last = 0.0, y[:, :1] ** 2
    for n in range(8):
        total = total + jacobian(y[:, 1:] ** (n + 2), x, j=n % 3)
    return total + jacobian(jacobian(last, x, i=0, j=0), x, i=0, j=1)


LOOKED_UP: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
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
EXPRESSIONS = {
    "product": lambda x, y: jacobian(y[:, :1] * y[:, 1:], x, j=1),
    "of points": lambda x, y: jacobian(torch.sin(x[:, :1]) * x[:, 1:2], x, j=0) + y[:, :1],
    "hessian": lambda x, y: hessian(y**2, x, component=1, i=0, j=2),
    "row": lambda x, y: jacobian(y[:, :1] ** 3, x, i=0).sum(1, keepdim=True),
    "of a derivative": lambda x, y: jacobian(y[:, :1] * jacobian(y, x, i=1, j=0), x, j=0),
    "of itself": lambda x, y: jacobian(x[:, :1] * jacobian(y[:, :1] ** 2, x, j=0), x, j=0),
    "three deep": lambda x, y: jacobian(
        jacobian(jacobian(y[:, :1] ** 2, x, j=0) ** 2, x, j=1) * y[:, 1:], x, j=2
    ),
    "flipped rows are no columns": lambda x, y: jacobian(y[:5, :1] + 0 * y[:, 1:], x, j=0),
    "unrelated": unrelated,
}


@pytest.mark.parametrize("name", LOOKED_UP)
def test_looked_up(name):
    """Nothing but what is asked for is needed of the field."""
    function, needs = LOOKED_UP[name]
    found, made = looked_up(function)
    torch.testing.assert_close(found, by_deepxde(function), rtol=1e-10, atol=1e-12)
    assert made.needs == {(), *needs}
    assert made.queries == []


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions(name):
    found, made = looked_up(EXPRESSIONS[name])
    expected = by_deepxde(EXPRESSIONS[name])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert len(made.queries) > 0


def test_cost_does_not_grow_with_unrelated_expressions():
    """The function runs once, once more for each expression, and for what that depends on."""
    runs = []

    def counted(x, y):
        runs.append(1)
        return unrelated(x, y)

    found = plan(counted, POINTS[:2], 2)
    assert found.queries == [*(set() for _ in range(9)), {8}]
    del runs[:]
    call(counted, POINTS, streams(found), found, {})
    assert len(runs) == 1 + 10 + 1


def test_under_vmap_and_gradients():
    """Still a function of the field: differentiated by it, and vmapped over points."""
    function = EXPRESSIONS["of itself"]
    found = plan(function, POINTS[:2], 2)
    given = streams(found)

    def one(x, values):
        fields = {index: v[None] for index, v in zip(given, values, strict=True)}
        return call(function, x[None], fields, found, {})[0, 0]

    values = tuple(given.values())
    whole = call(function, POINTS, given, found, {})[:, 0]
    torch.testing.assert_close(torch.func.vmap(one)(POINTS, values), whole)
    slopes = torch.func.vmap(torch.func.grad(one, argnums=1))(POINTS, values)
    leaves = [v.clone().requires_grad_() for v in values]
    total = call(function, POINTS, dict(zip(given, leaves, strict=True)), found, {}).sum()
    expected = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    for slope, e in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, e)


def test_threads_do_not_hear_each_other():
    """One looks up, the other asks DeepXDE itself, at the same time."""
    barrier = Barrier(2, timeout=30)
    function = LOOKED_UP["mixed"][0]
    found = plan(function, POINTS[:2], 2)
    given = streams(found)

    def slow(x, y):
        barrier.wait()
        result = function(x, y)
        barrier.wait()
        return result

    original = dde.grad.gradients_reverse.hessian
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(call, slow, POINTS, given, found, {})
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
        plan(function, POINTS, 2)


def test_derivatives_by_something_else():
    with pytest.raises(InputError, match=r"dde\.grad of another tensor; differentiate by x and"):
        plan(lambda x, y: jacobian(y, x[:, :1], i=0, j=0), POINTS, 2)


def test_a_function_that_changes_its_mind():
    asked = []

    def fickle(x, y):
        asked.append(1)
        return jacobian(y[:, :1] ** 2, x, j=0) if len(asked) != 3 else y

    found = plan(fickle, POINTS[:2], 2)
    with pytest.raises(InputError, match="ask for other derivatives each time they are called"):
        call(fickle, POINTS, streams(found), found, {})


def test_the_answer_is_restored_after_an_error():
    original = dde.grad.gradients_reverse.jacobian
    with pytest.raises(KeyError), answering(lambda *_: POINTS):
        raise KeyError
    assert dde.grad.gradients_reverse.jacobian is original
