"""Scores for ParaView, read back with meshio."""

import meshio
import numpy as np
import pytest
from test_scores import N_TEST, N_TRAIN, OUTPUTS, make_scores

from pinnfluence import InputError, Scores
from pinnfluence.problem.domain import Disk, Rectangle
from pinnfluence.scores.embedding import Embedding


@pytest.fixture
def scores() -> Scores:
    return make_scores()


@pytest.mark.parametrize("suffix", [".vtu", ".vtk"])
def test_maps_of_training_points(scores, tmp_path, suffix):
    path = scores.to_vtk(tmp_path / f"maps{suffix}", quantities=["u", "pde"], train_points=[3, 30])
    mesh = meshio.read(path)
    assert sorted(mesh.point_data) == [
        f"{name}_of_train_{j}" for name in ("pde", "u") for j in (3, 30)
    ]
    np.testing.assert_array_equal(mesh.points[:, :2], scores.test_x)
    np.testing.assert_array_equal(mesh.point_data["pde_of_train_30"], scores["pde"][:, 30])
    assert mesh.cells[0].type == "triangle"


def test_rows_of_test_points_lie_on_the_training_points(scores, tmp_path):
    path = scores.to_vtk(
        tmp_path / "rows.vtu", quantities=["p"], test_points=[5], terms="bcs", scale="paper"
    )
    mesh = meshio.read(path)
    expected = N_TRAIN * scores.matrix("p", "bcs")[5]
    np.testing.assert_allclose(mesh.point_data["p_at_test_5"], expected, rtol=1e-5)
    np.testing.assert_array_equal(mesh.points[:, :2], scores.train_x)
    assert (mesh.cells[0].type, len(mesh.cells[0])) == ("vertex", N_TRAIN)


def test_all_quantities_by_default_as_mean_over_training_points(scores, tmp_path):
    mesh = meshio.read(scores.to_vtk(tmp_path / "mean.vtu"))
    assert set(mesh.point_data) == {f"{name}_mean_abs" for name in scores}
    assert set(OUTPUTS) < set(scores)
    expected = abs(np.asarray(scores["v"], np.float64)).mean(axis=1)
    np.testing.assert_allclose(mesh.point_data["v_mean_abs"], expected, rtol=1e-5)


def test_the_domain_leaves_its_hole_open(scores, tmp_path):
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rim = 0.5 + 0.2 * np.stack([np.cos(angle), np.sin(angle)], 1)
    corners = [[0, 0], [1, 0], [1, 1], [0, 1]]
    x = np.concatenate([rim, corners]).astype(np.float32)
    test = {"u": Embedding(np.ones((16, 4), np.float32), np.arange(16))}
    holed = Scores(scores.train_x, x, scores.train, test, scores.metadata, scores.eigenvalues)
    domain = Rectangle((0.0, 0.0), (1.0, 1.0)) - Disk((0.5, 0.5), 0.2)

    def area(**choice):
        mesh = meshio.read(holed.to_vtk(tmp_path / "u.vtu", quantities=["u"], **choice))
        a, b, c = mesh.points[mesh.cells[0].data].transpose(1, 0, 2)
        return abs(np.cross(b - a, c - a)[:, 2]).sum() / 2

    polygon = 12 / 2 * 0.2**2 * np.sin(2 * np.pi / 12)
    assert area() == pytest.approx(1, rel=1e-5)
    assert area(domain=domain) == pytest.approx(1 - polygon, rel=1e-5)


def test_points_in_space_or_on_a_line_have_no_triangles(scores, tmp_path):
    for d in (1, 3):
        x = np.random.default_rng(0).random((N_TEST, d)).astype(np.float32)
        other = Scores(x, x, {}, scores.test, scores.metadata, scores.eigenvalues)
        other.train = {
            name: Embedding(np.zeros((0, 4), "f4"), np.zeros(0, "i4")) for name in scores.terms
        }
        mesh = meshio.read(other.to_vtk(tmp_path / "x.vtu", quantities=["u"]))
        assert mesh.cells[0].type == "vertex"
        np.testing.assert_array_equal(mesh.points[:, :d], x)


def test_bad_choices_are_refused_before_a_file_is_written(scores, tmp_path):
    for name, choice, words in [
        ("a.txt", {}, "found a.txt"),
        ("a.vtu", {"train_points": [1], "test_points": [1]}, "found both"),
        ("a.vtu", {"train_points": [N_TRAIN]}, f"training points from 0 to {N_TRAIN - 1}"),
        ("a.vtu", {"test_points": [-1]}, f"test points from 0 to {N_TEST - 1}"),
    ]:
        with pytest.raises(InputError, match=words):
            scores.to_vtk(tmp_path / name, **choice)
    assert not list(tmp_path.iterdir())
