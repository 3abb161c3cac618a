"""Properties of scores over random small problems: networks, equations, conditions, points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from brute_force import derivative
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pinnfluence import GAUSS_NEWTON, MLP, Equation, Influence, Pinn

INPUTS, OUTPUTS = ("x", "y"), ("u", "v")
DAMPING = 1e-2

FACTORS: dict[str, Callable[[Any], Tensor]] = {
    **{name: lambda f, name=name: getattr(f, name) for name in ("x", "y", "u", "v")},  # type: ignore[misc]
    **{name: lambda f, name=name: getattr(f, name) for name in ("u_x", "v_y", "u_y")},  # type: ignore[misc]
    **{name: lambda f, name=name: getattr(f, name) for name in ("u_xx", "v_xy", "v_yy")},  # type: ignore[misc]
    "sin u": lambda f: torch.sin(f.u),
    "exp v_x": lambda f: torch.exp(0.3 * f.v_x),
    "one": lambda f: torch.ones_like(f.x),
}
"""What the terms of a random equation are products of: fields, their derivatives, functions."""

quick = settings(
    deadline=None,
    max_examples=12,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Products:
    """A residual, ``sum_j c_j a_j b_j``, as coefficients and names of factors."""

    parts: tuple[tuple[float, str, str], ...]

    def __call__(self, f: Any) -> Tensor:
        return torch.stack([c * FACTORS[a](f) * FACTORS[b](f) for c, a, b in self.parts]).sum(0)


@dataclass(frozen=True)
class Case:
    """A random problem. edge: where the condition acts, ``x < edge``."""

    layers: tuple[int, ...]
    activation: str
    pde: Products
    condition: Products
    edge: float
    loss_weights: dict[str, float]
    points: np.ndarray
    seed: int

    def pinn(self) -> Pinn:
        torch.manual_seed(self.seed)
        network = MLP(self.layers, self.activation, (1.0, 1.5)).double()
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.1 * torch.randn_like(p))
        return Pinn(
            network,
            INPUTS,
            OUTPUTS,
            (
                Equation(lambda f: {"pde_residual": self.pde(f)}),
                Equation(lambda f: {"condition": self.condition(f)}, lambda x: x[:, 0] < self.edge),
            ),
            loss_weights=self.loss_weights,
        )


def products() -> st.SearchStrategy[Products]:
    numbers = st.sampled_from([-2.0, -0.5, 0.3, 1.0])
    part = st.tuples(numbers, *(st.sampled_from(sorted(FACTORS)) for _ in range(2)))
    return st.lists(part, min_size=1, max_size=3).map(lambda parts: Products(tuple(parts)))


@st.composite
def cases(draw: Any) -> Case:
    widths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=2))
    seed, n = draw(st.integers(0, 10**6)), draw(st.integers(3, 12))
    points = np.random.default_rng(seed).random((n, 2)).astype(np.float32)
    points[0, 0] = 0  # the condition acts somewhere
    weight = st.sampled_from([0.1, 1.0, 7.0])
    return Case(
        (2, *widths, 2),
        draw(st.sampled_from(["tanh", "gelu", "sin", "sigmoid", "silu"])),
        draw(products()),
        draw(products()),
        draw(st.sampled_from([0.1, 0.5, 2.0])),
        {"pde_residual": draw(weight), "condition": draw(weight)},
        points,
        seed,
    )


def recipe(**changes: Any) -> Any:
    return replace(GAUSS_NEWTON, damping=DAMPING, **changes)


def scores_of(case: Case, points: np.ndarray, batch_size: int | None = None, **changes: Any) -> Any:
    influence = Influence(case.pinn(), points, recipe=recipe(**changes), batch_size=batch_size)
    return influence.scores(TEST_X, "u")


TEST_X = np.array([[0.2, 0.3], [0.9, 0.4]])


class ByAutograd:
    """The fields of a network by nested ``autograd.grad``: no code of the package."""

    def __init__(self, network: Any, x: Tensor) -> None:
        self.inputs = x.clone().requires_grad_()
        self.outputs = network(self.inputs)

    def __getattr__(self, name: str) -> Tensor:
        if name in INPUTS:
            return self.inputs[:, INPUTS.index(name)]
        output, _, by = name.partition("_")
        column = self.outputs[:, OUTPUTS.index(output)]
        return derivative(column, self.inputs, [INPUTS.index(letter) for letter in by])


def rows_of(values: Tensor, network: Any) -> np.ndarray:
    """Gradients ``[n, n_params]``."""
    params, rows = list(network.parameters()), []
    for value in values:
        found = torch.autograd.grad(
            value, params, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows).numpy()


def expected_scores(case: Case) -> dict[str, np.ndarray]:
    """Scores by loss term ``[n_test, n_train]`` from a dense matrix."""
    network, x = case.pinn().network, torch.as_tensor(case.points).double()
    acting = {"pde_residual": np.arange(len(x)), "condition": np.flatnonzero(x[:, 0] < case.edge)}
    losses, matrix = {}, 0.0
    for term, residual in {"pde_residual": case.pde, "condition": case.condition}.items():
        values = residual(ByAutograd(network, x[acting[term]]))
        weight = case.loss_weights[term] / len(values)
        rows = rows_of(values, network)
        matrix = matrix + 2 * weight * rows.T @ rows
        losses[term] = 2 * weight * values.detach().numpy()[:, None] * rows
    u = rows_of(network(torch.as_tensor(TEST_X))[:, 0], network)
    solved = np.linalg.solve(matrix + DAMPING * np.eye(u.shape[1]), u.T).T
    found = {term: np.zeros((len(u), len(x))) for term in losses}
    for term, gradients in losses.items():
        found[term][:, acting[term]] = solved @ gradients.T
    return found


def close(found: Any, expected: Any, relative: float) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@quick
@given(cases())
def test_scores_equal_brute_force(case):
    scores, expected = scores_of(case, case.points), expected_scores(case)
    for term, values in scores.by_term().items():
        largest = max(np.abs(v).max() for v in expected.values())
        np.testing.assert_allclose(values, expected[term], rtol=0, atol=1e-6 * largest)


@quick
@given(cases(), st.integers(0, 100))
def test_scores_follow_their_points(case, seed):
    order = np.random.default_rng(seed).permutation(len(case.points))
    shuffled = np.asarray(scores_of(case, case.points[order]))
    close(shuffled, np.asarray(scores_of(case, case.points))[:, order], 1e-6)


@quick
@given(cases(), st.data())
def test_scores_do_not_depend_on_the_batch_size(case, data):
    size = data.draw(st.integers(1, len(case.points)))
    close(scores_of(case, case.points, size), scores_of(case, case.points), 1e-6)


@quick
@given(cases())
def test_scores_add_up_over_terms(case):
    scores = scores_of(case, case.points)
    close(sum(scores.by_term().values()), np.asarray(scores), 1e-12)


@quick
@given(cases(), st.sampled_from([0.5, 3.0]))
def test_scores_do_not_depend_on_the_scale_of_the_loss(case, factor):
    """All loss weights and the damping times a number: the same scores."""
    weights = {term: factor * weight for term, weight in case.loss_weights.items()}
    scaled = replace(case, loss_weights=weights)
    influence = Influence(
        scaled.pinn(), case.points, recipe=replace(GAUSS_NEWTON, damping=factor * DAMPING)
    )
    close(influence.scores(TEST_X, "u"), np.asarray(scores_of(case, case.points)), 1e-6)


@quick
@given(cases())
def test_compressed_and_exact_scores_agree(case):
    influence = Influence(case.pinn(), case.points, recipe=recipe())
    exact = np.asarray(influence.scores_by_quantity(TEST_X, ["u"])["u"])
    close(exact, np.asarray(influence.scores(TEST_X, "u")), 1e-5)
    close(np.asarray(influence.influence(TEST_X)["u"][:]), exact, 2e-2)
