"""Scores against retraining: the solver, the experiments, the figures, and that they can fail."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_refused, run, run_well, snapshot
from scipy.optimize import minimize
from scipy.stats import pearsonr, spearmanr

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.curvature.operators import GaussNewton
from pinnfluence.curvature.recipe import RECIPES, recipe_of
from pinnfluence.influence import Influence, engine
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.runtime.processes import in_processes
from pinnfluence.storage.stage_store import StageStore
from pinnfluence.training.levenberg_marquardt import LevenbergMarquardt
from pinnfluence.validation import experiments, retraining
from pinnfluence.validation import predictions as predictions_module
from pinnfluence.validation.agreement import agreement, datamodeling_score, rank_correlations
from pinnfluence.validation.experiments import (
    Experiment,
    Settings,
    random_groups,
    spread_points,
)
from pinnfluence.validation.objective import Objective, flat_parameters, with_parameters
from pinnfluence.validation.predictions import Predictions, randomised
from pinnfluence.validation.results import read
from pinnfluence.validation.retraining import Preconditioner, retrain

VALIDATE = Path(__file__).parents[1] / "validate.py"
PROXIMAL = 1e-3
LAYERS = (2, 6, 5, 1)
WEIGHTS = {"equation": 1.0, "edge": 3.0}


def at_edge(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0]) <= 1e-6


EQUATIONS = (
    Equation(lambda f: {"equation": f.u_t - f.u_xx - torch.sin(3 * f.x) * f.t}),
    Equation(lambda f: {"edge": f.u - f.t}, at_edge),
)

GROUPS = [np.array([i]) for i in (0, 3, 7, 11, 12, 17, 21, 25, 30, 34, 38, 39)]


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    x = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    x[:12, 0] = 0
    return x


@pytest.fixture(scope="module")
def pinn(points) -> Pinn:
    """A small PINN at a minimum of its loss with a proximal term."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP(LAYERS, "tanh", (1.0, 1.0)).double()
    begin = Pinn(network, ("x", "t"), ("u",), EQUATIONS, loss_weights=WEIGHTS)
    solver = LevenbergMarquardt(Loss.of_training(begin.at(points)))
    for _ in range(30):
        solver.step()
    experiment = Experiment(begin, points, points, Settings(1e-4, tolerance=1e-6))
    assert experiment.run([]).control["converged"]
    return experiment.minimum()


def objective_of(pinn: Pinn, points: np.ndarray, proximal: float = PROXIMAL) -> Objective:
    return Objective(Loss.of_training(pinn.at(points)), proximal, flat_parameters(pinn))


def experiment_of(pinn: Pinn, points: np.ndarray, proximal: float = PROXIMAL) -> Experiment:
    test_x = np.random.default_rng(1).random((30, 2))
    return Experiment(pinn, points, test_x, Settings(proximal, tolerance=1e-7))


def test_weights_are_those_of_training(pinn, points):
    assert Loss.of_training(pinn.at(points)).weights == {"equation": 1 / 40, "edge": 3 / 12}


def test_gradient_and_products_are_those_of_the_loss(pinn, points):
    objective = objective_of(pinn, points)
    theta = objective.start + 0.01 * torch.arange(len(objective.start)).double().sin()
    loss, gradient, at = objective.gradient(theta)
    assert loss == pytest.approx(objective.value(theta), rel=1e-12)
    v = torch.arange(len(theta)).double().cos()
    h = 1e-5
    ahead, behind = (objective.gradient(theta + sign * h * v) for sign in (1, -1))
    slope = (objective.value(theta + h * v) - objective.value(theta - h * v)) / (2 * h)
    assert float(gradient.detach() @ v) == pytest.approx(slope, rel=1e-6)
    product = objective.product(gradient, at, v)
    expected = (ahead[1] - behind[1]).detach() / (2 * h)
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-8)


def test_retraining_finds_what_scipy_finds(pinn, points):
    left = np.setdiff1d(np.arange(40), [3])
    whole = objective_of(pinn, points)
    objective = replace(whole, loss=whole.loss.subset(left))
    factor = Preconditioner(whole, whole.start).without(np.array([3]))
    found = retrain(objective, whole.start, factor, 1e-10)
    assert found.converged
    assert found.gradient_norm <= 1e-10

    def with_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, _ = objective.gradient(torch.as_tensor(theta))
        return 1e3 * loss, 1e3 * gradient.detach().numpy()

    options = {"maxiter": 5000, "gtol": 1e-12}
    other = minimize(with_gradient, whole.start.numpy(), jac=True, method="BFGS", options=options)
    moved = np.linalg.norm(found.theta.numpy() - whole.start.numpy())
    assert np.linalg.norm(found.theta.numpy() - other.x) < 1e-2 * moved


def test_factor_without_points_is_that_of_the_rest(pinn, points):
    whole = objective_of(pinn, points)
    gone = np.array([20, 2])
    left = np.setdiff1d(np.arange(40), gone)
    rest = replace(whole, loss=whole.loss.subset(left))
    v = torch.arange(len(whole.start)).double().sin()
    torch.testing.assert_close(
        Preconditioner(whole, whole.start).without(gone)(v),
        Preconditioner(rest, whole.start)(v),
        rtol=1e-6,
        atol=1e-8,
    )


def test_retraining_says_when_it_did_not_converge(pinn, points, monkeypatch):
    objective = objective_of(pinn, points)
    away = objective.start + 0.5
    monkeypatch.setattr(retraining, "MAX_ITERATIONS", 3)
    found = retrain(objective, away, Preconditioner(objective, away), 0.0)
    assert not found.converged
    assert found.gradient_norm > 0


@pytest.fixture(scope="module")
def outcome(pinn, points):
    return experiment_of(pinn, points).run(GROUPS)


def predicted_by(pinn, points, name="proximal response"):
    experiment = experiment_of(pinn, points)
    known = Predictions(experiment.pinn, points, experiment.test_x, GROUPS)
    _, method = known.dampings([2 * PROXIMAL], name)
    return method.predict()


def is_right(predicted: np.ndarray, actual: np.ndarray) -> bool:
    """Whether the pooled figures are, and the scale of each removed point."""
    found = agreement(predicted, actual)
    slopes = (predicted * actual).sum(1) / np.square(predicted).sum(1)
    return bool(
        found.pearson.value > 0.995
        and found.spearman.value > 0.99
        and 0.9 < found.slope.value < 1.1
        and abs(slopes - 1).max() < 0.05
    )


def test_matched_damping_predicts_the_proximal_response(pinn, points, outcome):
    assert outcome.converged.all()
    assert is_right(predicted_by(pinn, points)[..., 0], outcome.changes[..., 0])


@pytest.mark.parametrize("fault", ["sign", "weights", "term"])
def test_a_fault_is_seen(pinn, points, outcome, fault, monkeypatch):
    gradient = predictions_module.loss_gradient

    def broken(loss, batch_size):
        changed = dict(loss.weights)
        if fault == "weights":
            changed = dict.fromkeys(changed, 1 / 40)
        if fault == "term":
            changed["edge"] = 0.0
        sign = -1 if fault == "sign" else 1
        return sign * gradient(replace(loss, weights=changed), batch_size)

    monkeypatch.setattr(predictions_module, "loss_gradient", broken)
    assert not is_right(predicted_by(pinn, points)[..., 0], outcome.changes[..., 0])


def test_controls_that_must_fail(pinn, points, outcome):
    experiment = experiment_of(pinn, points)
    known = Predictions(experiment.pinn, points, experiment.test_x, GROUPS)
    found = {
        method.name: agreement(method.predict()[..., 0], outcome.changes[..., 0])
        for method in known.controls()
    }
    assert set(found) > {"random scores", "gradient dot product"}
    for name, figures in found.items():
        assert abs(figures.spearman.value) < (0.9 if name == "gradient dot product" else 0.5), name


def test_recipes_are_the_engines(pinn, points):
    test_x = np.random.default_rng(1).random((30, 2))
    groups = [np.array([4]), np.array([3, 17])]
    known = Predictions(pinn, points, test_x, groups)
    methods = {method.name: method for method in known.recipes()}
    assert set(methods) == {*RECIPES, "gauss-newton, curvature of the rest"}
    for name, recipe in RECIPES.items():
        method = methods[name]
        scores = np.asarray(engine.Influence(pinn, points, recipe).scores(test_x, "u"))
        expected = np.stack([scores[:, 4], scores[:, 3] + scores[:, 17]])
        np.testing.assert_allclose(method.predict()[..., 0], expected, rtol=1e-4, atol=1e-9)


def test_spectra_contain_the_recipes(pinn, points):
    known = Predictions(pinn, points, points[:5], [np.array([4])])
    expected, _ = known.dampings([1e-3], "any")
    found = {(m.curvature, m.weighting, m.rank, m.damping): m for m in known.spectral()}[
        ("gauss-newton", "training", "full", 1e-3)
    ]
    np.testing.assert_allclose(found.predict(), expected.predict(), rtol=1e-6, atol=1e-10)


def test_renormalised_weights_add_the_gradient_of_the_term(pinn, points):
    x = np.random.default_rng(1).random((30, 2))
    settings = Settings(PROXIMAL, tolerance=1e-7, renormalised=True)
    groups = [np.array([3]), np.array([30])]
    found = Experiment(pinn, points, x, settings).run(groups)
    held = Experiment(pinn, points, x, replace(settings, renormalised=False)).run(groups)
    assert found.converged.all()
    assert not np.allclose(found.changes, held.changes, rtol=0.05)


def test_interrupted_retraining_goes_on(pinn, points, tmp_path, outcome):
    groups = GROUPS
    experiment = experiment_of(pinn, points)
    store = StageStore(tmp_path, experiment.key(groups))

    class StopError(Exception):
        pass

    def stop(n: int) -> None:
        if store.load("retrained") is not None:
            raise StopError

    store.is_due = lambda: True  # type: ignore[method-assign]
    with pytest.raises(StopError):
        experiment.run(groups, store=store, advance=stop)
    told: list[int] = []
    found = experiment.run(groups, store=StageStore(tmp_path, store.key), advance=told.append)
    assert told[0] > 0
    assert sum(told) == len(GROUPS)
    np.testing.assert_array_equal(found.changes, outcome.changes)


@pytest.mark.parametrize("many", [2, 100])
@pytest.mark.parametrize("n_saves", [2, 3])
def test_an_interrupted_control_goes_on(pinn, points, tmp_path, monkeypatch, n_saves, many):
    """To the same bytes, whether the preconditioner was renewed on the way or not."""
    monkeypatch.setattr(retraining, "MANY_PRODUCTS", many)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        start = flat_parameters(pinn) + 0.02 * torch.randn(pinn.n_params).double()
    away = with_parameters(pinn, start)
    whole, stages = experiment_of(away, points).minimum(), []
    experiment = experiment_of(away, points)
    store = StageStore(tmp_path, experiment.key([]))
    store.is_due = lambda: True  # type: ignore[method-assign]
    save = store.save

    def stop(stage, *what):
        save(stage, *what)
        stages.append(stage)
        if len(stages) == n_saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.minimum(store)
    assert set(stages) == {"control_so_far"}
    again = StageStore(tmp_path, store.key)
    saved = again.load("control_so_far")
    assert saved is not None
    assert not np.array_equal(saved.arrays["theta"], start.numpy())
    started: list[torch.Tensor] = []

    def watch(objective, theta, *rest):
        started.append(theta)
        return retrain(objective, theta, *rest)

    monkeypatch.setattr(experiments, "retrain", watch)
    found = experiment_of(away, points).minimum(again)
    np.testing.assert_array_equal(started[0].numpy(), saved.arrays["theta"])
    assert flat_parameters(found).numpy().tobytes() == flat_parameters(whole).numpy().tobytes()
    assert again.load("control_so_far") is None
    assert again.load("control") is not None


def test_the_control_is_retrained_once(pinn, points, monkeypatch):
    """Also where nothing can be kept."""
    experiment, calls = experiment_of(pinn, points), []
    make = experiment._make_control

    def counted(store):
        calls.append(1)
        return make(store)

    monkeypatch.setattr(experiment, "_make_control", counted)
    experiment.control()
    experiment.run([GROUPS[0]])
    experiment.minimum()
    assert calls == [1]


def test_processes_give_the_same(pinn, points, outcome):
    found = experiment_of(pinn, points).run(GROUPS[:6], n_processes=2)
    np.testing.assert_allclose(found.changes, outcome.changes[:6], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_processes_are_forked_from_one_thread_alone(n_threads):
    """What several threads hold when a process is forked would stay locked in it for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        found = list(in_processes(lambda item: (item, os.getpid()), range(4), 2))
    finally:
        torch.set_num_threads(before)
    assert [item for item, _ in found] == list(range(4))
    assert ({pid for _, pid in found} == {os.getpid()}) == (n_threads > 1)


def test_key_tells_experiments_apart(pinn, points):
    groups = [np.array([1])]
    keys = {
        experiment_of(pinn, points).key(groups),
        experiment_of(pinn, points).key([np.array([2])]),
        experiment_of(pinn, points, 1e-4).key(groups),
        experiment_of(randomised(pinn), points).key(groups),
        experiment_of(pinn, points[:-1]).key(groups),
    }
    assert len(keys) == 5


def test_agreement_is_scipys():
    generator = np.random.default_rng(0)
    predicted = generator.standard_normal((20, 7))
    actual = 2 * predicted + generator.standard_normal((20, 7)) + 100
    found = agreement(predicted, actual)
    assert found.pearson.value == pytest.approx(pearsonr(predicted.ravel(), actual.ravel())[0])
    assert found.spearman.value == pytest.approx(spearmanr(predicted.ravel(), actual.ravel())[0])
    slope = (predicted * actual).sum() / (predicted**2).sum()
    assert found.slope.value == pytest.approx(slope)
    assert found.pearson.low < found.pearson.value < found.pearson.high
    each = [spearmanr(p, a)[0] for p, a in zip(predicted, actual, strict=True)]
    np.testing.assert_allclose(rank_correlations(predicted, actual), each)
    assert found.by_group.median.value == pytest.approx(np.median(each))


def test_medians_have_intervals_and_the_low_end_none():
    """Of correlations that are known: 17 groups at 1, 3 at -1."""
    actual = np.random.default_rng(0).standard_normal((20, 31))
    predicted = actual.copy()
    predicted[:3] *= -1
    by_group = agreement(predicted, actual).by_group
    assert (by_group.median.value, by_group.median.low, by_group.median.high) == (1, 1, 1)
    assert by_group.low == pytest.approx(-1)
    by_test = agreement(predicted, actual).by_test
    each = np.array([spearmanr(p, a)[0] for p, a in zip(predicted.T, actual.T, strict=True)])
    assert by_test.median.value == pytest.approx(np.median(each))
    assert by_test.median.low < by_test.median.value < by_test.median.high
    resampled = np.random.default_rng(7).choice(each, (4000, 31))
    expected = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    np.testing.assert_allclose((by_test.median.low, by_test.median.high), expected, atol=0.02)
    assert by_test.low == pytest.approx(np.percentile(each, 5))


def test_curvature_of_the_rest_is_the_recipe_with_leverage(pinn, points):
    """Two ways to the same: without the rows of a point, and with its deleted residuals."""
    x = np.random.default_rng(1).random((20, 2))
    known = Predictions(pinn, points, x, GROUPS)
    (of_the_rest,) = [m for m in known.dampings([1e-3], "given") if m.name != "given"]
    chosen = recipe_of("gauss-newton", damping=1e-3, leverage=True)
    influence = Influence(pinn, points, chosen)
    removed = np.concatenate(GROUPS)
    expected = influence.scores_by_quantity(x)["u"][:, removed].T
    assert abs(of_the_rest.predict()[..., 0] - expected).max() < 1e-5 * abs(expected).max()
    largest = influence.influence(x).metadata["leverage"]["largest"]
    every = [np.array([i]) for i in range(len(points))]
    leverages = Predictions(pinn, points, x, every).leverages(1e-3)
    assert leverages.max() == pytest.approx(largest, rel=1e-9)


def test_leverages_are_those_of_the_dense_matrix(pinn, points):
    known = Predictions(pinn, points, points[:5], [np.array([20]), np.array([3]), np.array([1, 2])])
    found = known.leverages(1e-3)
    assert ((found > 0) & (found < 1)).all()
    A = GaussNewton(Loss.of_training(pinn.at(points)), Executor(40)).rows()
    hat = A @ np.linalg.inv(A.T @ A + 1e-3 * np.eye(A.shape[1])) @ A.T
    single = np.flatnonzero(np.isclose(np.diag(hat), found[0], rtol=1e-9))
    assert len(single) == 1  # an inner point has one residual: its leverage is on the diagonal
    of_point, of_the_rest = known.dampings([1e-3], "any")
    ratio = of_point.predict()[0] / of_the_rest.predict()[0]
    np.testing.assert_allclose(ratio, 1 - found[0], rtol=1e-6)


def test_datamodeling_score_is_a_mean_over_test_points():
    generator = np.random.default_rng(0)
    actual = generator.standard_normal((30, 4))
    predicted = actual.copy()
    predicted[:, 0] *= -1
    found = datamodeling_score(predicted, actual)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_points_are_spread_over_the_terms(pinn, points):
    groups = spread_points(pinn.at(points), 10)
    chosen = np.concatenate(groups)
    assert len(set(chosen)) == 10
    assert (chosen < 12).sum() == 5
    assert len(spread_points(pinn.at(points), 100)) == 40
    assert [len(g) for g in random_groups(40, 20, 3)] == [20, 20, 20]


SMALL = ("--problem", "heat", "--layers", 2, 6, 6, 1, "--compile", "off", "--threads", 1)


@pytest.fixture(scope="module")
def heat_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("validate") / "heat"
    sizes = ("--num_domain", 40, "--num_boundary", 10, "--num_initial", 10)
    steps = ("--n_iterations", 100, "--n_iterations_lbfgs", 100, "--n_iterations_lm", 20)
    flags = (*SMALL, *sizes, *steps, "--dtype", "float64", "--save_path", folder)
    run_well(VALIDATE.with_name("train.py"), *flags)
    return folder


def test_script_from_checkpoint_to_tables(heat_run):
    flags = ("--checkpoint", heat_run, "--removed", 12, "--test_points", 20, "--processes", 1)
    weights = ("--proximal", 1e-1, 1e-3, "--polish", 1e-3, "--halves", 6, "--full")
    first = run_well(VALIDATE, *flags, *weights)
    for word in ("headline", "proximal response", "random scores", "paper", "datamodeling"):
        assert word in first.stdout
    folder = heat_run.with_name("heat_validation")
    facts = json.loads((folder / "headline.json").read_text())
    assert facts["polished"] == 1e-3
    ranks = {(row["curvature"], row["rank"]) for row in facts["rows"]}
    assert {("hessian", "full"), ("gauss-newton", 10)} <= ranks
    assert set(facts["linear_datamodeling_score"]) > {"paper", "gauss-newton"}
    with np.load(folder / "headline.npz", allow_pickle=False) as file:
        assert file["changes"].shape == file["predicted_gauss-newton"].shape == (12, 20, 1)
    found = read(folder / "headline.npz")
    np.testing.assert_array_equal(found.train_x, np.load(heat_run / "train_x.npy"))
    at_the_end = np.isclose(found.train_x[:, 0] % 1, 0, atol=1e-6)
    np.testing.assert_array_equal(found.acting[:, found.terms.index("boundary")], at_the_end)
    assert found.acting[:, found.terms.index("heat")].all()
    assert ((found.leverages > 0) & (found.leverages < 1)).all()


KILLED_WHILE_POLISHING = """
import os, signal
from pinnfluence.storage import stage_store
stage_store.SAVE_SECONDS, stage_store.PART_OF_THE_TIME = 0, 1e9
save, stages = stage_store.StageStore.save, []

def save_and_die(self, stage, *what):
    save(self, stage, *what)
    stages.append(stage)
    if stages.count("control_so_far") == 3:
        os.kill(os.getpid(), signal.SIGKILL)

stage_store.StageStore.save = save_and_die
"""


def test_a_script_that_was_killed_while_it_polished_ends_with_the_same_bytes(heat_run, tmp_path):
    """With as many processes as there are removals, however many are asked for."""
    sizes = ("--checkpoint", heat_run, "--removed", 3, "--test_points", 10)
    flags = (*sizes, "--proximal", 1e-2, "--polish", 1e-4)
    untouched, killed = ("--save_path", tmp_path / "a"), ("--save_path", tmp_path / "b")
    run_well(VALIDATE, *flags, *untouched, "--processes", 1)
    assert run(VALIDATE, *flags, *killed, prelude=KILLED_WHILE_POLISHING).code == -signal.SIGKILL
    assert list((tmp_path / "b").rglob("control_so_far*"))
    run_well(VALIDATE, *flags, *killed, "--processes", 10**6)
    expected = snapshot(tmp_path / "a")
    assert len(expected) > 4
    assert snapshot(tmp_path / "b") == expected


@pytest.mark.parametrize("script", ["train", "calc_influences", "explore", "validate"])
def test_scripts_say_what_they_take(script):
    found = run_well(VALIDATE.with_name(f"{script}.py"), "--help")
    assert found.stdout.startswith("usage: ")
    assert not found.stderr


def test_script_refuses_what_cannot_be(heat_run, tmp_path):
    flags = ("--checkpoint", heat_run, "--save_path", tmp_path / "out", "--removed", 2)
    assert_refused(run(VALIDATE, "--checkpoint", tmp_path / "none"), "none")
    assert_refused(run(VALIDATE, *flags, "--proximal", -1), "--proximal", "-1")
    assert_refused(run(VALIDATE, *flags, "--removed", 0), "--removed", "0")
    assert_refused(run(VALIDATE, *flags, "--tolerance", 0), "--tolerance", "0")
    assert_refused(run(VALIDATE, *flags, "--halves", 1), "--halves", "1")
    assert_refused(run(VALIDATE, *flags, "--polish", "nan"), "--polish", "found nan")
    assert_refused(run(VALIDATE, *flags, "--seed", -1), "--seed", "-1")
    assert_refused(run(VALIDATE, *flags, "--seed", 2**64), "--seed below 2^64", str(2**64))
    assert_refused(run(VALIDATE, *flags, "--group_size", 60), "below the 60 training points")
    assert not (tmp_path / "out").exists()
