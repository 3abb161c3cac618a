"""Numbers that the explorer's page shows in a real browser, against the score files."""

import re
from pathlib import Path

import numpy as np
import pytest
from explorer_browser import (
    DIGITS,
    choose,
    click,
    drag,
    lonely,
    number,
    opened,
    pixel,
    press,
    row_of,
    settle,
    stated,
    value_of,
)
from explorer_files import load, make_model, read_array, read_page
from scipy.spatial import cKDTree

from pinnfluence.explorer import write_explorer
from pinnfluence.problems import heat


@pytest.mark.parametrize(
    ("quantity", "group", "scale"),
    [("u", "all", "removal"), ("speed", "pde", "paper"), ("all", "bcs", "removal")],
)
def test_clicked_numbers_are_those_of_python(page, written, scores, quantity, group, scale):
    choose(page, quantity, group, scale)
    for i, (model, name) in enumerate(zip(scores, ("first", "second"), strict=True)):
        inner = (model.train_x[:, 0] > 0.3) if group == "pde" else model.train_x[:, 1] == 0
        j = next(j for j in lonely(model.train_x) if inner[j])
        row = lonely(model.test_x)[i]
        click(page, name, "map", model.test_x[row])
        click(page, name, "points", model.train_x[j])
        expression = page.inner_text("#expression")
        value = eval(expression, {"scores": model})  # what the page says to type
        matrix = model.matrix(quantity, group if group != "all" else None, scale)
        assert value == matrix[row, j]
        allowed = 1.02 * stated(written, i, quantity) * abs(matrix[row]).max() + 1e-6 * abs(value)
        assert abs(value_of(page) - value) <= allowed
        assert value != 0
        removal = number(page.inner_text("#sentence").split(" by ")[1])
        factor = len(model.train_x) if scale == "paper" else 1
        assert removal == pytest.approx(abs(value_of(page)) / factor, rel=DIGITS)
        verb = "raises" if value > 0 else "lowers"
        assert f"this training point {verb}" in page.inner_text("#sentence") or group != "all"
        assert "again" not in page.inner_text("#sentence")
        assert page.inner_text("#note") == "recipe paper, rank 12: not a prediction of retraining"


def test_terms_add_up_to_the_value(page, scores):
    model = scores[0]
    click(page, "first", "points", model.train_x[lonely(model.train_x)[0]])
    parts = [number(text) for text in page.locator("#by-term .number").all_inner_texts()]
    assert len(parts) >= 3
    assert sum(parts) == pytest.approx(
        value_of(page), abs=len(parts) * DIGITS * max(map(abs, parts))
    )


def test_other_models_take_their_nearest_point(page, scores):
    j = int(lonely(scores[0].train_x)[2])
    click(page, "first", "points", scores[0].train_x[j])
    assert page.evaluate("explorer.state.point") == {"model": 0, "index": j}
    page.locator("#focus-choice label:has([value='1'])").click()
    settle(page)
    nearest = cKDTree(scores[1].train_x).query(scores[0].train_x[j])[1]
    assert page.inner_text("#expression").endswith(f", {nearest}]")
    distance = np.hypot(*(scores[1].train_x[nearest] - scores[0].train_x[j]))
    assert distance > 0
    shown = re.search(r"nearest to (\d+) of first, (.*) m away", page.inner_text("#facts"))
    assert shown is not None
    assert int(shown[1]) == j
    assert number(shown[2]) == pytest.approx(distance, rel=DIGITS)
    label = page.locator("figure.map canvas").nth(1).get_attribute("aria-label")
    assert f"{nearest}, {shown[2]} m away" in label


def test_row_table_and_lists_are_the_row(page, written, scores):
    model, row = scores[1], int(lonely(scores[1].test_x)[0])
    page.select_option("#quantity", "p")
    click(page, "second", "map", model.test_x[row])
    with page.expect_download() as download:
        press(page, "#save-row")
    lines = Path(download.value.path()).read_text().splitlines()
    table = np.array([line.split(",") for line in lines[6:]], float)
    assert lines[1] == "# recipe paper, rank 12: not a prediction of retraining"
    assert lines[2] == "# unit: Pa; x in m, y in m"
    assert lines[5] == ",".join(["train_index", "x", "y", "influence", *model.terms])
    exact = model["p"][row]
    allowed = 1.02 * stated(written, 1, "p") * abs(exact).max()
    assert abs(table[:, 3] - exact).max() <= allowed
    np.testing.assert_allclose(table[:, 4:].sum(1), table[:, 3], atol=1e-5 * abs(exact).max())
    np.testing.assert_allclose(table[:, 1:3], model.train_x, rtol=1e-6)
    for name, sign in (("raise", 1), ("lower", -1)):
        shown = [number(text) for text in page.locator(f"#{name} .number").all_inner_texts()]
        best = np.sort(sign * exact)[::-1][:10]
        np.testing.assert_allclose(
            sign * np.array(shown), best[best > 0], atol=allowed, rtol=DIGITS
        )
    page.locator("#lower button").first.click()
    settle(page)
    assert page.evaluate("explorer.state.point.index") == int(np.argmin(table[:, 3]))


def test_lasso_adds_up_the_points_inside(page, written, scores):
    model, row = scores[0], int(lonely(scores[0].test_x)[1])
    click(page, "first", "map", model.test_x[row])
    (x0, x1), (y0, y1) = (0.8, 1.6), (0.1, 0.35)
    page.locator("#tool-choice label:has([value=lasso])").click()
    drag(page, "first", "points", [(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    x, y = model.train_x.T
    points = np.flatnonzero((x > x0) & (x < x1) & (y > y0) & (y < y1))
    assert f"{len(points)} training points together" in page.inner_text("#sentence")
    value = eval(page.inner_text("#expression"), {"scores": model, "points": points})
    exact = model["u"][row]
    allowed = len(points) * 1.02 * stated(written, 0, "u") * abs(exact).max()
    assert abs(value_of(page) - value) <= allowed + 1e-6 * abs(value)
    assert abs(value) > 3 * allowed or len(points) > 3
    page.click("#clear")
    settle(page)
    assert "[" in page.inner_text("#expression")
    assert ".sum()" not in page.inner_text("#expression")


def test_full_rank_with_the_trained_weights_is_said_to_predict(files, browser, tmp_path):
    scores = load(files[0])
    scores.metadata["recipe"] |= {"name": "gauss-newton", "weighting": "training", "rank": "full"}
    scores.save(tmp_path / "gauss_influences")
    write_explorer(tmp_path / "page.html", [tmp_path / "gauss_influences"])
    with opened(browser, tmp_path / "page.html") as page:
        note = "recipe gauss-newton: predicts retraining to first order; not checked here"
        assert page.inner_text("#note") == note
        assert "this training point and training again would " in page.inner_text("#sentence")
        assert page.inner_text("#sentence").endswith(", to first order.")


def test_a_change_stands_beside_the_value_there(page, written):
    """Two digits of the estimate, and its share of the predicted value."""
    description, blobs = read_page(written)
    predicted = read_array(blobs["model0"], description["models"][0]["predicted"]["u"])
    index = read_array(blobs["model0"], description["models"][0]["test_index"]).tolist()
    value = predicted[index.index(row_of(page.inner_text("#expression")))]
    shown = re.search(r".*\((.*) % of u there\)", page.inner_text("#sentence"))
    assert shown is not None
    assert number(shown[1]) == pytest.approx(abs(100 * value_of(page) / value), rel=DIGITS)
    mantissa = page.inner_text("#value").split(" ")[0].strip("+−")
    assert len(mantissa.replace(".", "").lstrip("0")) <= 2


def test_a_condition_is_drawn_where_it_acts(page, scores):
    page.select_option("#quantity", "noslip_v")
    click(page, "first", "map", (1.0, 0.1))
    row = row_of(page.inner_text("#expression"))
    assert row in scores[0].acting_rows("noslip_v")


def test_heat_in_space_and_time(browser, tmp_path):
    rng = np.random.default_rng(0)
    edges = [[0.0, 0.3], [1.0, 0.6], [0.4, 0.0], [0.7, 0.0]]
    train_x = np.concatenate([rng.random((20, 2)), edges]).astype(np.float32)
    target = make_model(tmp_path / "heat", heat.PROBLEM, train_x, heat.reference().points[::29])
    write_explorer(tmp_path / "heat.html", [target])
    scores = load(target)
    with opened(browser, tmp_path / "heat.html") as page:
        click(page, "heat", "points", train_x[lonely(train_x)[0]])
        page.mouse.move(*pixel(page, "heat", "map", (0.5, 0.5)))
        assert "u reference" in page.inner_text("#tooltip")
        assert {"x", "t"} <= set(page.locator("#tooltip dt").all_inner_texts())
        expression = page.inner_text("#expression")
        value = eval(expression, {"scores": scores})
        row = scores["u"][row_of(expression)]
        allowed = 1.02 * stated(tmp_path / "heat.html", 0, "u") * abs(row).max()
        assert abs(value_of(page) - value) <= allowed + 1e-6 * abs(value)
