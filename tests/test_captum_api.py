"""The drop-in for captum's ``NaiveInfluenceFunction`` against the original."""

import numpy as np
import pytest
import torch
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
    classes,
    mlp,
)
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pinnfluence.captum_api import NaiveInfluenceFunction, batches, curvature
from pinnfluence.curvature import lanczos
from pinnfluence.errors import InputError

pytestmark = pytest.mark.filterwarnings(  # captum's own, where it takes gradients by hooks
    "ignore:Input Tensor 0 did not already require gradients:UserWarning"
)


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(1)
    return mlp(2, 6, N_CLASSES).double()


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
