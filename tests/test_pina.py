"""Solvers of PINA against brute force: its own losses, differentiated in a loop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pinnfluence
from pinnfluence import InputError

REASON = "PINA is not installed: pip install -e '.[pina]'"
pina = pytest.importorskip("pina", reason=REASON)
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own

from pina import Condition, LabelTensor, Trainer  # noqa: E402
from pina.domain import CartesianDomain  # noqa: E402
from pina.equation import Equation, SystemEquation  # noqa: E402
from pina.equation.zoo import FixedValue  # noqa: E402
from pina.loss import LpLoss, PowerLoss  # noqa: E402
from pina.operator import grad, laplacian  # noqa: E402
from pina.optim import TorchOptimizer  # noqa: E402
from pina.problem import InverseProblem, SpatialProblem  # noqa: E402
from pina.solver import (  # noqa: E402
    GradientPhysicsInformedSingleModelSolver,
    PhysicsInformedSingleModelSolver,
)
from pina.weighting import ScalarWeighting, SelfAdaptiveWeighting  # noqa: E402

DAMPING = 1e-3
WEIGHTS = {"flow": 0.7, "wall": 3.0}


def momentum(input_: Any, output_: Any) -> Any:
    u_x = grad(output_, input_, components=["u"], d=["x"])
    p_x = grad(output_, input_, components=["p"], d=["x"])
    return output_["u"] * u_x + p_x - 0.1 * laplacian(output_, input_, components=["u"])


def source(input_: Any, output_: Any) -> Any:
    return laplacian(output_, input_, components=["p"]) - torch.sin(input_["x"]) * input_["y"]


def unknown(input_: Any, output_: Any, params_: Any) -> Any:
    return laplacian(output_, input_, components=["u"]) - params_["k"] * output_["u"]


class Flow(SpatialProblem):
    """A system, a wall, and measurements."""

    output_variables = ["u", "p"]  # noqa: RUF012
    conditions: dict[str, Any] = {}  # noqa: RUF012
    spatial_domain = CartesianDomain({"x": [0, 1], "y": [0, 1]})

    def __init__(self) -> None:
        self.domains = {"D": self.spatial_domain, "W": CartesianDomain({"x": 0, "y": [0, 1]})}
        seen = LabelTensor(torch.rand(5, 2), ["y", "x"])  # in another order
        self.conditions = {
            "flow": Condition(domain="D", equation=SystemEquation([momentum, source])),
            "wall": Condition(domain="W", equation=FixedValue(0.2, components=["u"])),
            "seen": Condition(input=seen, target=LabelTensor(torch.rand(5, 2), ["u", "p"])),
        }
        super().__init__()


class Unknown(InverseProblem, SpatialProblem):
    """A coefficient to be found."""

    output_variables = ["u"]  # noqa: RUF012
    conditions: dict[str, Any] = {}  # noqa: RUF012
    spatial_domain = CartesianDomain({"x": [0, 1], "y": [0, 1]})
    unknown_parameter_domain = CartesianDomain({"k": [0.5, 2.0]})

    def __init__(self) -> None:
        self.domains = {"D": self.spatial_domain}
        self.conditions = {"flow": Condition(domain="D", equation=Equation(unknown))}
        super().__init__()


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def solver_of(
    problem: Any, kind: Any = PhysicsInformedSingleModelSolver, steps: int = 0, **settings: Any
) -> Any:
    """A solver in float64, trained for a few steps if asked."""
    torch.manual_seed(0)
    for name, n in (("D", 12), ("W", 6)):
        if name in problem.domains:
            problem.discretise_domain(n, "random", domains=name)
    n_outputs = len(problem.output_variables)
    layers = (torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, n_outputs))
    solver = kind(problem, torch.nn.Sequential(*layers), **settings)
    if steps:
        trainer(solver, max_epochs=steps).train()
    return solver


def trainer(solver: Any, **settings: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(solver, accelerator="cpu", enable_model_summary=False, **quiet, **settings)


def brute_force(
    solver: Any, weights: dict[str, float], test_x: torch.Tensor
) -> dict[str, np.ndarray]:
    """Scores of the first output by condition, ``[n_test, n]``: a loop over points."""
    theta = [*solver.model.parameters(), *(solver._params or {}).values()]

    def flat(value: Any) -> torch.Tensor:
        parts = torch.autograd.grad(
            value, theta, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.as_subclass(torch.Tensor).flatten() for part in parts])

    n_params = sum(p.numel() for p in theta)
    matrix, gradients = torch.zeros(n_params, n_params), {}
    for name, condition in solver.problem.conditions.items():
        rows, n = [], len(condition.input)
        for i in range(n):
            batch = {key: condition.data.data[key][[i]].clone() for key in condition.data.keys}
            values = condition.evaluate(batch, solver).as_subclass(torch.Tensor).reshape(-1)
            scale = weights.get(name, 1.0) / (n * len(values))
            jacobian = torch.stack([flat(value) for value in values])
            matrix = matrix + 2 * scale * jacobian.T @ jacobian
            rows.append(2 * scale * jacobian.T @ values.detach())
        gradients[name] = torch.stack(rows, 1)
    tested = torch.stack([flat(solver.model(x[None])[0, 0]) for x in test_x])
    inverse = torch.linalg.inv(matrix + DAMPING * torch.eye(n_params))
    return {name: (tested @ inverse @ g).numpy() for name, g in gradients.items()}


@pytest.mark.parametrize("kind", ["flow", "unknown"])
def test_scores_are_those_of_brute_force(kind: str) -> None:
    weighting = ScalarWeighting(WEIGHTS)
    problem = Flow() if kind == "flow" else Unknown()
    solver = solver_of(problem, steps=3, weighting=weighting)
    before = [p.detach().clone() for p in solver.model.parameters()]
    model = pinnfluence.from_pina(solver)
    test_x = torch.rand(4, 2)
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=DAMPING)
    scores = influence.scores(test_x.numpy(), "u")
    assert model.outputs == tuple(problem.output_variables)
    assert model.inputs == ("x", "y")
    for name, expected in brute_force(solver, WEIGHTS, test_x).items():
        terms = [term for term in model.terms if term.rstrip("_12") == name]
        found = sum(scores.term(term) for term in terms)
        difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        print(f"{kind}, {name}: {difference:.1e}")
        assert difference < 1e-8
    for p, was in zip(solver.model.parameters(), before, strict=True):
        assert torch.equal(p, was)


def test_points_are_those_of_the_training_split() -> None:
    solver = solver_of(Flow())
    split = trainer(solver, max_epochs=1, train_size=0.5, val_size=0.5)
    split.train()
    model = pinnfluence.from_pina(solver)
    rows = sorted(split.data_module.split_idxs["flow"]["train"])
    expected = solver.problem.conditions["flow"].input.extract(["x", "y"]).as_subclass(torch.Tensor)
    np.testing.assert_array_equal(model.training_points[:6], expected[rows])
    assert len(model.training_points) == 6 + 3 + 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"kind": GradientPhysicsInformedSingleModelSolver},
            "found GradientPhysicsInformedSingleModelSolver",
        ),
        ({"loss": LpLoss(2)}, "found LpLoss"),
        ({"loss": torch.nn.L1Loss()}, "found L1Loss"),
        ({"weighting": SelfAdaptiveWeighting()}, "weights of SelfAdaptiveWeighting change"),
        (
            {"optimizer": TorchOptimizer(torch.optim.AdamW, lr=1e-3, weight_decay=0.1)},
            "decay of AdamW",
        ),
    ],
)
def test_what_cannot_be_treated_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pinnfluence.from_pina(solver_of(Flow(), **settings))


def test_a_network_that_mixes_points_is_refused() -> None:
    solver = solver_of(Flow())
    solver.model[1] = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Dropout(0.5))
    with pytest.raises(InputError, match="off PINA's own"):
        pinnfluence.from_pina(solver)


@pytest.mark.parametrize(
    "loss", [PowerLoss(2), PowerLoss(2, "sum"), torch.nn.MSELoss(reduction="sum")]
)
def test_losses_are_pinas_own(loss: Any) -> None:
    """Which is compared before a model is returned."""
    decay = TorchOptimizer(torch.optim.Adam, lr=1e-3, weight_decay=0.1)
    solver = solver_of(Flow(), loss=loss, optimizer=decay)
    assert pinnfluence.from_pina(solver, weights={"wall": 2.0}).weight_decay == 0.1
    with pytest.raises(InputError, match="no condition walls"):
        pinnfluence.from_pina(solver, weights={"walls": 2.0})


def test_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "pina.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    assert len([line for line in blocks[1].splitlines() if line.strip()]) <= 4
    torch.set_default_dtype(torch.float32)  # as PINA has it
    exec("\n".join(blocks).replace("max_epochs=200", "max_epochs=20"), {})
