"""A drop-in for ``captum.influence.NaiveInfluenceFunction`` that is fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from captum.influence import DataInfluence
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pinnfluence.captum_api.batches import batches_of, joined, loader_of, with_progress
from pinnfluence.captum_api.curvature import LossHessian, inverse_root
from pinnfluence.captum_api.gradients import Loss, SampleGradients, parameters, same_parameters
from pinnfluence.curvature.lanczos import is_small
from pinnfluence.errors import InputError
from pinnfluence.runtime.calculation import calculations
from pinnfluence.runtime.progress import progress_bar

PROJECTION_COLUMNS = 16
"""Columns of R on the model's device at a time, where R is kept on the CPU to save its memory."""


class KMostInfluentialResults(NamedTuple):
    """Training samples of highest or lowest influence on each test sample, both ``[n_test, k]``."""

    indices: Tensor
    influence_scores: Tensor


def load_checkpoint(model: nn.Module, path: str | Path) -> float:
    """Load weights into a model, and give the learning rate (1 where the file has none).

    The file is a state_dict, or a dictionary with one as ``model_state_dict`` or ``state_dict``;
    the prefix ``module.`` of ``DataParallel`` is added or taken away as the model needs it.

    Raises:
        InputError: something else than a dictionary.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise InputError(f"expected a state_dict in {path}, found {type(content).__name__}")
    rate = content.pop("learning_rate", 1.0)
    nested = [key for key in ("model_state_dict", "state_dict") if key in content]
    weights = content[nested[0]] if nested else content
    target = model.module if isinstance(model, nn.DataParallel) else model
    names = {n: n if n in target.state_dict() else n.removeprefix("module.") for n in weights}
    target.load_state_dict({names[n]: values for n, values in weights.items()})
    return float(rate)


@calculations
class NaiveInfluenceFunction(DataInfluence):
    """Influence of training samples by the inverse Hessian on its largest eigenpairs.

    For a test loss f at a test sample x and the loss l_i of a training sample z_i,

        Inf(f(x); z_i) = grad f(x)^T (H + hessian_reg I)^-1 grad l_i = e_f(x) . e_l(z_i)

    with embeddings ``e = R^T grad``, ``R = V Lambda^-1/2``. H is the Hessian of the summed loss of
    ``hessian_dataset``; of the eigenvalues of H + hessian_reg I above ``hessian_inverse_tol`` the
    ``projection_dim`` largest are kept. Positive means: taking z_i away raises f(x).

    Arguments, methods, sign and scale are those of captum 0.9's class of this name: only the import
    changes. What is faster: the eigenpairs come from Hessian-vector products (Lanczos, or a dense
    matrix by batched products where that is small), the samples' gradients from
    ``torch.func.vmap``. A model that torch.func refuses, such as one that computes residuals with
    nested ``torch.autograd.grad``, is differentiated by batched backward passes; a warning and the
    attribute ``how`` say so. What differs from captum:

    - ``loss_fn=None`` works and takes the model's outputs, summed over all but the first axis.
    - ``influence(..., k=...)`` is the top of ``influence(...)``, with the test loss at the test
      samples, where captum takes the training loss.
    - Batch sizes change speed and memory only, unless samples depend on each other (batch norm in
      training mode, a weighted mean), where they act as in captum.
    - ``seed`` has no effect: nothing is random.
    - Parameters are never changed: ``layers`` may name frozen ones, and without ``layers`` frozen
      ones are constants.

    Args:
        model: maps ``*batch[:-1]`` to outputs ``[n, ...]``; ``batch[-1]`` are the labels.
        train_dataset: training samples, whose order is that of the scores' columns.
        checkpoint: what ``checkpoints_load_func(model, checkpoint)`` loads into the model.
        layers: names of submodules to whose parameters theta is limited.
        loss_fn: ``loss_fn(outputs, labels)``. With ``sample_wise_grads_per_batch`` it gives the sum
            or the mean over the samples, as its attribute ``reduction`` says (without: the sum);
            otherwise a loss for each sample, of which further axes are summed.
        batch_size: for data that are no ``DataLoader``.
        hessian_dataset: samples of the Hessian's loss, kept in memory; None takes the training
            samples.
        test_loss_fn: f; None takes ``loss_fn``, or the outputs of ``model_test`` if there is one.
        projection_on_cpu: keep R on the CPU.
        model_test: another model at the test samples, which has the same parameters: the same
            tensors (a network that the model wraps) or the same names. Values are the model's.

    ``model_test``, ``test_loss_fn`` and ``loss_fn`` may be set anew at any time.

    Raises:
        InputError: arguments that do not fit, no eigenvalue above the tolerance, NaN.

    Source: Koh and Liang, arXiv 1703.04730; the test model: Naujoks et al., arXiv 2409.08958.

    >>> from pinnfluence.captum_api import NaiveInfluenceFunction  # instead of captum.influence
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Dataset | DataLoader,
        checkpoint: str,
        checkpoints_load_func: Callable[[nn.Module, str], float] = load_checkpoint,
        layers: list[str] | None = None,
        loss_fn: nn.Module | Callable[..., Tensor] | None = None,
        batch_size: int | None = 1,
        hessian_dataset: Dataset | DataLoader | None = None,
        test_loss_fn: nn.Module | Callable[..., Tensor] | None = None,
        sample_wise_grads_per_batch: bool = False,
        projection_dim: int | None = 50,
        seed: int = 42,
        hessian_reg: float = 1e-6,
        hessian_inverse_tol: float = 1e-5,
        projection_on_cpu: bool = True,
        show_progress: bool = False,
        model_test: nn.Module | None = None,
    ) -> None:
        checkpoints_load_func(model, checkpoint)
        self.model, self.model_test = model, model if model_test is None else model_test
        self.checkpoint, self.layers, self.seed = checkpoint, layers, seed
        self.sample_wise_grads_per_batch = sample_wise_grads_per_batch
        self.loss_fn = loss_fn
        self.test_loss_fn = loss_fn if test_loss_fn is None and model_test is None else test_loss_fn
        self.projection_dim = projection_dim
        self.hessian_reg, self.hessian_inverse_tol = hessian_reg, hessian_inverse_tol
        self.train_dataloader = loader_of(train_dataset, batch_size, "train_dataset")
        self.hessian_dataloader = self.train_dataloader
        if hessian_dataset is not None:
            self.hessian_dataloader = loader_of(hessian_dataset, batch_size, "hessian_dataset")
        self.how: dict[str, str] = {}
        self.model_device = device = next(iter(self._theta().values())).device
        self._loss(test=True)  # refuses early what does not fit
        self.R = self._projection(show_progress).to("cpu" if projection_on_cpu else device)

    @overload
    def influence(
        self,
        inputs: Sequence[Any] | DataLoader,
        k: None = None,
        proponents: bool = True,
        show_progress: bool = False,
    ) -> Tensor: ...

    @overload
    def influence(
        self,
        inputs: Sequence[Any] | DataLoader,
        k: int,
        proponents: bool = True,
        show_progress: bool = False,
    ) -> KMostInfluentialResults: ...

    def influence(
        self,
        inputs: Sequence[Any] | DataLoader,
        k: int | None = None,
        proponents: bool = True,
        show_progress: bool = False,
    ) -> Tensor | KMostInfluentialResults:
        """Scores ``[n_test, n_train]``, or for each test sample the k highest.

        Args:
            inputs: a batch ``(*features, labels)`` of test samples, or a loader of such.
            k: how many training samples to give; None gives the scores of all.
            proponents: the highest scores, in falling order; False: the lowest, rising.

        Raises:
            InputError: k below 1, inputs that are no batch.
        """
        if k is not None and k < 1:
            raise InputError(f"expected k of at least 1, found {k}")
        test = self.compute_intermediate_quantities(inputs, show_progress=show_progress, test=True)
        train = self._embeddings(self.train_dataloader, False, show_progress)
        blocks = (test @ block.cpu().T for block in train)
        if k is None:
            return torch.cat(list(blocks), dim=1)
        return _most_influential(blocks, k, proponents)

    def self_influence(
        self,
        inputs_dataset: Sequence[Any] | DataLoader | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """Influence ``[n]`` of each sample on its own training loss, ``|e_l(z)|^2``.

        Args:
            inputs_dataset: a batch or a loader of such; None takes the training samples.
        """
        samples = self.train_dataloader if inputs_dataset is None else inputs_dataset
        embeddings = self._embeddings(samples, False, show_progress)
        return torch.cat([block.square().sum(1).cpu() for block in embeddings])

    def compute_intermediate_quantities(
        self,
        inputs_dataset: Sequence[Any] | DataLoader,
        aggregate: bool = False,
        show_progress: bool = False,
        return_on_cpu: bool = True,
        test: bool = False,
    ) -> Tensor:
        """Embeddings ``R^T grad`` of samples, ``[n, rank]``, whose products are the influences.

        Args:
            inputs_dataset: a batch or a loader of such.
            aggregate: give the sum ``[1, rank]`` over all samples, without keeping each.
            return_on_cpu: give the result on the CPU, not on the model's device.
            test: of the test loss and test model.
        """
        device = torch.device("cpu") if return_on_cpu else self.model_device
        embeddings = self._embeddings(inputs_dataset, test, show_progress)
        if not aggregate:
            return torch.cat([block.to(device) for block in embeddings])
        total = torch.zeros(1, self.R.shape[1], dtype=self.R.dtype, device=self.model_device)
        for block in embeddings:
            total += block.sum(0, keepdim=True)
        return total.to(device)

    def _theta(self) -> dict[str, Tensor]:
        return parameters(self.model, self.layers)

    def _loss(self, test: bool) -> Loss:
        """The loss of one side, read anew so that its parts may be set at any time."""
        model = self.model_test if test else self.model
        loss_fn = self.test_loss_fn if test else self.loss_fn
        theta = self._theta()
        fixed = {n: p.detach() for n, p in self.model.named_parameters() if n not in theta}
        reduction = _reduction(loss_fn, self.sample_wise_grads_per_batch)
        return Loss(model, same_parameters(self.model, model), fixed, loss_fn, reduction)

    def _projection(self, show_progress: bool) -> Tensor:
        """R ``[n_params, rank]``."""
        loss, theta = self._loss(test=False), self._theta()
        batches = list(joined(self.hessian_dataloader, loss, theta))
        hessian = LossHessian(loss, theta, batches)
        rank = hessian.n_params if self.projection_dim is None else self.projection_dim
        settings = (rank, self.hessian_reg, self.hessian_inverse_tol)
        if not show_progress:
            return inverse_root(hessian, *settings)
        total = hessian.n_params if is_small(hessian.n_params, rank) else None
        with progress_bar("products with the Hessian", total) as bar:
            hessian.advance = bar.update
            return inverse_root(hessian, *settings)

    def _embeddings(
        self, data: Sequence[Any] | DataLoader, test: bool, show_progress: bool
    ) -> Iterator[Tensor]:
        """Embeddings ``[n, rank]`` of one batch after the other."""
        side, n_samples = "test" if test else "train", 0
        loss, theta = self._loss(test), self._theta()
        gradients = SampleGradients(loss, theta)
        batches = batches_of(data)
        if show_progress:
            batches = with_progress(batches, f"gradients of {side} samples")
        for batch in joined(batches, loss, theta):
            block = torch.cat([self._project(rows) for rows in gradients.rows(batch)])
            self.how[side] = gradients.how or "loop"
            n_samples += len(block)
            yield block
        if n_samples == 0:
            raise InputError(f"expected {side} samples, found none")

    def _project(self, rows: Tensor) -> Tensor:
        if rows.device == self.R.device:
            return rows @ self.R
        parts = self.R.split(PROJECTION_COLUMNS, dim=1)
        return torch.cat([rows @ part.to(rows.device) for part in parts], 1)


def _reduction(loss_fn: Any, of_batch: bool) -> str:
    """What a loss function does with the samples' losses; refused where it does not fit."""
    expected = ("sum", "mean") if of_batch or loss_fn is None else ("none",)
    found = getattr(loss_fn, "reduction", expected[0])
    if found not in expected:
        raise InputError(
            f"expected a loss function with reduction {' or '.join(expected)}, since "
            f"sample_wise_grads_per_batch is {of_batch}; found {found!r}"
        )
    return str(found)


def _most_influential(blocks: Iterable[Tensor], k: int, highest: bool) -> KMostInfluentialResults:
    """The k highest or lowest of scores that come as blocks ``[n_test, n]`` of columns."""
    scores, indices, n_seen = torch.empty(0), torch.empty(0, dtype=torch.long), 0
    for block in blocks:
        numbers = torch.arange(n_seen, n_seen + block.shape[1], device=block.device)
        numbers = numbers.expand(len(block), -1)
        scores = torch.cat([scores, block], 1) if n_seen else block
        indices = torch.cat([indices, numbers], 1) if n_seen else numbers
        n_seen += block.shape[1]
        scores, order = scores.topk(min(k, scores.shape[1]), dim=1, largest=highest)
        indices = indices.gather(1, order)
    return KMostInfluentialResults(indices, scores)
