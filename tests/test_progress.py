"""Progress: what is counted is what was announced, also where more work turns up on the way."""

from contextlib import contextmanager

import numpy as np
import pytest

from pinnfluence import Influence
from pinnfluence.curvature.recipe import recipe_of
from pinnfluence.influence import compression
from pinnfluence.runtime.progress import Count, ProgressStages, Stages


def test_count():
    told: list[tuple[str, int]] = []
    count = Count(10, lambda n: told.append(("done", n)), lambda n: told.append(("total", n)))
    count(4)
    count.expect(6)
    count.expect(7)
    count(7)
    assert (count.done, count.total) == (11, 11)
    assert told == [("done", 4), ("total", 11), ("done", 7)]


def test_stages_without_a_bar_take_any_number():
    with Stages().stage("work", 2) as count:
        count(1)
        count.expect(5)
        count(5)


class Watched(ProgressStages):
    """Notes where the bar of the compression stands after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[int, int]] = []

    @contextmanager
    def _counter(self, name, total):
        with super()._counter(name, total) as advance:

            def noted(n: int) -> None:
                advance(n)
                if name == "compression":
                    self.places.append((self._bar.n, self._bar.total))

            yield noted


@pytest.mark.parametrize("n_sampled", [2, 300], ids=["grows", "as announced"])
def test_the_bar_of_the_compression_ends_at_its_total(
    flow_pinn, flow_points, monkeypatch, n_sampled: int
) -> None:
    """Each further sample of test points is another pass through the training points."""
    monkeypatch.setattr(compression, "SAMPLE_POINTS", n_sampled)
    monkeypatch.setattr(compression, "HELD_OUT_POINTS", 8)
    stages, train_x = Watched(), flow_points(10)
    test_x = np.concatenate([flow_points(60, 1), train_x])
    recipe = recipe_of("gauss-newton", damping=1e-3)
    Influence(flow_pinn((2, 6, 5, 3)), train_x, recipe, 16, stages).influence(test_x)
    done, totals = zip(*stages.places, strict=True)
    assert all(n <= total for n, total in stages.places)
    assert done[-1] == totals[-1]
    assert sorted(totals) == list(totals)
    assert (totals[-1] > totals[0]) == (n_sampled == 2)
    assert all(n < total for n, total in stages.places[:-1])  # never full before its end
