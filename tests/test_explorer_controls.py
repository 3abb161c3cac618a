"""Keys, fingers, addresses and pictures of the explorer's page in a real browser."""

import re

import numpy as np
import pytest
from explorer_browser import (
    REMEMBERED,
    click,
    opened,
    pixel,
    press,
    settle,
    slide,
)
from PIL import Image


def test_keys_move_the_selection_and_make_groups(page, scores):
    points = scores[0].train_x
    j = int(np.argmin(abs(points - (1.0, 0.2)).sum(1)))
    click(page, "first", "points", points[j])
    canvas = page.locator("figure.points canvas").first
    canvas.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    after = page.evaluate("explorer.state.point.index")
    assert points[after, 0] > points[j, 0]
    for _ in range(6):
        page.keyboard.press("g")
    settle(page)
    assert page.evaluate("explorer.state.polygon.length") == 48
    page.keyboard.press("Escape")
    page.keyboard.press("+")
    settle(page)
    view = page.evaluate("explorer.state.view")
    assert page.evaluate("explorer.state.polygon") is None
    assert view["x1"] - view["x0"] < 2
    page.keyboard.press("0")
    settle(page)
    view = page.evaluate("explorer.state.view")
    assert view["x1"] - view["x0"] == pytest.approx(2.2, rel=0.05)


def test_shift_moves_a_tenth_of_the_drawing(page, scores):
    points = scores[0].train_x
    j = int(np.argmin(abs(points - (0.6, 0.2)).sum(1)))
    click(page, "first", "points", points[j])
    page.locator("figure.points canvas").first.focus()
    page.keyboard.press("Shift+ArrowRight")
    settle(page)
    moved = points[page.evaluate("explorer.state.point.index")] - points[j]
    assert 0.2 < moved[0] < 0.7
    for _ in range(10):
        page.keyboard.press("Shift+ArrowRight")
    settle(page)
    assert points[page.evaluate("explorer.state.point.index"), 0] > 2.0


def test_every_control_is_named_and_reached_by_tab(page):
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("select, button, input, canvas[tabindex]")].filter(
        (e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label"))
        ).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.locator("#more summary").click()
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName + document.activeElement.id"))
    assert {"SELECTquantity", "INPUTpercent", "BUTTONsave-row", "CANVAS", "SELECTtarget"} <= seen
    page.locator("#more summary").click()


def test_backgrounds_limits_and_address(page, browser, written):
    page.select_option("#quantity", "speed")
    page.select_option("#background", "error:speed")
    press(page, "#log")
    slide(page, "#percent", 95)
    page.locator("#model-choice label:has([value='0'])").click()
    page.wait_for_url(re.compile("models=[^&%]*&.*limits=95"))  # one model
    address = page.url
    settle(page)
    before = page.locator("figure.points canvas").nth(1).screenshot()
    again = browser.new_page(viewport={"width": 1440, "height": 900})
    again.goto(address)
    again.wait_for_selector("body[data-ready]")
    assert again.evaluate("explorer.state.background") == "error:speed"
    assert again.evaluate("[explorer.state.percent, explorer.state.log]") == [95, True]
    assert again.locator("figure.points canvas").first.is_hidden()
    assert again.locator("figure.points canvas").nth(1).screenshot() == before
    again.close()


NO_ADDRESSES = (
    "point=first,-1",
    "point=first,1.5",
    "point=first,4000",
    "point=third,0",
    "place=1",
    "place=1,",
    "place=9,0.1",
    "quantity=w",
    "models=first,third",
    "terms=heat",
    "behind=error:w",
    "limits=0",
    "same=yes",
    "log=2",
    "tool=pen",
    "lasso=0.1,0.1,0.2,0.2",
    "lasso=5,5,6,5,5,6",
    "view=0,1,0,NaN",
    "view=1,0,0,0.1",
    "other=1",
)


def test_an_address_of_nothing_is_refused_and_changes_nothing(page):
    page.wait_for_function(REMEMBERED)
    before, shown = page.evaluate("explorer.address()"), page.inner_text("#details")
    assert "NaN" not in shown
    assert "–" not in page.inner_text("#value")
    for part in NO_ADDRESSES:
        page.evaluate("part => { location.hash = `show=selection&${part}` }", part)
        page.wait_for_function(
            "part => document.querySelector('#problem').innerText.includes(part)", arg=part
        )
        assert page.is_visible("#problem"), part
        settle(page)
        assert page.evaluate("explorer.address()") == before, part
        assert page.inner_text("#details") == shown, part


def test_the_address_holds_lasso_and_same_and_takes_edits(page, browser, written):
    page.evaluate(
        "location.hash = 'show=selection&quantity=p&same=0&tool=lasso&focus=second&point=second,3"
        "&lasso=0.5,0.05,1.7,0.05,1.7,0.4,0.5,0.4&view=0.2,1.3,0.1,0.305'"
    )
    page.wait_for_function("() => explorer.state.quantity === 'p'")
    settle(page)
    assert not page.is_checked("#same")
    assert page.is_checked("[name=tool][value=lasso]")
    assert not page.is_visible("#problem")
    page.wait_for_function(REMEMBERED)
    assert {"same=0", "tool=lasso", "focus=second"} <= set(page.url.split("#")[1].split("&"))
    with opened(browser, written) as again:
        again.goto(page.url)
        again.reload()
        again.wait_for_selector("body[data-ready]")
        assert again.evaluate("explorer.address()") == page.evaluate("explorer.address()")
        assert again.evaluate("explorer.state.polygon.length") == 4
        assert again.inner_text("#details") == page.inner_text("#details")
    page.evaluate("location.hash = 'log=1'")
    page.wait_for_function("() => explorer.state.log")
    assert page.evaluate("[explorer.state.same, explorer.state.polygon]") == [True, None]


def test_undo_goes_back_step_by_step(browser, written, scores):
    addresses = []
    with opened(browser, written) as page:
        for act in (
            lambda: page.select_option("#quantity", "p"),
            lambda: click(page, "second", "points", scores[1].train_x[3]),
            lambda: press(page, "#same"),
        ):
            page.wait_for_function(REMEMBERED)
            addresses.append(page.evaluate("explorer.address()"))
            act()
            settle(page)
        page.wait_for_function(REMEMBERED)
        for address in reversed(addresses):
            page.keyboard.press("Control+z")
            page.wait_for_function("a => explorer.address() === a", arg=address)
        page.wait_for_function("() => document.querySelector('#undo').disabled")


def test_axes_stay_equal_on_a_phone_and_two_fingers_zoom(browser, written):
    settings = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    with opened(browser, written, **settings) as page:
        corners = [(0.1, 0.1), (0.3, 0.1), (0.1, 0.3)]
        (x, y), (right, _), (_, top) = (pixel(page, "first", "map", p) for p in corners)
        assert right - x == pytest.approx(y - top, rel=1e-6)
        page.locator("figure.map canvas").first.evaluate("e => e.scrollIntoView()")
        middle = (0.8, 0.2)
        x, y = pixel(page, "first", "map", middle)
        touch = page.context.new_cdp_session(page)
        for kind, half in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60)):
            points = [{"x": x - half, "y": y, "id": 1}, {"x": x + half, "y": y, "id": 2}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settle(page)
        view = page.evaluate("explorer.state.view")
        assert view["x1"] - view["x0"] == pytest.approx(2.2 / 3, rel=0.1)
        assert pixel(page, "first", "map", middle)[0] == pytest.approx(x, abs=2)
        (x, y), (right, _), (_, top) = (pixel(page, "first", "map", p) for p in corners)
        assert right - x == pytest.approx(y - top, rel=1e-6)


def test_rounding_of_float32_is_no_error(page):
    kept = "explorer.kept ??= explorer.page.models[0].fields.predicted.u"
    try:
        for error, shown in ((6e-8, "below float32 rounding"), (5e-7, "5.0 × 10⁻⁷ m/s")):
            page.evaluate(
                f"""error => {{
                {kept};
                const {{ fields, mesh }} = explorer.page.models[0];
                explorer.state.quantity = "u";
                fields.predicted.u = Float64Array.from(mesh.reference.u, (value) => value + error);
                explorer.refresh();
            }}""",
                error,
            )
            settle(page)
            assert shown in page.inner_text("#facts")
    finally:
        page.evaluate("explorer.page.models[0].fields.predicted.u = explorer.kept")


def test_the_estimated_error_of_a_diagnosis_lies_behind_the_points(page):
    page.select_option("#background", "estimated:u")
    settle(page)
    behind = page.evaluate("""() => {
        const [first, second] = explorer.page.models;
        return [Array.from(explorer.background(first)), Array.from(first.fields.estimated.u),
          explorer.background(second)];
    }""")
    np.testing.assert_array_equal(behind[0], np.abs(behind[1]))
    assert min(behind[0]) >= 0 < max(behind[0])
    assert behind[2] is None
    page.mouse.move(*pixel(page, "first", "map", (1.0, 0.2)))
    assert "estimated error" in page.inner_text("#tooltip")


def test_where_a_new_point_would_help_lies_behind_the_points(page):
    page.select_option("#background", "helping:a new point")
    settle(page)
    behind = page.evaluate("Array.from(explorer.background(explorer.page.models[0]))")
    assert 0 <= min(behind) < max(behind) <= 1
    assert page.evaluate("explorer.background(explorer.page.models[1])") is None


@pytest.mark.parametrize("behind", ["smooth", "leverage:points", "residual:continuity"])
def test_what_lies_behind_the_points_changes_the_picture(page, behind):
    canvas = page.locator("figure.points canvas").first
    without = canvas.screenshot()
    page.select_option("#background", behind)
    settle(page)
    assert canvas.screenshot() != without
    page.evaluate("explorer.open(explorer.address())")
    settle(page)
    assert page.evaluate("explorer.state.background") == behind


@pytest.mark.parametrize(("scheme", "width"), [("light", 1366), ("dark", 390)])
def test_picture_and_page_fit_and_are_not_empty(browser, written, tmp_path, scheme, width):
    settings = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with opened(browser, written, **settings) as page:
        page.select_option("#background", "predicted:u")
        page.mouse.move(*pixel(page, "first", "map", (1.0, 0.2)))
        assert width < 400 or page.locator("#tooltip").is_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        with page.expect_download() as download:
            press(page, "#save-picture")
        for path in (tmp_path / "page.png", download.value.path()):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"), int)
            assert (pixels[2, 2].mean() > 128) == (scheme == "light")
            red, _, blue = pixels.transpose(2, 0, 1)
            assert (red - blue > 60).sum() > 500
            assert (blue - red > 60).sum() > 500
