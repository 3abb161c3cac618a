"""The diagnosis as a user asks for it: from Python and from the command line."""

import copy
import json
from dataclasses import replace

import deepxde_problems
import numpy as np
import pytest
import torch
from helpers import DIAGNOSE, ROOT, assert_refused, files_below, run, run_well

import pinnfluence
from pinnfluence.diagnosis import QuantityError, stages
from pinnfluence.diagnosis.report_text import verdict
from pinnfluence.influence.quantity import Quantity
from pinnfluence.problems import heat

HEAT_BAD = ROOT / "model_zoo" / "heat_bad"


@pytest.fixture(scope="module")
def model():
    return pinnfluence.load_model(HEAT_BAD)


@pytest.fixture(scope="module")
def report(model):
    return pinnfluence.diagnose(model, fresh=600)


def test_a_network_with_no_loss_left_is_found_to_be_wrong(model, report):
    points = heat.reference().points[::7]
    error = heat.solution(points)["u"] - model.predict(points)["u"]
    found = report.error(points)["u"]
    assert np.linalg.norm(found - error) < 0.01 * np.linalg.norm(error)
    true = np.linalg.norm(error) / np.linalg.norm(heat.solution(points)["u"])
    assert report.errors["u"].relative == pytest.approx(true, rel=0.1)
    assert report.errors["u"].reliable
    assert report.text().startswith("The network is wrong: it is off by u 14 % (root mean square).")
    assert "does not fit between its points" in report.text()
    assert sum(report.errors["u"].terms.values()) == pytest.approx(1)
    assert report.text() in report._repr_html_().replace("&#x27;", "'").replace("&lt;", "<")


def test_a_verdict_names_what_is_known_and_what_is_not(report):
    """A small error of u that is known beside one of v that is not: no alarm, and no silence."""
    small = replace(report.errors["u"], relative=1e-4, least=1e-4, by_points=0.01)
    for v, begins in (
        (replace(small, by_points=0.5), "The network is off by u 0.01 % (root mean square). This"),
        (replace(small, least=0.5, by_points=0.5), "The network is wrong: u by at least"),
    ):
        partly = copy.copy(report)
        object.__setattr__(partly, "errors", {"u": small, "v": v})
        assert verdict(partly).startswith(begins)
        assert f"v {'(' if v.least < 0.1 else 'by '}at least" in verdict(partly)
        assert ("too large to be located" in partly.text()) == (v.least > 0.1)


@pytest.mark.parametrize(
    ("unexplained", "by_damping", "by_points", "part"),
    [(0.1, 0.05, 0.02, 0.9), (0.1, 3.0, 0.2, 0.5), (0.6, 3.0, 0.4, 0.4), (0.3, 0.4, 2.0, 0.0)],
)
def test_the_lower_bound_counts_all_but_the_damping_in_full(
    unexplained, by_damping, by_points, part
):
    error = QuantityError(1, 0.8, 1, 1, (0,), unexplained, by_damping, by_points, {})
    assert error.at_least == pytest.approx(0.8 * part)


def test_too_few_fresh_points_are_told_from_enough(model):
    few = pinnfluence.diagnose(
        pinnfluence.load_model(ROOT / "model_zoo" / "burgers_bad"), fresh=200
    )
    assert not few.reliable
    assert "too far" in few.text() or "cannot be estimated" in few.text()
    assert few.errors["u"].at_least < 0.1312  # the truth
    assert "diagnose with more fresh points" in few.text()


def test_points_of_ones_own_and_a_pinn_without_a_sampler(model):
    rng = np.random.default_rng(0)
    inside, ends, start = rng.random((600, 2)), rng.random((60, 2)), rng.random((60, 2))
    ends[:, 0] = np.round(ends[:, 0])
    start[:, 1] = 0
    fresh = np.concatenate([inside, ends, start]).astype(np.float32)
    places = model.pinn.at(model.train_x)
    pinn = replace(model.pinn, training=places.points)
    found = pinnfluence.diagnose(pinn, fresh_x=fresh)
    assert found.errors["u"].relative == pytest.approx(0.14, abs=0.02)
    with pytest.raises(pinnfluence.InputError, match="--fresh_model or --fresh_x_path"):
        pinnfluence.diagnose(pinn)
    with pytest.raises(pinnfluence.InputError, match="1 that were trained on, of loss terms heat"):
        pinnfluence.diagnose(model, fresh_x=np.concatenate([fresh, model.train_x[:1]]))
    with pytest.raises(pinnfluence.InputError, match="no fresh point for loss term"):
        pinnfluence.diagnose(model, fresh_x=fresh[:600])


def test_errors_of_quantities_by_name_and_by_function(model):
    wanted: dict[str, Quantity] = {"u": "u", "flux": lambda f: -f.u_x, "square": lambda f: f.u**2}
    found = pinnfluence.diagnose(model, fresh=400, quantities=wanted)
    points = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    u, h = model.predict(points)["u"], 1e-4
    errors = found.error(points)
    true = heat.solution(points)["u"] - u
    np.testing.assert_allclose(errors["square"], (u + errors["u"]) ** 2 - u**2, atol=1e-12)
    assert np.linalg.norm(errors["u"] - true) < 0.01 * np.linalg.norm(true)
    ends = [heat.solution(points + np.array([s, 0]))["u"] for s in (h, -h)]
    flux = -(ends[0] - ends[1]) / (2 * h) - found.values(points)["flux"]
    assert np.linalg.norm(errors["flux"] - flux) < 0.02 * np.linalg.norm(flux)
    assert set(found.errors) == set(found.slopes) == {"u", "flux", "square"}
    by_name = pinnfluence.diagnose(model, fresh=600, quantities=["u_x"]).error(points)["u_x"]
    np.testing.assert_allclose(by_name, -errors["flux"], rtol=1e-6, atol=1e-9)
    for wrong in (["q"], ["u_q"], {"mean": lambda f: f.u - f.u.mean()}):
        with pytest.raises(pinnfluence.InputError):
            pinnfluence.diagnose(model, fresh=600, quantities=wrong)


def test_shares_of_points_and_terms_add_up_to_the_error(report):
    np.testing.assert_allclose(report.responsible.sum(0), 1, rtol=1e-4)
    assert sum(report.errors["u"].terms.values()) == pytest.approx(1)
    assert report.errors["u"].by_points < 0.01  # as seen by drawing others: 0.13924, 0.13924


def test_a_stopped_diagnosis_goes_on_and_finds_the_same(model, report, tmp_path, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "training_inverse", broken)
        with pytest.raises(KeyboardInterrupt):
            pinnfluence.diagnose(model, fresh=600, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "estimate_error", broken)
        found = pinnfluence.diagnose(model, fresh=600, folder=tmp_path)
        again = pinnfluence.diagnose(model, fresh=600, folder=tmp_path)
    assert found.to_dict() == again.to_dict() == report.to_dict()
    for changed in ({"seed": 1}, {"quantities": ["u_x"]}, {"fresh": 500}):
        with monkeypatch.context() as patch:
            patch.setattr(stages, "estimate_error", broken)
            with pytest.raises(KeyboardInterrupt):
                pinnfluence.diagnose(model, **{"fresh": 600, "folder": tmp_path, **changed})


def test_a_model_in_plain_pytorch_at_fresh_points_of_each_term():
    """u'' = 12 x^2 with u(0) = 0, u(1) = 1: u = x^4, from an untrained network near x^4."""

    def residual(network, x):
        u = network(x)
        u_x = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return torch.autograd.grad(u_x.sum(), x, create_graph=True)[0] - 12 * x**2

    def ends(network, x):
        return network(x) - x**4

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(1, 10), torch.nn.Tanh(), torch.nn.Linear(10, 1)
            )

        def forward(self, x):
            return x**4 + 0.3 * self.layers(x)

    def terms(n, seed):
        x = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed))
        return {"pde": (x, residual), "ends": ((x[: n // 4] > 0.5).float() + 1e-3 * seed, ends)}

    torch.manual_seed(0)
    network = Network()
    model = pinnfluence.torch_model(network, terms(40, 0))
    report = pinnfluence.diagnose(model, fresh_x=pinnfluence.torch_model(network, terms(90, 1)))
    x = np.linspace(0, 1, 41)[:, None]
    with torch.no_grad():
        true = x[:, 0] ** 4 - network(torch.as_tensor(x, dtype=torch.float32)).numpy()[:, 0]
    found = report.error(x)["u"]
    assert np.linalg.norm(found - true) < 0.02 * np.linalg.norm(true)
    assert report.reliable
    other = {"pde": terms(90, 1)["pde"]}
    with pytest.raises(pinnfluence.InputError, match="loss terms pde, ends"):
        pinnfluence.diagnose(model, fresh_x=pinnfluence.torch_model(network, other))


def test_a_model_of_deepxde_as_it_is():
    model = deepxde_problems.dirichlet()
    report = pinnfluence.diagnose(model, fresh=100)
    x = np.linspace(-1, 1, 41, dtype=np.float32)[:, None]
    coarse = report.error(x)["u"]
    assert coarse.shape == (41,)
    assert report.estimate.unexplained < 0.5


def test_the_script_writes_its_report(tmp_path):
    folder = tmp_path / "out"
    result = run_well(DIAGNOSE, "--checkpoint", HEAT_BAD, "--fresh", 300, "--save_path", folder)
    assert (
        "The network is wrong: it is off by u 14 % (root mean square). This estimate is reliable."
        in result.stdout
    )
    assert {"report.html", "report.json"} < set(files_below(folder))
    figures = json.loads((folder / "report.json").read_text())
    assert figures["errors"]["u"]["relative"] == pytest.approx(0.14, abs=0.02)
    page = (folder / "report.html").read_text()
    assert page.count("<figure>") == 5
    best = figures["new_points"][0]
    assert len(best["place"]) == 2
    assert 0.5 < best["part_of_squared_error"] < 1
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--fresh", "1"], "--fresh"),
        (["--seed", "-1"], "--seed"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--fresh_x_path", "nowhere.npy"], "nowhere.npy"),
    ],
)
def test_bad_input_ends_with_one_line(tmp_path, flags, words):
    result = run(DIAGNOSE, "--checkpoint", HEAT_BAD, "--save_path", tmp_path / "out", *flags)
    assert_refused(result, words)
    assert not (tmp_path / "out").exists()


def test_a_network_of_which_a_layer_was_not_trained():
    model = deepxde_problems.dirichlet()
    for p in model.net.linears[0].parameters():
        p.requires_grad_(False)
    with pytest.warns(UserWarning, match="the others count as constants"):
        report = pinnfluence.diagnose(model, fresh=100)
    assert len(report.estimate.best.step) == sum(
        p.numel() for p in model.net.parameters() if p.requires_grad
    )
    assert np.isfinite(report.error(np.linspace(-1, 1, 11)[:, None])["u"]).all()
