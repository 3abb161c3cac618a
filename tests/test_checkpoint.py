"""Reading of checkpoints and points from elsewhere: as data, whole, and nothing else."""

import collections
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import deepxde as dde
import numpy as np
import pytest
import torch
from helpers import RunsCode, short_run, weights_of

import pinnfluence
from pinnfluence import MLP, InputError
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.storage import checkpoint

LAYERS = (2, 5, 4, 3)


def network(layers: tuple[int, ...] = LAYERS) -> MLP:
    return MLP(layers, "gelu", PROBLEM.network.scale)


def save(path: Path, **changes: Any) -> Path:
    """A checkpoint of a random network with some weights replaced, or left out where None."""
    weights = {**network().state_dict()}
    for key, value in changes.items():
        name = key.replace("__", ".")
        weights.pop(name, None)
        if value is not None:
            weights[name] = value
    torch.save({"model_state_dict": weights, "optimizer_state_dict": {}}, path)
    return path


def train_points(tmp_path: Path) -> Path:
    path = tmp_path / "points.npy"
    np.save(path, np.load(short_run() / "train_x.npy"))
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["adam-5.pt"], "adam-5.pt"),
        (["adam-900.pt", "adam-1000.pt"], "adam-1000.pt"),
        (["adam-1000.pt", "lbfgs-1001.pt"], "lbfgs-1001.pt"),
        (["adam-1000.pt", "lbfgs-1000.pt"], "lbfgs-1000.pt"),
        (["lbfgs-900.pt", "lbfgs-1000.pt", "state.pt", "other-9999.pt"], "lbfgs-1000.pt"),
        (["adam-5.pt", ".lbfgs-9.pt.x1.tmp", "lbfgs-9.pt.tmp", "lbfgs-x.pt"], "adam-5.pt"),
    ],
)
def test_the_last_checkpoint_of_a_folder(tmp_path: Path, names: list[str], expected: str) -> None:
    touch(tmp_path, *names)
    assert checkpoint.find_checkpoint(tmp_path) == tmp_path / expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "train one first"),
        (["state.pt"], "train one first"),
        (["model-100.pt"], "but model-100.pt; give the file instead"),
        (["good/adam-1.pt", "bad/lbfgs-2.pt"], "runs in its folders bad, good; give one of them"),
    ],
)
def test_a_folder_without_checkpoint(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        checkpoint.find_checkpoint(tmp_path)


@pytest.mark.parametrize("optimizer", ["adam", "L-BFGS"])
def test_a_checkpoint_of_plain_deepxde_loads_without_config(tmp_path: Path, optimizer: str) -> None:
    dde.config.set_random_seed(1)
    net = dde.nn.FNN([2, 6, 6, 3], "tanh", "Glorot uniform")
    net.apply_feature_transform(lambda x: x / x.new_tensor(PROBLEM.network.scale))
    geometry = dde.geometry.Rectangle([0.5, 0.1], [2, 0.4])
    data = dde.data.PDE(geometry, lambda x, y: y, [], num_domain=30)
    model = dde.Model(data, net)
    model.compile(optimizer, **({"lr": 1e-3} if optimizer == "adam" else {}), verbose=0)
    model._train_step(data.train_x, data.train_y, data.train_aux_vars)
    path = Path(model.save(str(tmp_path / "model")))
    assert torch.load(path, weights_only=True)["optimizer_state_dict"]["state"]
    np.save(tmp_path / "train_x.npy", data.train_x_all)

    trained = pinnfluence.load_model(path, activation="tanh")
    with torch.no_grad():
        expected = net(torch.as_tensor(data.train_x_all)).numpy()
    predicted = trained.predict(data.train_x_all)
    for column, name in enumerate(("u", "v", "p")):
        np.testing.assert_allclose(predicted[name], expected[:, column], atol=1e-6)
    assert trained.config.stated() == {
        "problem": "cylinder_flow",
        "variant": "good",
        "conditions": "corrected",
        "activation": "tanh",
        "scale": list(PROBLEM.network.scale),
        "layers": [2, 6, 6, 3],
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_any_precision_load_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: w.to(dtype) for name, w in network().double().state_dict().items()}
    if dtype is torch.float64:
        weights["linears.0.bias"] += 1e-12
    torch.save({"model_state_dict": weights}, tmp_path / "model.pt")
    model = pinnfluence.load_model(tmp_path / "model.pt", train_points(tmp_path))
    for name, p in model.pinn.params.items():
        assert torch.equal(p, weights[name].double()), name


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    net = network()
    path = tmp_path / "adam-3.pt"
    checkpoint.save_checkpoint(
        path, net.state_dict(), torch.optim.Adam(net.parameters()).state_dict()
    )
    weights = checkpoint.load_weights(path, 2, 3)
    assert checkpoint.layers_of(weights) == LAYERS
    for name, p in net.named_parameters():
        assert torch.equal(weights[name], p)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linears__0__weight": torch.zeros(5)}, "linears.0.weight: expected a dense matrix"),
        ({"linears__0__weight": torch.zeros(5, 2).int()}, "torch.int32"),
        ({"linears__0__weight": torch.zeros(5, 2) + 1j}, "torch.complex64"),
        ({"linears__0__weight": torch.zeros(5, 2).to_sparse()}, "torch.sparse_coo"),
        ({"linears__0__weight": torch.zeros(5, 2, device="meta")}, "dense"),
        ({"linears__0__weight": torch.zeros(5, 2).to(torch.float8_e5m2)}, "torch.float8_e5m2"),
        ({"linears__0__weight": [[0.0]]}, "expected linears.0.weight, linears.0.bias"),
        ({"linears__1__bias": torch.zeros(7)}, "layer 1 .* does not fit"),
        ({"linears__1__weight": torch.zeros(4, 6)}, "layer 1 .* does not fit"),
        ({"linears__1__weight": torch.zeros(0, 5)}, r"shape \(0, 5\), an empty layer"),
        ({"linears__2__weight": None}, "expected linears.0.weight"),
        ({"linears__2__bias": None, "linears__2__weight": None}, "2 inputs to 4 outputs"),
        ({"linears__9__weight": torch.zeros(5, 2)}, "expected linears.0.weight"),
        ({"linears__0__weight": torch.zeros(5, 3)}, "3 inputs to 3 outputs, expected 2 to 3"),
        ({"linears__1__bias": torch.full((4,), torch.nan)}, "linears.1.bias has NaN or infinite"),
        ({"linears__1__bias": torch.full((4,), -torch.inf)}, "linears.1.bias has NaN or infinite"),
    ],
)
def test_unfit_weights_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "model.pt", **changes)
    with pytest.raises(InputError, match=message):
        checkpoint.load_weights(path, 2, 3)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {},
        {"state_dict": {}},
        {"model_state_dict": {}},
        {"model_state_dict": None},
        {"model_state_dict": torch.zeros(2)},
        {"model_state_dict": {"a": torch.zeros(1), "b": torch.zeros(1)}},
        {"model_state_dict": {1: torch.zeros(1), 2: torch.zeros(1)}},
        collections.OrderedDict(network().state_dict()),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model_state_dict|expected linears"):
        checkpoint.load_weights(tmp_path / "model.pt", 2, 3)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, form: str) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "ran"
    content = {"model_state_dict": network().state_dict(), "more": RunsCode(trace)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    words = "not a PyTorch checkpoint" if form == "pickle 4" else "holds code, not only weights"
    with pytest.raises(InputError, match=f"{words}.*; it was not loaded"):
        checkpoint.load_weights(path, 2, 3)
    assert not trace.exists()


def test_torchscript_is_refused_in_one_line(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(InputError, match="truncated or not a PyTorch checkpoint"):
        checkpoint.load_weights(tmp_path / "m.pt", 2, 3)


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model_state_dict": network().state_dict()}, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    checkpoint.load_weights(tmp_path / "model.pt", 2, 3)


@pytest.mark.parametrize("new_format", [True, False])
def test_no_damage_gives_anything_but_an_input_error(tmp_path: Path, new_format: bool) -> None:
    """Truncated anywhere, or with a few bytes changed: whole, or one line that says what is wrong.

    In the old format a changed weight cannot be told from another; everything else is refused."""
    torch.save(
        {"model_state_dict": network().state_dict()},
        tmp_path / "good.pt",
        _use_new_zipfile_serialization=new_format,
    )
    good, path = (tmp_path / "good.pt").read_bytes(), tmp_path / "model.pt"
    random_numbers = random.Random(0)
    damaged = [good[:n] for n in range(0, len(good), max(1, len(good) // 150))]
    for _ in range(250):
        changed = bytearray(good)
        for _ in range(random_numbers.choice((1, 8, 64))):
            changed[random_numbers.randrange(len(good))] = random_numbers.randrange(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            found = checkpoint.load_weights(path, 2, 3)
        except InputError:
            refused += 1
        else:
            if new_format:
                for name, weight in checkpoint.load_weights(tmp_path / "good.pt", 2, 3).items():
                    assert torch.equal(found[name], weight), name
    assert refused > 150


def test_weights_of_the_helper_are_those_that_are_loaded() -> None:
    model = pinnfluence.load_model(short_run())
    weights = weights_of(short_run() / "lbfgs-130.pt")
    assert all(torch.equal(p, weights[name].double()) for name, p in model.pinn.params.items())
    assert model.path.name == "lbfgs-130.pt"


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no setting activatoin, expected some of problem, "):
        pinnfluence.load_model(tmp_path, activatoin="tanh")
