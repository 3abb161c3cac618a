"""The explorer's page of models of one, three and four coordinates, in a real browser."""

import numpy as np
import pytest
import torch
from explorer_browser import click, opened, row_of, settle, value_of
from explorer_files import load
from torch import nn

import pinnfluence
from pinnfluence.explorer import write_explorer


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Score files and their pages, by number of coordinates."""
    return {d: write(tmp_path_factory.mktemp(f"coordinates{d}"), d) for d in (1, 3, 4)}


def write(folder, d):
    rng = np.random.default_rng(d)
    torch.manual_seed(d)
    network = nn.Sequential(nn.Linear(d, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    terms = {
        "inner": (torch.as_tensor(rng.uniform(size=(60, d))), lambda n, x: n(x)[:, 0] - x[:, 0]),
        "left": (torch.as_tensor(rng.uniform(size=(9, d))), lambda n, x: n(x)[:, 1]),
    }
    model = pinnfluence.torch_model(network, terms)
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=1e-3)
    influence.influence(rng.uniform(size=(300, d))).save(folder / "model_influences")
    write_explorer(folder / "page.html", [folder / "model_influences"])
    return load(folder / "model_influences"), folder / "page.html"


@pytest.mark.parametrize("d", [1, 3, 4])
def test_a_click_shows_the_score_of_the_file(d, browser, written):
    scores, path = written[d]
    with opened(browser, path) as page:
        point = page.evaluate("explorer.state.point.index")
        for place in ([0.2, 0.6], [0.8, 0.3]):
            click(page, "model", "map", place)
            row = row_of(page.inner_text("#expression"))
            expected = scores["u"][row, point]
            assert value_of(page) == pytest.approx(
                expected, rel=0.02, abs=float(1e-3 * abs(scores["u"][row]).max())
            )
            shown = scores.test_x[row]
            words = ", ".join(f"{c:.3g}" for c in shown)
            assert f"({words})" in page.inner_text("#facts")
            assert abs(shown[0] - place[0]) < 0.2


@pytest.mark.parametrize("d", [3, 4])
def test_a_slider_chooses_the_slice_in_which_points_count(d, browser, written):
    scores, path = written[d]
    half = 0.1 ** (1 / (d - 2)) / 2
    with opened(browser, path) as page:
        assert page.locator("#slices input").count() == d - 2
        for value in (0.25, 0.7):
            for k in range(d - 2):
                page.locator(f"#slice-{k}").evaluate(
                    "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')) }", value
                )
            settle(page)
            click(page, "model", "map", [0.5, 0.5])
            row = row_of(page.inner_text("#expression"))
            assert (abs(scores.test_x[row, 2:] - value) <= 1.01 * half).all()
            near = (abs(scores.test_x[:, 2:] - value) <= half).all(1)
            distances = np.linalg.norm(scores.test_x[:, :2] - 0.5, axis=1)
            assert distances[row] <= 1.1 * distances[near].min()
        address = page.evaluate("explorer.address()")
        assert "slice=" in address
        page.evaluate("a => { location.hash = a }", address.replace("0.7", "0.3"))
        settle(page)
        assert page.evaluate("explorer.state.slice") == pytest.approx([0.3] * (d - 2))


def test_quantities_that_act_nowhere_are_not_offered(browser, written):
    with opened(browser, written[3][1]) as page:
        assert page.locator("#quantity option").evaluate_all("o => o.map((x) => x.value)") == [
            "u",
            "v",
        ]


def test_points_on_a_line_are_as_high_as_their_influence(browser, written):
    with opened(browser, written[1][1]) as page:
        assert page.locator("#slices").is_hidden()
        heights = page.evaluate(
            """() => { const c = document.querySelector("figure.points canvas");
            const d = c.getContext("2d").getImageData(0, 45, c.width, c.height - 85);
            const rows = new Set(); for (let k = 0; k < d.data.length; k += 4)
            if (Math.abs(d.data[k] - d.data[k + 2]) > 60) rows.add((k / 4 / c.width) | 0);
            return rows.size; }"""
        )
        assert heights > 60


def test_more_coordinates_are_refused(tmp_path):
    network = nn.Linear(5, 1).double()
    model = pinnfluence.torch_model(network, {"inner": (torch.rand(9, 5), lambda n, x: n(x) - 1)})
    influence = pinnfluence.Influence(model, recipe="gauss-newton", damping=1e-3)
    influence.influence(np.random.default_rng(0).uniform(size=(8, 5))).save(
        tmp_path / "a_influences"
    )
    with pytest.raises(pinnfluence.InputError, match="at most 4 coordinates, found 5"):
        write_explorer(tmp_path / "page.html", [tmp_path / "a_influences"])
