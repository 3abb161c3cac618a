"""The registry of training phases: one file a phase, found by its name, run in a stated order."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT

from pinnfluence import InputError, problems
from pinnfluence.models.deepxde.model import build, dde
from pinnfluence.problem.parts import Schedule
from pinnfluence.problems.heat import PROBLEM
from pinnfluence.storage.checkpoint import find_checkpoint
from pinnfluence.training import optimizers
from pinnfluence.training.objective import TrainingLoss
from pinnfluence.training.run import Run

NUDGE = '''
"""Moves the first bias, once."""
import torch
from pinnfluence.training.optimizer import Optimizer

class Nudge(Optimizer):
    title, order = "Nudge", 15

    def step(self, n):
        with torch.no_grad():
            self.loss.network.linears[0].bias += 1
        self.loss.terms, self.ended = None, "one is enough"
        return 1

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

OPTIMIZER = Nudge
'''


def test_phases_in_their_order() -> None:
    found = optimizers.registered()
    published = [name for name in found if name in ("adam", "lbfgs", "lm")]
    assert published == ["adam", "lbfgs", "lm"]
    assert next(iter(found)) == "adam"  # the first phase writes the first weights
    flags = ["n_iterations", "n_iterations_lbfgs", "n_iterations_lm"]
    assert [optimizers.flag(name) for name in published] == flags
    assert sorted(found) == optimizers.names()
    assert len({optimizer.order for optimizer in found.values()}) == len(found)


@pytest.mark.parametrize("name", problems.names())
def test_problems_name_known_phases(name: str) -> None:
    problem = problems.load(name)
    for variant in problem.variants:
        assert set(problem.variant(variant).schedule.iterations) <= set(optimizers.registered())


def test_a_new_phase_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nudge.py").write_text(NUDGE)
    monkeypatch.setattr(optimizers, "__path__", [*optimizers.__path__, str(tmp_path)])
    optimizers.registered.cache_clear()
    try:
        order = list(optimizers.registered())
        assert order.index("adam") < order.index("nudge") < order.index("lbfgs")
        sizes = {"num_domain": 20, "num_boundary": 10, "num_initial": 10}
        model = build(PROBLEM.changed(layers=(2, 4, 1), **sizes), "dirichlet", seed=1)
        loss, folder = TrainingLoss(model.pinn, model.train_x), tmp_path / "run"
        before = loss.network.linears[0].bias.clone()  # type: ignore[index, union-attr]
        schedule = Schedule(iterations={"nudge": 5})
        state = Run(loss, folder, schedule).train()
        assert (state.step, state.message) == (1, "one is enough")
        assert (loss.network.linears[0].bias - before == 1).all()  # type: ignore[index, union-attr]
        assert (folder / "nudge-1.pt").is_file()
        (folder / "config.json").write_text('{"n_iterations": 0, "n_iterations_nudge": 5}')
        assert find_checkpoint(folder) == folder / "nudge-1.pt"
    finally:
        optimizers.registered.cache_clear()


def test_plain_deepxde_restores_what_a_phase_of_ours_ends_with(tmp_path: Path) -> None:
    sizes = {"num_domain": 20, "num_boundary": 10, "num_initial": 10}
    model = build(PROBLEM.changed(layers=(2, 4, 1), **sizes), "dirichlet", seed=1)
    loss = TrainingLoss(model.pinn, model.train_x)
    Run(loss, tmp_path, Schedule(iterations={"lm": 2}, dtype="float32")).train()
    plain = dde.Model(model.data, dde.nn.FNN([2, 4, 1], "tanh", "Glorot uniform"))
    plain.compile("adam", lr=0.5, verbose=0)
    plain.restore(tmp_path / "lm-2.pt")
    for mine, theirs in zip(loss.network.parameters(), plain.net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert plain.opt.param_groups[0]["lr"] == Schedule().lr
    plain._train_step(model.data.train_x, model.data.train_y, model.data.train_aux_vars)
    assert all(
        not torch.equal(mine, theirs)
        for mine, theirs in zip(loss.network.parameters(), plain.net.parameters(), strict=True)
    )


def test_an_unknown_phase_is_refused(tmp_path: Path) -> None:
    sizes = {"num_domain": 20, "num_boundary": 10, "num_initial": 10}
    model = build(PROBLEM.changed(layers=(2, 4, 1), **sizes), "dirichlet", seed=1)
    with pytest.raises(InputError, match="no phase newton, expected some of adam, "):
        Run(TrainingLoss(model.pinn, model.train_x), tmp_path, Schedule(iterations={"newton": 5}))


def test_help_imports_no_torch() -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['train.py', '--help']\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'scipy', 'deepxde', 'matplotlib'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--n_iterations_lm" in result.stdout
