"""benchmarks/influence.py: it runs, its captum computes the same numbers, and it can go red."""

import importlib
import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals
from helpers import ROOT

FOLDER = ROOT / "benchmarks"
pytestmark = [  # captum's own
    pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require:UserWarning"),
]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.slow
def test_everything_on_tiny_networks(module, tmp_path: Path, capsys):
    path = tmp_path / "influence.json"
    module("influence").main(["--small", "--results", str(path)])
    printed = capsys.readouterr().out
    text = path.read_text()
    found = json.loads(text)
    assert set(found) == {"full", "captum", "extrapolation", "growth", "classifier", "machine"}
    for private in (str(ROOT), str(tmp_path), str(Path.home()), platform.node()):
        assert private not in text

    (script,) = found["full"].values()
    assert {"curvature", "test points", "file"} < set(script["stages"])
    assert sum(script["stages"].values()) == pytest.approx(script["seconds"])
    for side in (found["captum"]["naive"], found["classifier"]):
        assert side["relative_difference"] <= 1e-4
        assert side["captum_over_pinnfluence"] > 0
    assert found["captum"]["arnoldi"]["relative_difference"] <= 1e-4
    assert_extrapolated(found["extrapolation"])
    for name, grown in found["growth"].items():
        sizes = [row[name] for row in grown["rows"]]
        assert len(set(sizes)) == 2
    assert "captum naive, extrapolated" in printed


def assert_extrapolated(found: dict[str, Any]) -> None:
    """Seconds are counts times the least cost of a step, and are labelled."""
    assert found["label"] == "extrapolated"
    n_train, n_test, n_params = (found[key] for key in ("n_train", "n_test", "n_params"))
    least = {kind: min(of.values()) for kind, of in found["step_seconds_by_batch_size"].items()}
    expected = (
        n_params * least["hessian_row"]
        + (n_train + 3 * n_test) * least["residual_gradient"]
        + 4 * n_test * least["output_gradient"]
    )
    assert found["naive"]["extrapolated_seconds"] == pytest.approx(expected)
    assert found["naive"]["captum_over_pinnfluence"] is None  # no run at full size beside it


def test_parts_that_were_not_asked_for_stay(module, tmp_path: Path):
    path = tmp_path / "influence.json"
    path.write_text(json.dumps({"growth": {}}))
    module("influence").main(["--small", "--only", "classifier", "--results", str(path)])
    found = json.loads(path.read_text())
    assert set(found) == {"growth", "classifier", "machine"}
    assert found["growth"] == {}


def test_goes_red_where_scores_differ(module, tmp_path: Path, monkeypatch):
    path = tmp_path / "influence.json"
    monkeypatch.setattr(module("_captum_flow"), "NU", 2e-3)
    monkeypatch.setattr(module("_captum_costs"), "ARNOLDI_STEPS", 10)
    with pytest.raises(SystemExit, match="differ from captum's"):
        module("influence").main(["--small", "--only", "captum", "--results", str(path)])
    assert json.loads(path.read_text())["captum"]["naive"]["relative_difference"] > 1e-4


# ---- its pieces


@pytest.fixture
def case(module, flow_pinn, flow_points) -> Any:
    pinn, train_x = flow_pinn(), flow_points(20)
    return module("_captum_flow").FlowCase(pinn, train_x, train_x[:7])


def test_flow_for_captum_is_the_flow(module, case):
    flow = module("_captum_flow")
    x, acting = case.train.tensors
    point = x.clone().requires_grad_()
    outputs = case.model.network(point)
    residuals, masks = flow_residuals(outputs, point), flow_masks(x)
    columns = torch.stack([residuals[name] for name in TERMS], 1)
    close: dict[str, Any] = {
        "rtol": 1e-9,
        "atol": 1e-12,
    }  # squares of the outflow's residuals are tiny
    torch.testing.assert_close(case.model(x), columns, **close)
    assert torch.equal(acting.bool(), torch.stack([masks[name] for name in TERMS], 1))
    squares = acting * columns**2
    expected = {"pde": squares[:, :3].sum(1), "bcs": squares[:, 3:].sum(1), "all": squares.sum(1)}
    expected |= dict(zip("uvp", outputs.unbind(1), strict=True))
    expected["speed"] = outputs[:, :2].norm(dim=1)
    assert set(expected) == set(flow.QUANTITIES)
    for quantity, values in expected.items():
        loss = case.loss(quantity)
        torch.testing.assert_close(loss(case.model(x), acting), values, **close)
    assert len(case.train) == len(x)
    assert len(case.test) == 7


def test_total_loss_is_the_sum_over_a_batch(module, case):
    batch, loss = case.train[:9], case.loss("all")
    total, theta = module("_captum_costs").total_loss(case.model, loss, batch)
    torch.testing.assert_close(total(theta), loss(case.model(batch[0]), batch[1]).sum())
    assert total(0.9 * theta) != total(theta)


@pytest.mark.parametrize("n_most", [2, 100])
def test_cost_of_a_batch_is_split_into_fixed_and_each(module, n_most):
    calls = []

    def timer(n: int) -> float:
        calls.append(n)
        return 0.5 + 0.1 * n

    cost = module("_captum_costs").batch_cost(timer, n_most, budget=6.0)
    assert cost.fixed == pytest.approx(0.5)
    assert cost.each == pytest.approx(0.1)
    assert cost.seconds(30) == pytest.approx(3.5)
    assert max(calls) == min(n_most, 10)


def test_first_losses_are_those_of_the_whole_batch(module, case):
    costs = module("_captum_costs")
    first = costs.First(case.loss("all"))
    x, acting = case.train.tensors
    whole = case.loss("all")(case.model(x), acting)
    for first.n in (1, 5):
        torch.testing.assert_close(first(case.model(x), acting), whole[: first.n])


def test_batches_that_do_not_fit_into_memory_are_left_out(module):
    gigabytes = {"row": {1: 0.3, 100: 1.0}}
    costs = module("_captum_costs").StepCosts({"row": {1: 3.0, 100: 2.0, 1000: None}}, gigabytes)
    assert costs.fits("row", 1000, 13.0)
    assert not costs.fits("row", 1000, 12.0)  # needs 10, of which at most 80 %
    assert costs.fits("row", 1000, None)
    assert costs.fits("product", 1000, 1.0)
    assert costs.best_sizes() == {"row": 100}
    assert costs.best() == {"row": 2.0}


def test_no_batch_is_tried_where_memory_is_short(module, case, monkeypatch):
    costs = module("_captum_costs")
    figures = {"VmRSS": 1.0, "VmHWM": 5.0, "MemAvailable": 4.0}
    monkeypatch.setattr(costs, "memory", figures.__getitem__)
    monkeypatch.setattr(costs, "LEAST_JUDGED", 1)
    found = costs.unit_costs(case, 5, 0.001)
    n = len(case.train)
    for kind, seconds in found.seconds.items():
        assert seconds[1] > 0
        assert seconds[n] is None
        assert found.gigabytes[kind] == {1: 4.0, n: None}


def test_steps_are_counted(module):
    counts = module("_captum_costs").counts(10, 100, 1000)
    gradients = {"residual_gradient": 310, "output_gradient": 400}
    assert counts == {
        "naive": {"hessian_row": 1000, **gradients},
        "arnoldi": {"hessian_product": 200, **gradients},
    }


def test_batch_sizes(module):
    batch_sizes = module("_captum_costs").batch_sizes
    assert batch_sizes(10_000) == [1, 100, 1000, 10_000]
    assert batch_sizes(1000) == [1, 100, 1000]
    assert batch_sizes(30) == [1, 30]


def test_stage_seconds_are_read_from_what_the_script_prints(module):
    printed = "cost 9 s\neigenpairs 60.1 s, test points 5.0 s, file 0.2 s; peak memory 1.25 GB\nx"
    found = module("_influence_runs")._stage_seconds(printed)
    assert found == {"eigenpairs": 60.1, "test points": 5.0, "file": 0.2}


def test_ratio_at_full_size_needs_a_run_on_the_same_machine(module, monkeypatch):
    influence = module("influence")
    costs = {"hessian_row": 1.0, "hessian_product": 2.0, "residual_gradient": 0.5}
    seconds = {kind: {1: cost} for kind, cost in {**costs, "output_gradient": 0.1}.items()}
    unit = module("_captum_costs").StepCosts(seconds, {})
    monkeypatch.setattr(influence.costs, "unit_costs", lambda *_: unit)
    pinn, train_x = influence.untrained((2, 4, 3), 120)
    model = SimpleNamespace(pinn=pinn, train_x=train_x)
    monkeypatch.setattr(influence, "load_model", lambda _: model)
    known = {"full": {"paper float64": {"seconds": 4.0}}, "machine": {"full": influence.machine()}}
    found = influence.extrapolated(influence.Sizes(), False, known)["naive"]
    assert found["captum_over_pinnfluence"] == pytest.approx(found["extrapolated_seconds"] / 4)
    known["machine"]["full"] = influence.machine() | {"cores": -1}
    found = influence.extrapolated(influence.Sizes(), False, known)["naive"]
    assert found["captum_over_pinnfluence"] is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's figures")
def test_released_memory_does_not_count_again(module):
    here = module("_memory")
    here.release()
    before = here.memory("VmRSS")
    array = torch.ones(50_000_000)  # 0.2 GB
    assert here.memory("VmHWM") - before > 0.15
    del array
    here.release()
    assert here.memory("VmHWM") - before < 0.1
    assert here.memory("MemAvailable") > 0
