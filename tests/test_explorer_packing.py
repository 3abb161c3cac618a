"""Embeddings made small for the page, and the points that stand for a domain."""

import numpy as np
import pytest
from explorer_files import RANK, flow_files, load
from scipy.spatial import cKDTree

from pinnfluence import Scores
from pinnfluence.explorer import packing
from pinnfluence.explorer.covering_points import covering_points
from pinnfluence.problems import cylinder_flow
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.mesh import triangles_of

RATIO = 2.0**-11
"""Half a unit in the last place of float16."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, flow_points):
    return flow_files(tmp_path_factory.mktemp("explorer"), flow_points)


def test_covering_points_leave_no_place_far_away():
    rng = np.random.default_rng(0)
    points = rng.random((3000, 2)) ** 2  # denser towards two sides
    chosen = covering_points(points, 150)
    assert len(chosen) == 150
    assert (np.diff(chosen) > 0).all()
    gap = cKDTree(points[chosen]).query(points)[0].max()
    random_gaps = [
        cKDTree(points[rng.permutation(3000)[:150]]).query(points)[0].max() for _ in range(5)
    ]
    assert gap < 0.6 * min(random_gaps)
    spacing = cKDTree(points[chosen]).query(points[chosen], k=2)[0][:, 1]
    dense = (points[chosen] < 0.2).all(axis=1)
    assert spacing[dense].mean() < spacing[~dense].mean()


def test_covering_points_keep_a_quarter_for_conditions_and_no_repeated_ones():
    points = np.concatenate([np.random.default_rng(0).random((500, 2)), np.zeros((300, 2))])
    edge = np.arange(40)
    assert np.isin(covering_points(points, 100, [edge[:30], edge[20:]]), edge).sum() >= 25
    assert len(covering_points(points, 700)) == 501
    assert covering_points(points[:5], 5).tolist() == [0, 1, 2, 3, 4]


def test_triangles_leave_the_hole_open_and_fill_the_rest():
    reference = cylinder_flow.reference()
    points = reference.points[covering_points(reference.points, 1500)].astype(np.float64)
    a, b, c = points[triangles_of(points, cylinder_flow.PROBLEM.domain)].transpose(1, 0, 2)
    areas = abs(np.cross(np.pad(b - a, ((0, 0), (0, 1))), np.pad(c - a, ((0, 0), (0, 1))))[:, 2])
    assert areas.sum() / 2 == pytest.approx(reference.area.sum(), rel=5e-3)
    assert (
        triangles_of(points[:2]).shape == triangles_of(np.outer(range(9), [1, 2])).shape == (0, 3)
    )


def test_half_precision_keeps_eleven_digits_over_nine_decades():
    values = 10 ** np.random.default_rng(0).uniform(-17, -9, 1000) * np.resize([1, -1], 1000)
    found = packing.from_half(*packing.half(values))
    assert abs(found / values - 1).max() <= RATIO * 1.001
    assert not packing.from_half(*packing.half(np.zeros((3, 2)))).any()


def all_products(train: packing.Side, test: packing.Side) -> np.ndarray:
    left, right = (
        np.concatenate([e.values for e in side.values()]).astype(np.float64)
        for side in (test, train)
    )
    return left @ right.T


def test_embeddings_at_some_points_are_those_rows(files):
    scores, chosen = load(files[0]), np.arange(3, 240, 7)
    kept = packing.at_points(scores.test, chosen, len(scores.test_x))
    for name, embedding in kept.items():
        exact = scores.test[name].whole(len(scores.test_x))[chosen]
        np.testing.assert_array_equal(embedding.whole(len(chosen)), exact)


def test_reduced_scores_are_the_best_of_their_rank(files):
    scores = load(files[0])
    sides = scores.train, scores.test
    same, small = packing.reduced(*sides, scores.rank), packing.reduced(*sides, 5)
    exact, found, less = (all_products(*pair) for pair in (sides, same, small))
    assert {e.values.shape[1] for e in (*same[0].values(), *same[1].values())} == {RANK}
    assert {e.values.shape[1] for e in (*small[0].values(), *small[1].values())} == {5}
    assert (abs(found - exact).max(axis=1) <= 1e-4 * abs(exact).max(axis=1)).all()
    rows, columns = (np.linalg.norm(exact, axis=k, keepdims=True) for k in (1, 0))
    rows[rows == 0] = columns[columns == 0] = 1
    balanced = exact / rows / columns
    best = np.linalg.norm(np.linalg.svd(balanced, compute_uv=False)[5:])
    assert np.linalg.norm((less - exact) / rows / columns) == pytest.approx(best, rel=1e-3)


def test_speed_is_derived_from_the_outputs_and_derivatives_are_not(files):
    scores = load(files[0])
    model_u, model_v = (scores.test[name].values for name in "uv")
    found = packing.coefficients(scores.test, "speed", ("u", "v", "p"), 240)
    assert found is not None
    again = found[:, [0]] * model_u + found[:, [1]] * model_v
    np.testing.assert_allclose(again, scores.test["speed"].values, atol=1e-5 * abs(again).max())
    np.testing.assert_allclose(found[:, 0] ** 2 + found[:, 1] ** 2, 1, rtol=1e-4)  # a unit vector
    assert packing.coefficients(scores.test, "continuity", ("u", "v", "p"), 240) is None
    assert packing.coefficients(scores.test, "noslip_u", ("u", "v", "p"), 240) is None


def test_errors_are_those_of_a_loop_over_all_pairs(files):
    exact = load(files[1])
    rng = np.random.default_rng(0)
    noisy = {
        name: Embedding((e.values * rng.normal(1, 1e-3, e.values.shape)).astype("f4"), e.rows)
        for name, e in exact.test.items()
    }
    shown = Scores(exact.train_x, exact.test_x, exact.train, noisy, exact.metadata)
    found = packing.errors((exact.train, exact.test), (exact.train, noisy), exact.groups, 10**6)
    for quantity in ("p", "inflow_u", "pde"):
        by_row, by_column = [], []
        for terms in [*exact.terms, *exact.groups]:
            true = np.asarray(exact.matrix(quantity, terms), np.float64)
            wrong = abs(np.asarray(shown.matrix(quantity, terms)) - true)
            by_row += [w.max() / abs(t).max() for w, t in zip(wrong, true, strict=True) if t.any()]
            by_column += [
                w.max() / abs(t).max() for w, t in zip(wrong.T, true.T, strict=True) if t.any()
            ]
        for axis, errors in (("rows", by_row), ("columns", by_column)):
            assert found[quantity][axis]["largest"] == pytest.approx(max(errors), rel=2e-2)
            assert found[quantity][axis]["median"] == pytest.approx(np.median(errors), rel=2e-2)


def test_eight_bits_are_off_by_half_a_step():
    values = np.random.default_rng(0).standard_normal((50, 9)) * 10.0 ** np.arange(-25, 25)[:, None]
    values[7] = 0
    shown = packing.from_narrow(*packing.narrow(values))
    step = abs(values).max(1) / 127
    assert (abs(shown - values) <= 0.5001 * step[:, None]).all()


def test_typical_influence_is_the_root_mean_square(files):
    scores = load(files[0])
    n = len(scores.train_x), len(scores.test_x)
    exact = np.square(np.asarray(scores["u"], np.float64))
    typical = packing.typical(scores.train, scores.test, "u", n)
    np.testing.assert_allclose(typical["row"], exact.mean(0) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(typical["column"], exact.mean(1) ** 0.5, rtol=1e-4)


def test_factors_that_are_left_out_are_those_of_losses(files):
    """At half the rank, outputs are closer to the file when losses weigh less."""
    scores = load(files[0])
    exact = np.asarray(scores["u"], np.float64)

    def error(less) -> float:
        train, test = packing.reduced(scores.train, scores.test, RANK // 2, less)
        total = np.sum([e.whole(len(scores.train_x)) for e in train.values()], axis=0)
        return float(np.linalg.norm(test["u"].values @ total.T - exact))

    assert error(scores.terms) < 0.5 * error(())
