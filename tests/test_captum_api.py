"""The drop-in for captum's ``NaiveInfluenceFunction`` against the original."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import derivative
from captum.influence import NaiveInfluenceFunction as Captum
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.captum_api import NaiveInfluenceFunction, batches, curvature
from pinnfluence.curvature import lanczos
from pinnfluence.errors import InputError

pytestmark = pytest.mark.filterwarnings(  # captum's own, where it takes gradients by hooks
    "ignore:Input Tensor 0 did not already require gradients:UserWarning"
)

N_TRAIN, N_TEST, N_CLASSES = 23, 7, 3


class Residual(nn.Module):
    """A classifier with skip connections, a normalisation, and a factor that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 6), nn.LayerNorm(6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.last = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + self.scale * torch.relu(block(self.norm(x)))
        return self.last(x)


class HeatResidual(nn.Module):
    """Residual ``u_t - u_xx`` and value of a network, by nested ``autograd.grad``."""

    def __init__(self, network: nn.Module, with_value: bool) -> None:
        super().__init__()
        self.network, self.with_value = network, with_value

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u = self.network(x)[:, 0]
            residual = derivative(u, x, [1]) - derivative(u, x, [0, 0])
        return torch.stack([residual, u], 1) if self.with_value else residual[:, None]


class ColumnLoss:
    """A column of the outputs, or its square, as a loss without reduction."""

    reduction = "none"

    def __init__(self, column: int, power: int) -> None:
        self.column, self.power = column, power

    def __call__(self, outputs: Tensor, _: Tensor) -> Tensor:
        return outputs[:, self.column] ** self.power


class BatchNormed(nn.Sequential):
    """A classifier whose samples depend on each other while it trains."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, N_CLASSES))


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def classes(n_samples: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_samples, 2, generator=generator, dtype=torch.float64)
    return TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long() + (x[:, 0] > 0.8))


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(1)
    return mlp(2, 6, N_CLASSES).double()


SETTINGS: dict[str, Any] = {
    "checkpoint": "",
    "checkpoints_load_func": lambda *_: 1.0,
    "batch_size": 10,
    "projection_dim": 12,
}
TRAIN, TEST = classes(N_TRAIN), classes(N_TEST, 1)


def both(model: nn.Module, train=TRAIN, **changes):
    """Captum's influence functions and ours of the same model."""
    settings = {**SETTINGS, "loss_fn": nn.CrossEntropyLoss(reduction="none"), **changes}
    return Captum(model, train, **settings), NaiveInfluenceFunction(model, train, **settings)


def assert_close(found: Tensor, expected: Tensor, limit: float = 1e-7) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert not found.requires_grad
    difference = float((found - expected).abs().max() / expected.abs().max())
    assert difference <= limit, difference


def assert_same(captum, ours, test=TEST.tensors) -> None:
    """All results of both are the same."""
    assert_close(ours.influence(test), captum.influence(test))
    assert_close(ours.self_influence(), captum.self_influence())
    assert_close(ours.self_influence(test), captum.self_influence(test))
    assert_close(ours.R, captum.R, 1e-6)
    for side in (False, True):
        found, expected = (
            f.compute_intermediate_quantities(test, test=side) for f in (ours, captum)
        )
        assert_close(found, expected, 1e-6)


CROSS_ENTROPIES = [
    ("none", {}),
    ("sum", {}),
    ("mean", {}),
    ("none", {"label_smoothing": 0.1}),
    ("sum", {"weight": torch.tensor([1.0, 2.0, 5.0]).double()}),
    ("mean", {"weight": torch.tensor([1.0, 2.0, 5.0]).double()}),
    ("mean", {"ignore_index": 1}),
]


@pytest.mark.parametrize(("reduction", "more"), CROSS_ENTROPIES)
def test_classifier(classifier, reduction, more):
    loss = nn.CrossEntropyLoss(reduction=reduction, **more)
    captum, ours = both(classifier, loss_fn=loss, sample_wise_grads_per_batch=reduction != "none")
    assert_same(captum, ours)
    assert ours.how == {"train": "vmap", "test": "vmap"}


def test_residual_network():
    torch.manual_seed(2)
    captum, ours = both(Residual().double())
    assert_same(captum, ours)
    assert ours.how == {"train": "vmap", "test": "vmap"}


class Recurrent(nn.Module):
    """A classifier of sequences, whose LSTM torch.func.vmap does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x[:, :, None])[0][:, -1])


class Images(nn.Sequential):
    """A convolution of the outer products of the inputs, with a weight that two layers share."""

    def __init__(self) -> None:
        layers = (nn.Conv2d(1, 2, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        super().__init__(*layers, nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Linear(2, 3))
        self[6].weight = self[4].weight

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x[:, :, None] * x[:, None])[:, None])


@pytest.mark.parametrize(
    ("model", "how"), [(Recurrent, "batched backward"), (Images, "vmap")], ids=["lstm", "conv"]
)
@pytest.mark.filterwarnings("ignore:gradients of Recurrent by batched backward")
def test_other_layers(model, how):
    torch.manual_seed(6)
    captum, ours = both(model().double())
    assert_same(captum, ours)
    assert ours.how == {"train": how, "test": how}


@pytest.fixture
def heat_network() -> nn.Module:
    torch.manual_seed(3)
    return mlp(2, 5, 5, 1).double()


@pytest.fixture
def heat_pair(heat_network):
    """Captum on residual and value as outputs; ours with a model for each."""
    settings = {**SETTINGS, "loss_fn": ColumnLoss(0, 2)}
    captum = Captum(
        HeatResidual(heat_network, True), TRAIN, test_loss_fn=ColumnLoss(1, 1), **settings
    )
    ours = NaiveInfluenceFunction(
        HeatResidual(heat_network, False), TRAIN, model_test=heat_network, **settings
    )
    return captum, ours


def test_residuals_by_nested_autograd_and_a_test_model(heat_pair):
    captum, ours = heat_pair
    with pytest.warns(UserWarning, match="HeatResidual by batched backward"):
        found = ours.influence(TEST.tensors)
    assert ours.how == {"train": "batched backward", "test": "vmap"}
    assert_close(found, captum.influence(TEST.tensors))
    assert_close(ours.self_influence(), captum.self_influence())  # told once: silent from now on
    quantities = [f.compute_intermediate_quantities(TEST.tensors, test=True) for f in heat_pair]
    assert_close(quantities[1], quantities[0], 1e-6)


@pytest.mark.filterwarnings("ignore:gradients of HeatResidual by batched")
def test_test_model_may_be_set_anew(heat_pair, heat_network):
    captum, ours = heat_pair
    ours.model_test, captum.test_loss_fn = ours.model, ColumnLoss(0, 1)
    assert_close(ours.influence(TEST.tensors), captum.influence(TEST.tensors))
    ours.test_loss_fn = captum.test_loss_fn = ColumnLoss(0, 2)
    assert_close(ours.influence(TEST.tensors), captum.influence(TEST.tensors))
    other = copy.deepcopy(ours.model)  # parameters of the same names: the values are the model's
    torch.nn.init.zeros_(other.network[0].weight)
    ours.model_test = other
    assert_close(ours.influence(TEST.tensors), captum.influence(TEST.tensors))


class FunctionalHeatResidual(HeatResidual):
    """The same by torch.func."""

    def forward(self, x: Tensor) -> Tensor:
        def u(x: Tensor) -> Tensor:
            return self.network(x)[0]

        u_t = torch.func.vmap(torch.func.jacrev(u))(x)[:, 1]
        u_xx = torch.func.vmap(torch.func.hessian(u))(x)[:, 0, 0]
        return (u_t - u_xx)[:, None]


def test_residuals_by_torch_func(heat_pair, heat_network):
    settings = {**SETTINGS, "loss_fn": ColumnLoss(0, 2), "model_test": heat_network}
    ours = NaiveInfluenceFunction(FunctionalHeatResidual(heat_network, False), TRAIN, **settings)
    found = ours.influence(TEST.tensors)
    assert ours.how == {"train": "vmap", "test": "vmap"}
    assert_close(found, heat_pair[0].influence(TEST.tensors))


def test_test_model_with_strange_parameters_is_refused(classifier, heat_network):
    with pytest.raises(InputError, match=r"0\.weight \[5, 2\], which is neither"):
        NaiveInfluenceFunction(classifier, TRAIN, **SETTINGS, model_test=heat_network)


@pytest.mark.parametrize("proponents", [True, False])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_most_influential(classifier, k, proponents, monkeypatch):
    monkeypatch.setattr(batches, "JOINED_SAMPLES", 0)  # several blocks of scores
    captum, ours = both(classifier)
    expected = captum.influence(TEST.tensors, k=k, proponents=proponents)
    found = ours.influence(TEST.tensors, k=k, proponents=proponents)
    assert found._fields == expected._fields
    assert torch.equal(found.indices, expected.indices)
    assert_close(found.influence_scores, expected.influence_scores)


def test_most_influential_are_the_top_of_the_scores_of_the_test_loss(classifier):
    _, ours = both(classifier, test_loss_fn=ColumnLoss(1, 1))
    scores = ours.influence(TEST.tensors)
    found = ours.influence(DataLoader(TEST, 3), k=N_TRAIN, proponents=False)
    assert torch.equal(found.indices, scores.argsort(1))
    assert_close(found.influence_scores, scores.sort(1).values, 1e-12)


def test_sum_of_embeddings(classifier):
    captum, ours = both(classifier)
    for data in (TEST.tensors, DataLoader(TRAIN, 4)):
        found, expected = (
            f.compute_intermediate_quantities(data, aggregate=True) for f in (ours, captum)
        )
        assert_close(found, expected, 1e-6)


def test_products_of_embeddings_are_the_scores(classifier):
    _, ours = both(classifier)
    train = ours.compute_intermediate_quantities(DataLoader(TRAIN, 5))
    test = ours.compute_intermediate_quantities(TEST.tensors, test=True)
    assert_close(test @ train.T, ours.influence(TEST.tensors), 1e-12)
    assert_close(train.square().sum(1), ours.self_influence(), 1e-12)


@pytest.mark.parametrize("layers", [["0"], ["2", "0"], ["2", "2"]])
def test_some_layers(classifier, layers):
    captum, ours = both(classifier, layers=layers)
    assert_close(ours.influence(TEST.tensors), captum.influence(TEST.tensors))
    if layers == ["2", "0"]:
        assert_close(ours.R, captum.R, 1e-6)


def test_frozen_parameters_are_constants(classifier):
    expected = both(classifier, layers=["2"])[0].influence(TEST.tensors)
    classifier[0].requires_grad_(False)
    ours = NaiveInfluenceFunction(
        classifier, TRAIN, **SETTINGS, loss_fn=nn.CrossEntropyLoss(reduction="none")
    )
    assert_close(ours.influence(TEST.tensors), expected)
    assert not classifier[0].weight.requires_grad


def test_other_data_for_the_hessian(classifier):
    captum, ours = both(classifier, hessian_dataset=DataLoader(classes(9, 5), 4))
    assert_same(captum, ours)


@pytest.mark.parametrize("way", ["vmap", "batched backward"])
@pytest.mark.filterwarnings("ignore:gradients of HeatResidual by batched")
def test_batch_size_and_order_do_not_matter(classifier, heat_network, way, monkeypatch):
    monkeypatch.setattr(batches, "JOINED_SAMPLES", 8)
    model = classifier if way == "vmap" else HeatResidual(heat_network, True)
    settings = {**SETTINGS, "loss_fn": ColumnLoss(0, 2)}
    expected = NaiveInfluenceFunction(model, TRAIN, **settings).influence(TEST.tensors)
    for batch_size in (1, 7, N_TRAIN):
        settings["batch_size"] = batch_size
        ours = NaiveInfluenceFunction(model, TRAIN, **settings)
        assert_close(ours.influence(DataLoader(TEST, batch_size)), expected)
        assert ours.how["train"] == way
    order = torch.randperm(N_TRAIN, generator=torch.Generator().manual_seed(0))
    permuted = TensorDataset(*(part[order] for part in TRAIN.tensors))
    found = NaiveInfluenceFunction(model, permuted, **settings).influence(TEST.tensors)
    assert_close(found, expected[:, order])


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_samples_that_depend_on_each_other(reduction):
    """Then batches are what the loader makes of them, as in captum."""
    torch.manual_seed(4)
    model = BatchNormed().double()
    loss = nn.CrossEntropyLoss(reduction=reduction)
    captum, ours = both(model)
    if reduction == "mean":  # which captum cannot with this layer
        ours = both(model, loss_fn=loss, sample_wise_grads_per_batch=True)[1]
        assert_close(ours.R, captum.R, 1e-6)
        return
    with pytest.warns(UserWarning, match=r"BatchNormed by loop.*"):
        found = ours.influence(TEST.tensors)
    assert_close(found, captum.influence(TEST.tensors))
    assert ours.how == {"train": "loop", "test": "loop"}


def test_lanczos(classifier, monkeypatch):
    captum, dense = both(classifier, projection_dim=8)
    monkeypatch.setattr(lanczos, "DENSE_LIMIT", 0)
    monkeypatch.setattr(curvature, "GRAPH_BUDGET_BYTES", 0)
    _, iterated = both(classifier, projection_dim=8)
    assert not torch.equal(iterated.R, dense.R)
    assert_same(captum, iterated)


def test_eigenvalues_that_are_rounding_errors_are_warned_of(classifier):
    """Only differences of the classes' outputs matter, so that some eigenvalues are zero."""
    train = TensorDataset(TRAIN.tensors[0].float(), TRAIN.tensors[1])
    settings = {**SETTINGS, "projection_dim": None, "hessian_reg": 0.0, "hessian_inverse_tol": 0.0}
    settings["loss_fn"] = nn.CrossEntropyLoss(reduction="none")
    with pytest.warns(UserWarning, match="eigenvalues of the Hessian are below the rounding"):
        NaiveInfluenceFunction(classifier.float(), train, **settings)


def test_all_eigenpairs(classifier):
    captum, ours = both(classifier, projection_dim=None, hessian_inverse_tol=1e-3)
    assert_close(ours.influence(TEST.tensors), captum.influence(TEST.tensors), 1e-6)


def test_losses_without_a_reduction_and_none(classifier):
    """Outputs themselves, which captum needs a function for; a function without attributes."""
    with pytest.warns(UserWarning, match="has no"):
        captum, _ = both(classifier, loss_fn=lambda outputs, _: outputs.square())
    expected = captum.influence(TEST.tensors)
    classifier.register_forward_hook(lambda module, inputs, outputs: outputs.square())
    ours = NaiveInfluenceFunction(classifier, TRAIN, **SETTINGS, loss_fn=None)
    assert_close(ours.influence(TEST.tensors), expected)


def test_several_features_and_a_setting(classifier):
    """Features that are no tensor are the same for all samples."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = classifier

        def forward(self, x: Tensor, shift: Tensor, factor: float) -> Tensor:
            return self.network(x + factor * shift)

    shifts = 0.1 * torch.arange(N_TRAIN)[:, None].double()
    x, labels = TRAIN.tensors
    batches = [(x[i : i + 9], shifts[i : i + 9], 2.0, labels[i : i + 9]) for i in (0, 9, 18)]
    loader: DataLoader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    captum, ours = both(Shifted(), loader)
    assert_same(captum, ours, batches[1])
    assert ours.how == {"train": "vmap", "test": "vmap"}


def test_float32(classifier):
    single = [TensorDataset(data.tensors[0].float(), data.tensors[1]) for data in (TRAIN, TEST)]
    expected = both(classifier)[0].influence(TEST.tensors).float()
    _, ours = both(classifier.float(), single[0])
    assert_close(ours.influence(single[1].tensors), expected, 1e-2)


def test_positive_means_that_removal_raises():
    """For linear least squares the removal of a sample has a closed form."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    H = 2 * X.T @ X
    theta = np.linalg.solve(H, 2 * X.T @ y)
    model = nn.Linear(3, 1, bias=False).double()
    model.weight.data = torch.as_tensor(theta[None])
    data = TensorDataset(torch.as_tensor(X), torch.as_tensor(y[:, None]))
    ours = NaiveInfluenceFunction(
        model,
        data,
        **{**SETTINGS, "hessian_reg": 0.0},
        loss_fn=nn.MSELoss(reduction="none"),
        model_test=model,
    )
    x = rng.standard_normal((2, 3))
    found = ours.influence((torch.as_tensor(x), torch.zeros(2))).numpy()
    for i in range(20):
        without = theta - np.linalg.solve(
            H - 2 * np.outer(X[i], X[i]), 2 * X[i] * (y[i] - X[i] @ theta)
        )
        leverage = 2 * X[i] @ np.linalg.solve(H, X[i])
        change = (x @ without - x @ theta) * (1 - leverage)  # to first order in the weight
        np.testing.assert_allclose(found[:, i], change, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nested", [None, "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoint(classifier, tmp_path, prefix, nested):
    weights = {prefix + name: value for name, value in classifier.state_dict().items()}
    content = {nested: weights, "learning_rate": 0.5} if nested else weights
    torch.save(content, tmp_path / "model.pt")
    settings = {k: v for k, v in SETTINGS.items() if not k.startswith("checkpoint")}
    settings["loss_fn"] = nn.CrossEntropyLoss(reduction="none")
    other = mlp(2, 6, N_CLASSES).double()
    ours = NaiveInfluenceFunction(other, TRAIN, str(tmp_path / "model.pt"), **settings)
    assert_close(ours.influence(TEST.tensors), both(classifier)[0].influence(TEST.tensors))


def test_progress(classifier, capsys):
    _, ours = both(classifier)
    assert capsys.readouterr().err == ""
    ours.influence(TEST.tensors, show_progress=True)
    assert "gradients of train samples" in capsys.readouterr().err


REFUSED = [
    ({"projection_dim": 0}, "projection_dim of at least 1, found 0"),
    ({"batch_size": None}, "batch_size of at least 1 for the Dataset train_dataset, found None"),
    ({"hessian_inverse_tol": -1.0}, "hessian_inverse_tol of at least 0, found -1"),
    ({"layers": ["7"]}, "layers among 0, 1, 2, found '7'"),
    ({"layers": ["1"]}, "trainable parameters, found none in the layers"),
    ({"loss_fn": nn.CrossEntropyLoss()}, "reduction none, since .* found 'mean'"),
    ({"sample_wise_grads_per_batch": True}, "reduction sum or mean, since .* found 'none'"),
    ({"test_loss_fn": nn.CrossEntropyLoss()}, "reduction none, since .* found 'mean'"),
    ({"hessian_inverse_tol": 1e9}, "no eigenvalue of the curvature exceeds 1e.09, the largest is"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_refused(classifier, changes, message):
    settings = {**SETTINGS, "loss_fn": nn.CrossEntropyLoss(reduction="none"), **changes}
    with pytest.raises(InputError, match=message):
        NaiveInfluenceFunction(classifier, TRAIN, **settings)


def test_refused_inputs(classifier):
    _, ours = both(classifier)
    with pytest.raises(InputError, match="k of at least 1, found 0"):
        ours.influence(TEST.tensors, k=0)
    with pytest.raises(InputError, match=r"a batch \(\*features, labels\) or a DataLoader"):
        ours.influence(TEST.tensors[0])
    with pytest.raises(InputError, match="expected train samples, found none"):
        ours.self_influence(DataLoader(TensorDataset(*(t[:0] for t in TEST.tensors))))
    ours.test_loss_fn = lambda outputs, labels: outputs.sum()
    with pytest.raises(InputError, match="a loss for each of 7 samples"):
        ours.influence(TEST.tensors)


def test_nan_is_refused(classifier):
    nn.init.constant_(classifier[0].weight, float("nan"))
    settings = {**SETTINGS, "loss_fn": nn.CrossEntropyLoss(reduction="none")}
    with pytest.raises(InputError, match="NaN"):
        NaiveInfluenceFunction(classifier, TRAIN, **settings)
