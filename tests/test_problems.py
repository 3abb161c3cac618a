"""Every problem of the package, by name: what commands and checkpoints rely on."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinnfluence import problems
from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.trained_model import load_test_points
from pinnfluence.problems.heat import DOMAIN, PROBLEM
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_initial": -1}, "num_initial must be from 0 to .*, found -1"),
        ({"distribution": "grid"}, "unknown distribution 'grid' of points, expected one of unif"),
        ({"layers": (3, 4, 1), "scale": (1.0,) * 3}, "begin with 2 inputs and end with 1 outputs"),
        ({"scale": (1.0,)}, "scale needs 2 values"),
        ({"scale": (1.0, 0.0)}, "scale must be positive lengths"),
        ({"iterations": {"adam": -3}}, "iterations of adam must not be negative, found -3"),
        ({"lr": 0.0}, "the learning rate must be positive, found 0"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"symbols": {"w": ("$w$", "")}}, "no input, output or quantity: w"),
        ({"signed": ("w",)}, "no input, output or quantity: w"),
        ({"epochs": 3}, "a problem has no epochs to change, expected some of activation, "),
        ({"domain": DOMAIN.space}, "heat has no time, found 100 initial points"),
    ],
)
def test_what_a_problem_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PROBLEM.changed(**change)


def test_a_variant_with_an_unknown_field_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="a problem has no sizes to change"):
        replace(PROBLEM, variants={"good": {}, "bad": {"sizes": 3}})


def test_variants_are_named_by_their_points() -> None:
    names = ("num_domain", "num_boundary", "num_initial")
    for sizes, expected in (((10, 2, 2), "bad"), ((1000, 100, 100), "good"), ((10, 2, 3), "good")):
        assert PROBLEM.variant_with("good", dict(zip(names, sizes, strict=True))) == expected


def test_labels_take_what_the_problem_does_not_name() -> None:
    labels = PROBLEM.changed(symbols={}, quantities={"heat flux": lambda f: f.u_x}).labels
    assert labels.axes == ("x", "t")
    assert labels.fields == ("u", "heat flux")
    assert labels.with_unit("u") == "u"
    assert labels.with_unit("t") == "$t$"
