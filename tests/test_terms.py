"""Which terms act where, how points are split, and what a Pinn refuses."""

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks

from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation


def test_names_and_groups(flow_pinn):
    pinn = flow_pinn()
    assert pinn.terms == TERMS
    assert [len(names) for names in pinn.names] == [3, 2, 2, 2]
    assert pinn.groups == {"pde": list(TERMS[:3]), "bcs": list(TERMS[3:]), "all": list(TERMS)}


def test_rows_are_where_the_terms_act(flow_pinn, flow_points):
    x = flow_points(20, 3)
    rows = flow_pinn().at(x).term_rows()
    for name, mask in flow_masks(torch.as_tensor(x)).items():
        np.testing.assert_array_equal(rows[name], np.flatnonzero(mask), err_msg=name)


def test_membership_is_decided_on_the_stored_points(flow_pinn):
    """Points of float32 at a wall, and points farther from it than the tolerance."""
    x = np.array([[1.0, 0.41], [1.0, 0.41 - 2e-6], [2.2, 0.1], [2.2 - 2e-6, 0.1]], np.float32)
    rows = flow_pinn().at(x).term_rows()
    assert rows["noslip_u"].tolist() == [0]
    assert rows["outflow_u"].tolist() == [2]


@pytest.mark.parametrize("size", [1, 7, 16, 50, 1000])
def test_chunks_are_the_whole(flow_pinn, flow_points, size):
    pinn, x = flow_pinn(), flow_points(20, 3)
    whole = pinn.at(x)
    expected, rows = whole.residuals(pinn.params), whole.term_rows()
    start, found = 0, {name: np.full(len(x), np.nan) for name in TERMS}
    for chunk in whole.chunks(size):
        assert len(chunk.x) <= size
        residuals = chunk.residuals(pinn.params)
        for name, here in chunk.term_rows().items():
            found[name][start + here] = residuals[name].numpy()
        start += len(chunk.x)
    assert start == len(x)
    for name in TERMS:
        np.testing.assert_allclose(found[name][rows[name]], expected[name].numpy(), rtol=1e-12)
        assert np.isnan(np.delete(found[name], rows[name])).all()


def test_one_equation_at_its_points(flow_pinn, flow_points):
    pinn = flow_pinn()
    whole = pinn.at(flow_points(20, 3))
    expected = whole.residuals(pinn.params)
    for number, names in enumerate(whole.names):
        found = whole.only(number).residuals(pinn.params)
        assert tuple(found) == names
        for name in names:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=0)


def test_observables(flow_pinn, flow_points):
    pinn, x = flow_pinn(), flow_points(5, 0)
    found = pinn.at(x, [pinn.observables]).residuals(pinn.params)
    assert list(found) == ["u", "v", "p", "speed"]
    outputs = pinn.network(torch.as_tensor(x).double())
    for number, name in enumerate("uvp"):
        torch.testing.assert_close(found[name], outputs[:, number])
    torch.testing.assert_close(found["speed"], outputs[:, :2].norm(dim=1))


def test_only_derivatives_that_are_used(flow_pinn):
    pinn = flow_pinn()
    assert pinn.derivatives(pinn.equations) == [(), (0,), (1,), (0, 0), (1, 1)]
    assert pinn.derivatives(pinn.equations[2:3]) == [(), (0,)]
    assert pinn.derivatives([pinn.observables]) == [()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_the_networks(flow_pinn, flow_points, dtype):
    pinn = flow_pinn(dtype=dtype)
    residuals = pinn.at(flow_points(5, 0)).residuals(pinn.params)
    assert {r.dtype for r in residuals.values()} == {dtype}


@pytest.mark.parametrize("name", ["u", "w", "pde", "all"])
def test_names_must_differ(name):
    def residuals(f):
        return {name: f.u, "w": f.u_x}

    with pytest.raises(ValueError, match=f"names must be different, found twice: {name}"):
        Pinn(
            MLP((1, 1), "tanh"),
            ("x",),
            ("u",),
            (Equation(residuals), Equation(lambda f: {"w": f.u} if name == "w" else {})),
        )


def test_an_output_must_not_have_the_name_of_an_input():
    with pytest.raises(ValueError, match="found twice: x"):
        Pinn(MLP((2, 4, 1), "tanh"), ("t", "x"), ("x",), (Equation(lambda f: {"r": f.x}),))
