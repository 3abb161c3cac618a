"""The committed reference solution of the flow, its file and the command that writes it."""

import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pinnfluence.problem.reference import Reference, load_reference, save_reference
from pinnfluence.reference import cylinder_fem as fem

COMMITTED = Path(fem.__file__).with_name("cylinder_flow.npz")
DOMAIN_AREA = fem.LENGTH * fem.HEIGHT - math.pi * fem.RADIUS**2
FLUX = 2 / 3 * fem.U_MAX * fem.HEIGHT
flow_on = cache(fem.solve)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference(COMMITTED)


@pytest.fixture
def arrays(reference: Reference) -> dict[str, np.ndarray]:
    """The arrays of a small valid file, to be spoilt."""
    values = {name: value[:5] for name, value in reference.values.items()}
    return {"points": reference.points[:5], "area": reference.area[:5], **values}


def test_committed_file_is_complete(reference):
    assert COMMITTED.stat().st_size < 3e6
    assert reference.points.shape == (37668, 2)
    assert set(reference.values) == {"u", "v", "p"}
    assert len(np.unique(reference.points, axis=0)) == len(reference.points)
    assert reference.area.min() > 0
    total = reference.area.sum(dtype=np.float64)
    assert total == pytest.approx(DOMAIN_AREA, rel=1e-7)  # measured 6e-9


def test_committed_points_are_denser_at_the_cylinder_and_in_the_wake(reference):
    def density(inside: np.ndarray) -> float:
        return np.sum(inside) / reference.area[inside].sum()

    x = reference.points[:, 0]
    near = fem.radial_distance(reference.points.T) < 0.1
    whole = len(x) / DOMAIN_AREA
    assert density(near) > 5 * whole
    assert density((x > 0.41) & (x < 0.8)) > 1.2 * density(x > 1.8)


def test_committed_values_are_the_benchmark_flow(reference):
    points, u = reference.points.astype(np.float64), reference.values["u"]
    assert 0.35 < u.max() < 0.45  # the flow speeds up beside the cylinder
    assert u.min() < -1e-3  # and recirculates behind it
    front, back = (np.abs(points - at).sum(axis=1).argmin() for at in ([0.15, 0.2], [0.25, 0.2]))
    dp = reference.values["p"][front] - reference.values["p"][back]
    assert dp == pytest.approx(fem.DFG.dp, rel=1e-4)


def test_committed_points_and_weights_are_those_of_the_mesh(reference):
    velocity = fem.Basis(fem.make_mesh(12), fem.ElementTriP4(), intorder=2)
    pressure = velocity.with_element(fem.ElementTriP3())
    zeros = [np.zeros(velocity.N), np.zeros(velocity.N), np.zeros(pressure.N)]
    sample = fem.sample(fem.FlowSolution(velocity, pressure, zeros, zeros, 0))
    np.testing.assert_allclose(sample.points, reference.points, rtol=0, atol=1e-6)
    np.testing.assert_allclose(sample.area, reference.area, rtol=1e-5)


@pytest.mark.slow
def test_committed_values_are_reproduced(reference):
    flow = fem.solve(12)
    for name, tolerance in (("drag", 1e-6), ("lift", 3e-5), ("dp", 2e-5)):
        found, expected = getattr(flow.forces, name), getattr(fem.DFG, name)
        assert abs(found / expected - 1) < tolerance
    sample = fem.sample(flow)
    for name, expected in reference.values.items():
        np.testing.assert_allclose(sample.values[name], expected, rtol=0, atol=1e-6)


def disc_moment(a: int, b: int) -> float:
    """int x^a y^b over the cylinder's disc, exact: Gauss in r^2, equal steps in the angle."""
    root, weight = np.polynomial.legendre.leggauss(8)
    r = fem.RADIUS * np.sqrt((1 + root) / 2)[:, None]
    angle = 2 * np.pi * np.arange(16) / 16
    x, y = fem.CENTRE[0] + r * np.cos(angle), fem.CENTRE[1] + r * np.sin(angle)
    return float((weight[:, None] * x**a * y**b).sum() * np.pi * fem.RADIUS**2 / 32)


def test_area_weights_integrate_polynomials(reference):
    assert disc_moment(2, 0) == pytest.approx(math.pi * 0.05**2 * (0.2**2 + 0.05**2 / 4))
    x, y = reference.points.T.astype(np.float64)
    for a in range(6):
        for b in range(6 - a):
            rectangle = fem.LENGTH ** (a + 1) / (a + 1) * fem.HEIGHT ** (b + 1) / (b + 1)
            exact = rectangle - disc_moment(a, b)
            assert reference.area @ (x**a * y**b) == pytest.approx(exact, rel=3e-7), (a, b)


def test_area_weights_and_fields_conserve_mass(reference):
    """int u dx dy = L times the flux, which passes through every station x."""
    total = reference.area @ reference.values["u"].astype(np.float64)
    assert total == pytest.approx(FLUX * fem.LENGTH, rel=1e-7)  # measured 6e-10


def test_save_and_load_are_inverse_and_deterministic(reference, tmp_path):
    for name in ("a.npz", "b.npz"):
        save_reference(reference, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    again = load_reference(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.points, reference.points)
    np.testing.assert_array_equal(again.area, reference.area)
    for name, value in reference.values.items():
        np.testing.assert_array_equal(again.values[name], value)


SPOIL = {
    "points and area": lambda a: {k: v for k, v in a.items() if k != "points"},
    "arrays points": lambda a: {"grid": a["points"]},
    "at least one field": lambda a: {"points": a["points"], "area": a["area"]},
    r"shape \[n, d\]": lambda a: {**a, "points": a["points"][:, 0]},
    r"u as float32 of shape \[5\], found float32 of shape \[4\]": lambda a: {**a, "u": a["u"][:4]},
    "p as float32 .* found float64": lambda a: {**a, "p": a["p"].astype(float)},
    "finite numbers in v, found 5": lambda a: {**a, "v": a["v"] * np.float32(np.nan)},
    "area of at least 0, found -": lambda a: {**a, "area": -a["area"]},
    "pickle": lambda a: {**a, "u": np.array([{}] * 5, dtype=object)},
}


@pytest.mark.parametrize("message", SPOIL)
def test_malformed_files_are_refused(arrays, tmp_path, message):
    np.savez(tmp_path / "bad.npz", **SPOIL[message](arrays))
    with pytest.raises(ValueError, match=message) as caught:
        load_reference(tmp_path / "bad.npz")
    assert str(caught.value).startswith(str(tmp_path / "bad.npz"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut", b"\x80\x04N."])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected an \.npz of plain arrays, found") as caught:
        load_reference(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path):
    content = COMMITTED.read_bytes()
    (tmp_path / "bad.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"expected an \.npz of plain arrays"):
        load_reference(tmp_path / "bad.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz: expected an \.npz file"):
        load_reference(tmp_path / "none.npz")


def test_the_command_writes_a_reference_and_prints_the_benchmark(tmp_path):
    output = tmp_path / "flow.npz"
    command = [sys.executable, "-m", fem.__name__, "--cells", "3", "--points", "3"]
    command += ["--output", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "drag 5.57785" in result.stdout
    assert "DFG 5.5795352338  relative -3.0e-04" in result.stdout
    expected = fem.sample(flow_on(3))
    found = load_reference(output)
    np.testing.assert_array_equal(found.points, expected.points)
    for name in "uvp":
        np.testing.assert_allclose(found.values[name], expected.values[name], atol=1e-7)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--cells", "1"], "at least 2 cells, found 1"),
        (["--output", "no/folder/x.npz"], "no/folder"),
    ],
)
def test_bad_options_end_with_one_line(monkeypatch, capsys, option, message):
    monkeypatch.setattr(sys, "argv", ["cylinder_fem", *option])
    with pytest.raises(SystemExit) as caught:
        fem.main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_reading_a_reference_needs_no_finite_elements():
    code = "import sys, pinnfluence.reference; assert 'skfem' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
