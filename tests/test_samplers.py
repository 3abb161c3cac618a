"""Samplers: each strategy against its formula, and what becomes of the points of a network."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from pinnfluence import MLP, Equation, InputError, Pinn
from pinnfluence.influence.point_rows import PointRows
from pinnfluence.influence.target import Target
from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.model import build, geometry
from pinnfluence.problems.heat import DOMAIN, PROBLEM
from pinnfluence.samplers import by_influence
from pinnfluence.samplers.by_influence import ByInfluence
from pinnfluence.samplers.sampler import Sampler, acted_on, residuals
from pinnfluence.samplers.strategies import STRATEGIES, Pool, above_mean, relative, weighted

R = np.array([0.0, 1.0, 2.0, 5.0])


def no_influence(n: int) -> np.ndarray:
    raise AssertionError


def choices(name: str, n: int, repeats: int = 4000) -> np.ndarray:
    """What a strategy chooses among four candidates of residuals R, ``[repeats, n]``."""
    pool, rng = Pool(np.zeros((4, 2)), R, no_influence), np.random.default_rng(0)
    return np.array([STRATEGIES[name].choose(pool, n, rng) for _ in range(repeats)])


@pytest.mark.parametrize(
    ("name", "weights"),
    [("random", np.ones(4)), ("rard", R**2 / (R**2).mean()), ("rad", R / R.mean() + 1)],
)
def test_probabilities_by_counting(name: str, weights: np.ndarray) -> None:
    found = np.bincount(choices(name, 1)[:, 0], minlength=4) / 4000
    p = weights / weights.sum()
    assert (np.abs(found - p) <= 4 * np.sqrt(p * (1 - p) / 4000)).all()


def test_the_second_point_is_drawn_among_the_others() -> None:
    """``p_ij = p_i p_j / (1 - p_i)``, as by urns."""
    pairs = choices("rad", 2)
    p = (R / R.mean() + 1) / (R / R.mean() + 1).sum()
    for i in range(4):
        for j in range(4):
            expected = p[i] * p[j] / (1 - p[i]) if i != j else 0.0
            found = ((pairs == (i, j)).all(1)).mean()
            assert abs(found - expected) <= 4 * np.sqrt(expected / 4000)


def test_rar_takes_the_largest() -> None:
    assert choices("rar", 3, 1).tolist() == [[3, 2, 1]]


def test_what_has_no_weight_comes_last_and_equal_residuals_are_all_alike() -> None:
    rng = np.random.default_rng(0)
    assert {int(weighted(R, 4, rng)[-1]) for _ in range(50)} == {0}
    last = {tuple(weighted(np.array([0.0, 0.0, 1.0]), 3, rng)) for _ in range(50)}
    assert last == {(2, 0, 1), (2, 1, 0)}
    np.testing.assert_array_equal(relative(np.zeros(3)), np.ones(3))


def test_r3_keeps_what_is_above_the_mean() -> None:
    np.testing.assert_array_equal(above_mean(R), R > 2)


def test_influence_is_completed_by_rard() -> None:
    pool = Pool(np.zeros((4, 2)), R, lambda n: np.array([1]))
    chosen = STRATEGIES["influence"].choose(pool, 3, np.random.default_rng(0))
    assert chosen[0] == 1
    assert set(chosen[1:]) == {2, 3}  # never 0, whose residual is 0


# ---- the points of a network


@pytest.fixture(scope="module")
def pinn() -> Pinn:
    sizes = {"num_domain": 30, "num_boundary": 10, "num_initial": 10}
    weights = {"heat": 2.5, "boundary": 100.0}
    problem = PROBLEM.changed(layers=(2, 6, 1), loss_weights=weights, **sizes)
    model = build(problem, "dirichlet", seed=1)
    network = copy.deepcopy(model.pinn.network).double()
    points = model.pinn.at(model.train_x).points
    return replace(model.pinn, network=network, training=points)


GEOMETRY = geometry(DOMAIN)
DRAW = drawing(GEOMETRY, INSIDE, "pseudo")


def test_residuals_by_autograd(pinn: Pinn) -> None:
    x = torch.as_tensor(DRAW(20, 3)).double().requires_grad_()
    u = pinn.network(x)
    first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    u_xx = torch.autograd.grad(first[:, 0].sum(), x)[0][:, 0]
    source = (np.pi**2 - 1) * torch.exp(-x[:, 1]) * torch.sin(np.pi * x[:, 0])
    expected = 2.5**0.5 * (first[:, 1] - u_xx - source).abs().detach().numpy()
    np.testing.assert_allclose(residuals(pinn, DRAW(20, 3)), expected, rtol=1e-10)


def test_added_points_lie_inside_and_join_the_others(pinn: Pinn) -> None:
    before = pinn.training_points
    found = Sampler("rar", DRAW, every=5, n=7, seed=3).resample(pinn, before, 10)
    after = found.of(before)
    assert after.shape == (57, 2)
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after[:50], before)
    assert not acted_on(pinn.at(found.points)).any()
    assert PROBLEM.domain.excess(found.points).max() < 0
    assert len(found.residuals) == 10_000
    np.testing.assert_array_equal(found.chosen, np.sort(found.residuals)[:-8:-1])
    np.testing.assert_allclose(found.chosen, residuals(pinn, found.points))
    assert str(found).startswith("step 10: 7 points added by rar, 50 kept; |r| of candidates: mean")


@pytest.mark.parametrize(("n", "expected"), [(None, 30), (12, 12)])
def test_replaced_points_leave_those_of_the_conditions(
    pinn: Pinn, n: int | None, expected: int
) -> None:
    before = pinn.training_points
    fixed = acted_on(pinn.at(before))
    at_start, at_ends = before[:, 1] == 0, np.abs(before[:, 0] - 0.5) == 0.5
    np.testing.assert_array_equal(fixed, at_start | at_ends)
    found = Sampler("rad", DRAW, every=5, n=n).resample(pinn, before, 10)
    np.testing.assert_array_equal(found.kept, fixed)
    assert found.number == expected
    assert len(found.of(before)) == fixed.sum() + expected


def test_r3_releases_what_is_below_the_mean(pinn: Pinn) -> None:
    before = pinn.training_points
    inside = ~acted_on(pinn.at(before))
    sizes = residuals(pinn, before[inside])
    found = Sampler("r3", DRAW, every=5).resample(pinn, before, 10)
    np.testing.assert_array_equal(found.kept[inside], sizes > sizes.mean())
    assert found.kept[~inside].all()
    assert len(found.of(before)) == len(before)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "influence"])
def test_what_is_drawn_depends_on_seed_and_step_alone(pinn: Pinn, name: str) -> None:
    before, state = pinn.training_points, np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    ask = {key: Sampler(name, DRAW, every=5, seed=key[0]) for key in [(0, 5), (0, 10), (1, 5)]}
    found = {key: sampler.resample(pinn, before, key[1]).points for key, sampler in ask.items()}
    again = ask[0, 5].resample(pinn, before, 5).points
    np.testing.assert_array_equal(again, found[0, 5])
    assert not np.array_equal(found[0, 5], found[0, 10])
    assert not np.array_equal(found[0, 5], found[1, 5])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "rat"}, "no sampler 'rat', expected one of influence, rar, "),
        ({"mode": "swap"}, "no mode 'swap' of a sampler"),
        ({"strategy": "r3", "mode": "add"}, "expected mode replace, found add"),
        ({"every": 0}, "expected every of a sampler from 1, found 0"),
        ({"n": 0}, "expected points of a sampler from 1, found 0"),
        ({"n": 20, "n_candidates": 10}, "10 candidates for 20 points"),
        ({"seed": -1}, "expected a seed from 0, found -1"),
    ],
)
def test_bad_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Sampler(**{"strategy": "rad", "draw": DRAW, "every": 5, **settings})


def test_a_network_that_diverged_is_refused(pinn: Pinn) -> None:
    network = copy.deepcopy(pinn.network)
    network.linears[0].bias.data[0] = float("nan")  # type: ignore[index, union-attr]
    with pytest.raises(InputError, match="NaN or infinite: the training diverged"):
        residuals(replace(pinn, network=network), DRAW(5, 0))


# ---- by influence


def random_rows(n: int, rng: np.random.Generator) -> PointRows:
    """n points with two residuals each, of nine parameters."""
    point, scale = np.repeat(np.arange(n), 2), np.full(2 * n, 0.5)
    r, A = rng.standard_normal(2 * n), rng.standard_normal((2 * n, 9))
    return PointRows(n, point, np.tile([0, 1], n), scale, r, A)


@pytest.mark.parametrize("n_kept", [2, 5], ids=["fewer rows than parameters", "more"])
def test_the_largest_residual_that_is_left_by_brute_force(n_kept: int) -> None:
    """The kept points stay as they are while those chosen so far are fitted."""
    rng = np.random.default_rng(1)
    kept, new = (random_rows(n, rng) for n in (n_kept, 12))
    expected: list[int] = []
    for _ in range(3):
        rows = np.isin(new.point, expected)
        A, s = np.concatenate([kept.A, new.A[rows]]), np.concatenate([0 * kept.s, new.s[rows]])
        left = new.s - new.A @ np.linalg.lstsq(A, s, rcond=None)[0]
        sizes = (left.reshape(-1, 2) ** 2).sum(1)
        sizes[expected] = 0
        expected.append(int(np.argmax(sizes)))
    assert expected != np.argsort(-(new.s.reshape(-1, 2) ** 2).sum(1))[:3].tolist()
    np.testing.assert_array_equal(by_influence.largest_left(kept, new, 3), expected)


def test_of_two_equal_points_one_is_chosen() -> None:
    rng = np.random.default_rng(2)
    kept, new = (random_rows(n, rng) for n in (2, 4))
    r, A = 5 * new.r, new.A.copy()
    r[2:4], A[2:4] = r[:2], A[:2]
    twins = replace(new, r=r, A=A)
    chosen = by_influence.largest_left(kept, twins, 3).tolist()
    assert sorted({1 if i == 0 else i for i in chosen}) == [1, 2, 3]


@pytest.mark.parametrize(
    ("n_kept", "seed"), [(3, 5), (5, 1)], ids=["fewer rows than parameters", "more"]
)
def test_the_greedy_choice_by_brute_force(n_kept: int, seed: int) -> None:
    """Every set of points with one candidate more, by a dense least-squares problem each."""
    rng = np.random.default_rng(seed)
    kept, new = (random_rows(n, rng) for n in (n_kept, 6))
    E, t, damping = rng.standard_normal((8, 9)), 5 * rng.standard_normal(8), 0.3

    def squares(points: list[int]) -> float:
        rows = np.flatnonzero(np.isin(new.point, points))
        A, s = np.concatenate([kept.A, new.A[rows]]), np.concatenate([kept.s, new.s[rows]])
        step = -np.linalg.solve(A.T @ A + damping * np.eye(9), A.T @ s)
        return float(((t + E @ step) ** 2).sum())

    expected: list[int] = []
    while len(expected) < 3:
        following = {p: squares([*expected, p]) for p in range(6) if p not in expected}
        best = min(following, key=following.__getitem__)
        if following[best] >= squares(expected):
            break
        expected.append(best)
    assert len(expected) >= 2
    found = by_influence.lowering(kept, new, Target(E, t), damping, 3)
    np.testing.assert_array_equal(found, expected)


NUMBERS = (10, 10, 30)
CHOOSER = ByInfluence(drawing(GEOMETRY, NUMBERS, "pseudo"))


@pytest.mark.parametrize("kind", ["at points", "a mean"])
def test_influence_chooses_as_exact_training_does(kind: str) -> None:
    """u = a x + b t + c, trained on x u_x + t u_t = 2 x + 3 t at the chosen points alone.

    Of all parameters that fit these exactly, training takes the nearest ones.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((2, 1), "tanh").double()
    equation = Equation(lambda f: {"r": f.x * f.u_x + f.t * f.u_t - 2 * f.x - 3 * f.t})
    start = Equation(lambda f: {"start": f.u - 2 * f.x - 1}, DOMAIN.at_start)
    linear = Pinn(network, ("x", "t"), ("u",), (equation, start))
    weight, bias = (p.detach().numpy().ravel() for p in network.parameters())
    wrong = np.array([*(weight - [2, 3]), bias[0] - 1])
    x, there = DRAW(6, 4).astype(float), np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.1]])
    weights = np.eye(3) if kind == "at points" else np.array([[0.5, 0.25, 0.25]])
    one = weights[0] if kind == "a mean" else None
    chooser = replace(CHOOSER, quantity="u", at=there, weights=one)

    def error(points: list[int]) -> float:
        A = np.column_stack([x[points], np.zeros(len(points))])
        left = wrong + np.linalg.lstsq(A, -A @ wrong, rcond=None)[0]
        return float(np.linalg.norm(weights @ (there @ left[:2] + left[2])))

    first = min(range(6), key=lambda i: error([i]))
    second = min(set(range(6)) - {first}, key=lambda i: error([first, i]))
    assert error([first]) < min(error([i]) for i in range(6) if i != first) - 1e-3
    found, helpful = chooser(linear, np.zeros((0, 2)), x, 2, 0)
    assert helpful == len(found)
    assert found[0] == first
    best = min(error([first]), error([first, second]))  # a second one that does not help is left
    assert error(found.tolist()) == pytest.approx(best, rel=1e-6)


def test_influence_without_points_that_stay(pinn: Pinn) -> None:
    x = DRAW(40, 1)
    found, helpful = CHOOSER(pinn, pinn.training_points[:0], x, 5, 0)
    assert len(set(found.tolist())) == 5
    assert helpful is None
    np.testing.assert_array_equal(found, CHOOSER(pinn, pinn.training_points[:0], x, 5, 0)[0])


def test_influence_needs_fresh_points_of_each_term(pinn: Pinn) -> None:
    chooser = replace(CHOOSER, fresh=DRAW, quantity="u", at=DRAW(3, 0))
    with pytest.raises(InputError, match="no fresh point for loss term boundary, initial"):
        chooser(pinn, pinn.training_points, DRAW(5, 1), 1, 0)
