"""Every problem of the package, by name: what commands and checkpoints rely on."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from pinnfluence import problems
from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.trained_model import load_test_points
from pinnfluence.reference.comparison import match_points


@pytest.mark.parametrize("name", problems.names())
def test_a_problem_bears_the_name_of_its_file(name: str) -> None:
    problem = problems.load(name)
    assert problem.name == name
    for variant, conditions in itertools.product(problem.variants, problem.conditions):
        one = problem.variant(variant)
        network = MLP(one.network.layers, one.network.activation, one.network.scale)
        pinn = Pinn.of(one, conditions, network)
        assert len(set(pinn.terms)) == len(pinn.terms) > len(pinn.groups["bcs"]) > 0


def test_a_new_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(str(problems.__file__)).with_name("heat.py").read_text()
    (tmp_path / "warmth.py").write_text(text.replace('"heat"', '"warmth"'))
    monkeypatch.setattr(problems, "__path__", [*problems.__path__, str(tmp_path)])
    assert problems.names() == sorted({*problems.names(), "warmth"})
    assert problems.load("warmth").name == "warmth"
    with pytest.raises(ValueError, match=r"unknown problem 'cold', expected one of .*warmth"):
        problems.load("cold")


def test_some_of_the_test_points_are_drawn_at_random() -> None:
    problem = problems.load(problems.DEFAULT)
    points = load_test_points(None, problem)
    some = load_test_points(None, problem, 300)
    np.testing.assert_array_equal(some, load_test_points(None, problem, 300))
    assert not np.array_equal(some, load_test_points(None, problem, 300, seed=1))
    places = match_points(some, points)
    assert (np.diff(places) > 0).all()
    assert abs(places.mean() / len(points) - 0.5) < 0.06
    np.testing.assert_array_equal(load_test_points(None, problem, len(points) + 1), points)
