"""Targets of the explorer's page, its loss terms, problems and help, in a real browser."""

import numpy as np
import pytest
from explorer_browser import (
    DIGITS,
    REMEMBERED,
    click,
    drag,
    lonely,
    number,
    opened,
    press,
    settle,
    stated,
    value_of,
)
from explorer_files import make_model
from matplotlib.path import Path as Polygon

from pinnfluence.explorer import write_explorer
from pinnfluence.problems import burgers, heat

REGION = [(0.6, 0.03), (1.9, 0.03), (1.9, 0.38), (0.6, 0.38)]


def target_weights(page) -> tuple[np.ndarray, np.ndarray]:
    """Test points of the file and their weights in the target, as the page computes with them."""
    rows, weights = page.evaluate("""() => {
        const { model, target } = explorer.focused();
        return [target.tests.map((i) => model.testIndex[i]), target.weights]; }""")
    return np.array(rows), np.array(weights)


def test_a_region_is_the_mean_of_its_test_points_by_area(page, written, scores):
    model = scores[0]
    page.locator("#tool-choice label:has([value=lasso])").click()
    drag(page, "first", "map", REGION)
    rows, weights = target_weights(page)
    inside = Polygon(REGION).contains_points(model.test_x)
    assert abs(inside.sum() - len(rows)) <= 2  # corners are rounded to pixels
    assert (
        np.isin(
            rows,
            np.flatnonzero(Polygon(REGION).contains_points(model.test_x, radius=0.01) | inside),
        ).mean()
        > 0.97
    )
    assert weights.sum() == pytest.approx(1)
    assert weights.max() > 1.5 * weights.min()
    j = page.evaluate("explorer.state.point.index")
    exact = weights @ np.asarray(model["u"][rows, j], np.float64)
    allowed = 1.1 * stated(written, 0, "u") * abs(np.asarray(model["u"][rows])).max()
    assert abs(value_of(page) - exact) <= allowed
    assert "the mean of u in the region" in page.inner_text("#sentence")
    assert eval(  # what the page says to type
        page.inner_text("#expression"), {"scores": model, "tests": rows, "weights": weights}
    ) == pytest.approx(exact)


def test_region_ratio_of_a_group_and_a_region(page, scores):
    model = scores[0]
    page.locator("#tool-choice label:has([value=lasso])").click()
    drag(page, "first", "map", REGION)
    drag(page, "first", "points", REGION)
    page.wait_for_selector("#ratio:not([hidden])")
    group = page.evaluate("explorer.focused().group")
    rows, _ = target_weights(page)
    step = max(1, len(rows) // 60)
    sizes = abs(np.asarray(model["u"][rows[::step]], np.float64))
    ratio = (sizes[:, group].sum(1) / sizes.sum(1)).mean()
    shown = number(page.inner_text("#ratio").split("region, ")[1])
    assert shown == pytest.approx(100 * ratio, rel=DIGITS)


def test_a_line_is_the_mean_along_it(page, scores):
    page.locator("#tool-choice label:has([value=line])").click()
    drag(page, "first", "map", [(0.7, 0.1), (1.7, 0.3)])
    rows, weights = target_weights(page)
    assert weights.sum() == pytest.approx(1)
    middle = weights @ scores[0].test_x[rows]
    np.testing.assert_allclose(middle, (1.2, 0.2), atol=0.02)
    assert "the mean of u on the line" in page.inner_text("#sentence")
    page.wait_for_function(REMEMBERED)
    value = value_of(page)
    address = page.evaluate("explorer.address()")
    assert "target=line" in address
    page.evaluate("a => explorer.open('#show=selection').then(() => explorer.open(a))", address)
    settle(page)
    assert value_of(page) == pytest.approx(value, rel=1e-3)
    page.click("#clear")
    settle(page)
    assert page.evaluate("explorer.state.target") == "point"


def test_loss_fractions_and_cancellation_are_those_of_python(page, scores):
    model = scores[0]
    row = int(lonely(model.test_x)[0])
    page.click("#tab-of-terms")
    click(page, "first", "map", model.test_x[row])
    parts = np.array([np.asarray(model.matrix("u", [t])[row], np.float64) for t in model.terms])
    sizes = abs(parts).sum(1)
    shown = [number(t) / 100 for t in page.locator("#fractions .number").all_inner_texts()]
    np.testing.assert_allclose(shown, sizes / sizes.sum(), rtol=DIGITS, atol=2e-3)
    size = abs(parts).sum(0)
    kappa = 1 - (abs(parts.sum(0)[size > 0]) / size[size > 0]).mean()
    assert number(page.inner_text("#cancellation").removeprefix("Cancellation ")) == pytest.approx(
        kappa, rel=DIGITS
    )
    page.wait_for_function(
        "() => document.querySelector('#along').ariaLabel?.includes('cancellation')"
    )


def test_search_finds_places_and_points(page, scores):
    page.fill("#search-text", "1.5, 0.2")
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("explorer.state.place") == [1.5, 0.2]
    page.fill("#search-text", "#7")
    page.click("#search [value=point]")
    settle(page)
    assert page.evaluate("explorer.state.point") == {"model": 0, "index": 7}
    page.fill("#search-text", "9, 9")
    page.keyboard.press("Enter")
    assert page.get_attribute("#search-text", "aria-invalid") == "true"


def test_lists_of_one_loss_term(page, scores):
    model = scores[0]
    row = int(lonely(model.test_x)[0])
    click(page, "first", "map", model.test_x[row])
    page.select_option("#list-term", "noslip_u")
    settle(page)
    exact = np.asarray(model.matrix("u", ["noslip_u"])[row], np.float64)
    shown = [number(text) for text in page.locator("#raise .number").all_inner_texts()]
    best = np.sort(exact)[::-1][:10]
    np.testing.assert_allclose(shown, best[best > 0], rtol=DIGITS)
    with page.expect_download() as download:
        press(page, "#save-list")
    lines = download.value.path().read_text().splitlines()
    assert "through noslip_u" in lines[0]
    raising, lowering = (
        np.argsort(-exact)[: (exact > 0).sum()],
        np.argsort(exact)[: (exact < 0).sum()],
    )
    expected = [*raising[:3], *lowering[:3]]
    indices = [int(line.split(",")[0]) for line in lines[6:]]
    assert [*indices[: len(raising)][:3], *indices[len(raising) :][:3]] == expected


def test_difference_map_and_table_of_models(page):
    press(page, "#difference")
    first, second, shown = page.evaluate("""() => {
        const { quantity, terms } = explorer.state, looks = explorer.looks();
        const own = looks.map(({ model, group }) => model.column(quantity, terms, group, 1));
        return [...own, looks[1].column].map((values) => Array.from(values)); }""")
    np.testing.assert_allclose(shown, np.subtract(second, first), rtol=1e-4, atol=1e-7 * max(first))
    page.click("#tab-of-models")
    settle(page)
    rows = page.locator("#models-table tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["first", "second"]
    assert all("not a prediction of retraining" in row for row in rows)


def test_the_tour_has_five_steps_and_the_formula_explains_itself(page):
    page.click("#start-tour")
    texts = []
    for _ in range(5):
        texts.append(page.inner_text("#tour-text"))
        page.click("#tour-next")
    assert len(set(texts)) == 5
    assert page.is_hidden("#tour")
    page.click("#tab-of-formula")
    page.click("#formula [data-part=damping]")
    settle(page)
    assert "damping" in page.inner_text("#formula-words")


def test_overview_first_then_a_click_selects(browser, written, scores):
    with opened(browser, written, "") as page:
        assert page.is_hidden("#meaning")
        assert "typical influence" in page.locator("figure.map canvas").first.get_attribute(
            "aria-label"
        )
        click(page, "first", "map", (1.2, 0.2))
        assert page.is_visible("#sentence")


def test_a_switch_between_problems(browser, tmp_path):
    paths = []
    for problem in (heat.PROBLEM, burgers.PROBLEM):
        assert problem.reference is not None
        points = problem.reference().points
        paths.append(make_model(tmp_path / problem.name, problem, points[::997], points[::409]))
    write_explorer(tmp_path / "page.html", paths)
    with opened(browser, tmp_path / "page.html") as page:
        assert page.evaluate("explorer.page.models.map((m) => m.name)") == ["heat"]
        page.select_option("#problem-choice", "1")
        page.wait_for_function("() => explorer.page.models[0].name === 'burgers'")
        page.wait_for_function(REMEMBERED)
        assert "problem=burgers" in page.url
        page.keyboard.press("Control+z")
        page.wait_for_function("() => explorer.page.models[0].name === 'heat'")
