"""The drop-in for captum against the original, for models of many kinds."""

import copy

import pytest
import torch
from brute_force import derivative
from captum.influence import NaiveInfluenceFunction as Captum
from captum_cases import (
    N_CLASSES,
    N_TRAIN,
    SETTINGS,
    TEST,
    TRAIN,
    ColumnLoss,
    assert_close,
    assert_same,
    both,
    mlp,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.captum_api import NaiveInfluenceFunction, batches
from pinnfluence.errors import InputError

pytestmark = pytest.mark.filterwarnings(  # captum's own, where it takes gradients by hooks
    "ignore:Input Tensor 0 did not already require gradients:UserWarning"
)


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


class BatchNormed(nn.Sequential):
    """A classifier whose samples depend on each other while it trains."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, N_CLASSES))


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(1)
    return mlp(2, 6, N_CLASSES).double()


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
