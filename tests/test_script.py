"""Models of a user's own scripts: scores, explorer and diagnosis, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from explorer_files import read_array, read_page
from helpers import CALC, ROOT, assert_refused, run, run_well

import pinnfluence
from pinnfluence.diagnosis.files import load_correction
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.models.script import load_script
from pinnfluence.runtime import distributed

EXPLORE, DIAGNOSE, VALIDATE = (ROOT / f"{name}.py" for name in ("explore", "diagnose", "validate"))

PLAIN = """
import torch
from torch import nn
import pinnfluence

torch.manual_seed({seed})
network = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))

def gradient(y, x):
    return torch.autograd.grad(y.sum(), x, create_graph=True)[0]

def heat(network, x):
    u_x, u_t = gradient(network(x), x).split(1, dim=1)
    return u_t - 0.1 * gradient(u_x, x)[:, :1]

def start(network, x):
    return network(x) - torch.sin(torch.pi * x[:, :1])

def points(n):
    begin = torch.stack([torch.rand(n // 4), torch.zeros(n // 4)], 1)
    return {{"pde": (torch.rand(n, 2), heat), "start": (begin, start)}}

terms = points(24)

def make_model():
    return pinnfluence.torch_model(network, terms)

def make_fresh():
    return pinnfluence.torch_model(network, points(60))

def number():
    return 7

def raises():
    return 1 / 0
"""

DEEPXDE = """
import numpy as np
import deepxde as dde

def pde(x, y):
    return dde.grad.jacobian(y, x, j=1) - 0.1 * dde.grad.hessian(y, x, i=0, j=0)

def make_model():
    dde.config.set_random_seed(0)
    domain = dde.geometry.GeometryXTime(
        dde.geometry.Interval(0, 1), dde.geometry.TimeDomain(0, 1)
    )
    start = dde.icbc.IC(domain, lambda x: np.sin(np.pi * x[:, :1]), lambda x, on: on)
    data = dde.data.TimePDE(domain, pde, [start], num_domain=30, num_initial=10)
    model = dde.Model(data, dde.nn.FNN([2, 6, 1], "tanh", "Glorot uniform"))
    model.compile("adam", lr=1e-3)
    model.train(iterations=2, display_every=10, verbose=0)
    return model
"""


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A function of a plain PyTorch script."""
    (tmp_path / "plain.py").write_text(PLAIN.format(seed=0))
    return f"{tmp_path / 'plain.py'}:make_model"


@pytest.fixture
def of_deepxde(tmp_path: Path) -> str:
    """A function of a DeepXDE script."""
    (tmp_path / "deep.py").write_text(DEEPXDE)
    return f"{tmp_path / 'deep.py'}:make_model"


def scores_of(source: str, *flags: object) -> pinnfluence.Scores:
    run_well(CALC, "--model", source, "--rank", 5, *flags)
    path, name = source.split(":")
    scores = pinnfluence.load_scores(path.replace(".py", f"_{name}_influences"))
    assert isinstance(scores, pinnfluence.Scores)
    return scores


@pytest.mark.parametrize("kind", ["plain", "of_deepxde"])
def test_a_script_has_scores_a_page_and_a_diagnosis(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = request.getfixturevalue(kind)
    scores = scores_of(source)
    model = load_script(source)
    expected = pinnfluence.Influence(model.pinn, rank=5).influence(model.train_x)
    np.testing.assert_allclose(scores["u"][:], expected["u"][:], rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(scores.test_x, model.train_x)
    script = {"name": model.path.name, "function": "make_model", "sha256": model.sha256}
    assert scores.metadata["script"] == script | {"identity": model.identity}

    folder = f"{source.replace('.py:', '_')}_influences"
    result = run_well(EXPLORE, folder, "-o", tmp_path / "page.html")
    assert "predicted fields as the score file has them" in result.stdout
    description, blobs = read_page(tmp_path / "page.html")
    shown = read_array(blobs["model0"], description["models"][0]["predicted"]["u"])
    np.testing.assert_allclose(shown, model.predict(model.train_x)["u"], atol=1e-6)

    fresh = ("--fresh_model", source.replace("make_model", "make_fresh"))
    flags = fresh if kind == "plain" else ("--fresh", 60)
    run_well(DIAGNOSE, "--model", source, *flags)
    diagnosis = model.folder("diagnosis")
    report = json.loads((diagnosis / "report.json").read_text())
    assert report["errors"]["u"]["relative"] > 0
    assert report["n_train"] == len(model.train_x)

    result = run_well(EXPLORE, "--model", source, "-o", tmp_path / "page.html")
    assert f"make_model: rank 5, {source}" in result.stdout
    description, blobs = read_page(tmp_path / "page.html")
    fields = description["models"][0]
    predicted = read_array(blobs["model0"], fields["predicted"]["u"])
    estimated = read_array(blobs["model0"], fields["estimated"]["u"])
    step = load_correction(diagnosis, model.identity)
    assert step is not None
    np.testing.assert_allclose(predicted, model.predict(model.train_x)["u"], atol=1e-6)
    _, rows = jacobian(model.pinn.at(model.train_x, [model.pinn.observables]))["u"]
    if kind == "plain":  # a network that is called by its equations is corrected linearly
        np.testing.assert_allclose(estimated, rows.numpy() @ step, atol=1e-5 * abs(estimated).max())
    assert abs(estimated).max() > 0


def test_a_model_of_a_script_is_retrained(plain: str, tmp_path: Path) -> None:
    """By its trained parameters alone: constants stay."""
    script = tmp_path / "plain.py"
    frozen = "network[0].bias.requires_grad_(False)\nterms = "
    script.write_text(script.read_text().replace("terms = ", frozen))
    sizes = ("--removed", 4, "--test_points", 15, "--processes", 1)
    found = run_well(VALIDATE, "--model", plain, *sizes, "--polish", 1e-2, "--proximal", 1e-2)
    assert "test points: the training points" in found.stdout
    folder = load_script(plain).folder("validation")
    facts = json.loads((folder / "headline.json").read_text())
    assert (facts["n_params"], facts["script"]["function"]) == (19, "make_model")
    with np.load(folder / "headline.npz", allow_pickle=False) as file:
        changes, predicted = file["changes"], file["predicted_proximal response"]
    assert np.corrcoef(changes.ravel(), predicted.ravel())[0, 1] > 0.98


def test_a_model_that_predicts_nothing_cannot_be_validated(plain: str, tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    text = script.read_text().replace("network(x)", "network[0](x)")
    script.write_text(text.replace("torch_model(network,", "torch_model([network],"))
    assert_refused(run(VALIDATE, "--model", plain), "quantities={...}")


def test_a_page_is_not_made_with_another_model(plain: str, tmp_path: Path) -> None:
    scores_of(plain)
    (tmp_path / "plain.py").write_text(PLAIN.format(seed=1))
    result = run(EXPLORE, "--model", plain, "-o", tmp_path / "page.html")
    assert_refused(result, "is not the model of the scores in")
    flags = ("--model", plain, plain, "-o", tmp_path / "page.html")
    assert_refused(run(EXPLORE, tmp_path / "plain_make_model_influences", *flags), "found 2")
    assert not (tmp_path / "page.html").exists()


def test_scores_are_found_again_but_not_those_of_other_weights(plain: str, tmp_path: Path) -> None:
    first = scores_of(plain)
    assert "holds these scores already" in run_well(CALC, "--model", plain, "--rank", 5).stdout
    script = tmp_path / "plain.py"
    script.write_text(PLAIN.format(seed=1))
    second = scores_of(plain)
    assert first.metadata["key"] != second.metadata["key"]
    expected = pinnfluence.Influence(load_script(plain).pinn, rank=5).influence(second.test_x)
    np.testing.assert_allclose(second["u"][:], expected["u"][:], rtol=1e-4, atol=1e-7)


def test_weights_from_a_file_count_though_the_script_is_the_same(tmp_path: Path) -> None:
    text = PLAIN.format(seed=0).replace(
        "terms = ", f"network.load_state_dict(torch.load({str(tmp_path / 'w.pt')!r}))\nterms = "
    )
    (tmp_path / "plain.py").write_text(text)
    keys = []
    for number in range(2):
        first, last = torch.nn.Linear(2, 6), torch.nn.Linear(6, 1)
        torch.nn.init.constant_(first.weight, 0.5 + number)
        network = torch.nn.Sequential(first, torch.nn.Tanh(), last)
        torch.save(network.state_dict(), tmp_path / "w.pt")
        keys.append(scores_of(f"{tmp_path / 'plain.py'}:make_model").metadata["key"])
    assert keys[0] != keys[1]


def test_test_points_of_a_file(plain: str, tmp_path: Path) -> None:
    np.save(tmp_path / "test_x.npy", np.random.default_rng(0).random((7, 2)))
    scores = scores_of(plain, "--test_x_path", tmp_path / "test_x.npy")
    assert scores["u"].shape == (7, 30)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.py:make_model", "no script at"),
        ("plain.py:nothing", "expected a function nothing"),
        ("plain.py:terms", "expected a function terms"),
        ("plain.py:number", "found int"),
        ("plain.py", "expected script.py:function"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(plain: str, source: str, words: str) -> None:
    folder = Path(plain).parent
    assert_refused(run(CALC, "--model", folder / source), words)
    assert not list(folder.glob("*_influences"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--checkpoint --model is required"),
        (("--checkpoint", "model_zoo/heat"), "not allowed with"),
        (("--problem", "heat"), "--problem is for --checkpoint"),
        (("--train_x_path", "x.npy"), "--train_x_path is for --checkpoint"),
    ],
)
def test_flags_that_contradict_are_refused(plain: str, flags: tuple, words: str) -> None:
    assert_refused(run(CALC, *flags, *(("--model", plain) if flags else ())), words)


@pytest.mark.parametrize("text", ["def make_model():\n    return 1 / 0\n", "import nowhere\n"])
def test_what_a_users_code_raises_is_shown(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    result = run(CALC, "--model", f"{tmp_path / 'mine.py'}:make_model")
    assert result.code == 2
    assert "Traceback" in result.stderr
    assert 'script.py", line' not in result.stderr  # no frames but the user's
    assert result.last_line.startswith(f"error: {tmp_path / 'mine.py'}:make_model raised ")


def test_what_is_refused_in_a_users_code_is_one_line_with_its_number(tmp_path: Path) -> None:
    text = PLAIN.format(seed=0).replace("return network(x) -", "return network(x)[:, [0, 0]] -")
    (tmp_path / "mine.py").write_text(text)
    line = 1 + text.splitlines().index("    return pinnfluence.torch_model(network, terms)")
    words = f"mine.py:make_model (line {line}): start: the residual has shape (6, 2) at 6 points"
    assert_refused(run(CALC, "--model", f"{tmp_path / 'mine.py'}:make_model"), words)


def test_weights_that_differ_between_processes_are_refused(
    plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "from_first", lambda _: "those of the first")
    with pytest.raises(pinnfluence.InputError, match="in another process"):
        load_script(plain)


def test_a_model_is_computed_in_the_dtype_that_is_asked_for(plain: str, of_deepxde: str) -> None:
    for source in (plain, of_deepxde):
        found = [load_script(source, dtype) for dtype in (torch.float32, torch.float64)]
        assert [model.pinn.like.dtype for model in found] == [torch.float32, torch.float64]
        single, double = (model.mean_losses() for model in found)
        assert single == pytest.approx(double, rel=1e-4)


def test_a_script_runs_as_python_runs_it_and_leaves_what_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import argparse, os\nargparse.ArgumentParser().parse_args()\n" + PLAIN.format(seed=0)
    text += "\ntorch.set_grad_enabled(False)\nos.chdir(os.path.dirname(__file__))\n"
    (tmp_path / "with blanks ü.py").write_text(text)
    arguments, folder = ["pinnfluence", "scores", "--model"], Path.cwd()
    monkeypatch.setattr("sys.argv", arguments)
    model = load_script(f"{tmp_path / 'with blanks ü.py'}:make_model")
    assert model.pinn.terms == ("pde", "start")
    assert sys.argv is arguments
    assert Path.cwd() == folder
    assert torch.is_grad_enabled()
