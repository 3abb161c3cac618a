"""The explorer's page in a real browser: what it shows against the score files, without network."""

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from explorer_files import load, make_model, read_array, read_page
from PIL import Image
from scipy.spatial import cKDTree

from pinnfluence.explorer import write_explorer
from pinnfluence.problems import cylinder_flow, heat

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
CHROMIUM = CHROMIUM or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium runs these tests"
)
DIGITS = 5e-2
"""Relative rounding of a number shown with two digits."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, flow_points):
    folder = tmp_path_factory.mktemp("explorer")
    points = cylinder_flow.reference().points
    test_x = points[np.random.default_rng(1).permutation(len(points))[:180]]
    walls = np.flatnonzero(points[:, 1] == 0)[::9]
    test_x = np.concatenate([test_x, points[walls]])
    make_model(folder / "first", cylinder_flow.PROBLEM, flow_points(40, 1), test_x, 1)
    make_model(folder / "second", cylinder_flow.PROBLEM, flow_points(25, 2), test_x, 2)
    return [folder / "first_influences", folder / "second_influences"]


@pytest.fixture(scope="module")
def scores(files):
    return [load(file) for file in files]


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_explorer(path, files)
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: see make setup")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextlib.contextmanager
def opened(browser, path, **settings):
    """The page, ready; afterwards: no errors in the console, nothing asked of the network."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **settings})
    page = context.new_page()
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    yield page
    settle(page)
    context.close()
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []


@pytest.fixture
def page(browser, written):
    with opened(browser, written) as found:
        yield found


def settle(page) -> None:
    """Two frames later all is drawn."""
    page.evaluate("() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")


def pixel(page, model: str, kind: str, place) -> list[float]:
    place = [float(c) for c in place]
    return page.evaluate("([m, k, p]) => explorer.pixelOf(m, k, p)", [model, kind, place])


def click(page, model: str, kind: str, place) -> None:
    page.mouse.click(*pixel(page, model, kind, place))
    settle(page)


def number(text: str) -> float:
    """1.5 × 10⁻³ m/s as a number."""
    found = re.match(r"([+−]?)(\d+(?:\.\d+)?)(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    assert found is not None, text
    sign, mantissa, power = found.groups()
    exponent = (power or "⁰").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return (-1 if sign == "−" else 1) * float(mantissa) * 10.0 ** int(exponent)


def value_of(page) -> float:
    """The number that is shown with two digits, in all of them."""
    exact = float(page.get_attribute("#value", "value"))
    assert number(page.inner_text("#value")) == pytest.approx(exact, rel=DIGITS)
    return exact


def row_of(expression: str) -> int:
    """The test point in ``scores["u"][12, 34]``."""
    return int(expression.rpartition("[")[2].split(",")[0])


def stated(written: Path, model: int, quantity: str) -> float:
    """The error that the page states, relative to the largest score of a row."""
    return read_page(written)[0]["models"][model]["errors"][quantity]["rows"]["largest"]


def lonely(points: np.ndarray) -> np.ndarray:
    """Points from the most isolated on: a click there means no other."""
    return np.argsort(-cKDTree(points).query(points, k=2)[0][:, 1])


def choose(page, quantity: str, group: str = "all", scale: str = "removal") -> None:
    page.select_option("#quantity", quantity)
    page.click("#terms-summary")
    page.click(f"#terms-buttons [value={group}]")
    page.keyboard.press("Escape")
    page.locator(f"#scale-choice label:has([value={scale}])").click()
    settle(page)


# ---- numbers


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
        page.click("#save-row")
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
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    page.mouse.move(*pixel(page, "first", "points", corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*pixel(page, "first", "points", corner), steps=3)
    page.mouse.up()
    settle(page)
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
        assert page.inner_text("#note") == "recipe gauss-newton: predicts retraining to first order"
        assert "training again would, to first order," in page.inner_text("#sentence")


def test_a_change_stands_beside_the_value_there(page, written):
    """Two digits of the estimate, and its share of the predicted value."""
    description, blobs = read_page(written)
    predicted = read_array(blobs["model0"], description["models"][0]["predicted"]["u"])
    index = read_array(blobs["model0"], description["models"][0]["test_index"]).tolist()
    value = predicted[index.index(row_of(page.inner_text("#expression")))]
    shown = re.search(r".*, (.*) % of the value there", page.inner_text("#sentence"))
    assert shown is not None
    assert number(shown[1]) == pytest.approx(abs(100 * value_of(page) / value), rel=DIGITS)
    mantissa = page.inner_text("#value").split(" ")[0].strip("+−")
    assert len(mantissa.replace(".", "").lstrip("0")) <= 2


def test_a_condition_is_drawn_where_it_acts(page, scores):
    page.select_option("#quantity", "noslip_v")
    click(page, "first", "map", (1.0, 0.1))
    row = row_of(page.inner_text("#expression"))
    assert row in scores[0].acting_rows("noslip_v")


# ---- use


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
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.tagName + document.activeElement.id"))
    assert {"SELECTquantity", "INPUTpercent", "BUTTONsave-row", "CANVAS"} <= seen


def test_backgrounds_limits_and_address(page, browser, written):
    page.select_option("#quantity", "speed")
    page.select_option("#background", "error:speed")
    page.check("#log")
    page.locator("#percent").fill("95")
    page.locator("#model-choice label:has([value='0'])").click()
    page.wait_for_url(re.compile("models=[^&%]*&.*limits=95"))  # one model
    address = page.url
    before = page.locator("figure.points canvas").nth(1).screenshot()
    again = browser.new_page(viewport={"width": 1440, "height": 900})
    again.goto(address)
    again.wait_for_selector("body[data-ready]")
    assert again.evaluate("explorer.state.background") == "error:speed"
    assert again.evaluate("[explorer.state.percent, explorer.state.log]") == [95, True]
    assert again.locator("figure.points canvas").first.is_hidden()
    assert again.locator("figure.points canvas").nth(1).screenshot() == before
    again.close()


@pytest.mark.parametrize(
    "part",
    [
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
    ],
)
def test_an_address_of_nothing_is_refused_and_changes_nothing(page, part):
    page.wait_for_timeout(350)  # until the address is written
    before, shown = page.evaluate("explorer.address()"), page.inner_text("#details")
    page.evaluate("part => { location.hash = part }", part)
    page.wait_for_selector("#problem", state="visible")
    assert f"{part}" in page.inner_text("#problem")
    settle(page)
    assert page.evaluate("explorer.address()") == before
    assert page.inner_text("#details") == shown
    assert "NaN" not in shown
    assert "–" not in page.inner_text("#value")


def test_the_address_holds_lasso_and_same_and_takes_edits(page, browser, written):
    page.evaluate(
        "location.hash = 'quantity=p&same=1&tool=lasso&focus=second&point=second,3"
        "&lasso=0.5,0.05,1.7,0.05,1.7,0.4,0.5,0.4&view=0.2,1.3,0.1,0.305'"
    )
    page.wait_for_function("explorer.state.quantity === 'p'")
    settle(page)
    assert page.is_checked("#same")
    assert page.is_checked("[name=tool][value=lasso]")
    assert not page.is_visible("#problem")
    page.wait_for_timeout(350)
    assert {"same=1", "tool=lasso", "focus=second"} <= set(page.url.split("#")[1].split("&"))
    with opened(browser, written) as again:
        again.goto(page.url)
        again.reload()
        again.wait_for_selector("body[data-ready]")
        assert again.evaluate("explorer.address()") == page.evaluate("explorer.address()")
        assert again.evaluate("explorer.state.polygon.length") == 4
        assert again.inner_text("#details") == page.inner_text("#details")
    page.evaluate("location.hash = 'log=1'")
    page.wait_for_function("explorer.state.log")
    assert page.evaluate("[explorer.state.same, explorer.state.polygon]") == [False, None]


def test_undo_goes_back_step_by_step(page, scores):
    addresses = []
    for act in (
        lambda: page.select_option("#quantity", "p"),
        lambda: click(page, "second", "points", scores[1].train_x[3]),
        lambda: page.check("#same"),
    ):
        page.wait_for_timeout(350)
        addresses.append(page.evaluate("explorer.address()"))
        act()
    for address in reversed(addresses):
        page.keyboard.press("Control+z")
        settle(page)
        assert page.evaluate("explorer.address()") == address
    page.wait_for_timeout(350)
    assert page.is_disabled("#undo")


def test_axes_stay_equal_on_a_phone_and_two_fingers_zoom(browser, written):
    settings = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
    with opened(browser, written, **settings) as page:
        corners = [(0.1, 0.1), (0.3, 0.1), (0.1, 0.3)]
        (x, y), (right, _), (_, top) = (pixel(page, "first", "map", p) for p in corners)
        assert right - x == pytest.approx(y - top, rel=1e-6)
        page.locator("figure.map canvas").first.scroll_into_view_if_needed()
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
    for error, shown in ((6e-8, "below float32 rounding"), (5e-7, "5.0 × 10⁻⁷ m/s")):
        page.evaluate(
            """error => {
            const { models, state } = { models: explorer.page.models, state: explorer.state };
            state.quantity = "u";
            const { predicted, mesh } = models[0], given = mesh.reference.u;
            predicted.u = Float64Array.from(given, (value) => value + error);
            explorer.refresh();
        }""",
            error,
        )
        settle(page)
        assert shown in page.inner_text("#facts")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_picture_and_page_fit_and_are_not_empty(browser, written, tmp_path, scheme, width):
    settings = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with opened(browser, written, **settings) as page:
        page.select_option("#background", "predicted:u")
        page.mouse.move(*pixel(page, "first", "map", (1.0, 0.2)))
        assert width < 400 or page.locator("#tooltip").is_visible()
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        with page.expect_download() as download:
            page.click("#save-picture")
        for path in (tmp_path / "page.png", download.value.path()):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"), int)
            assert (pixels[2, 2].mean() > 128) == (scheme == "light")
            red, _, blue = pixels.transpose(2, 0, 1)
            assert (red - blue > 60).sum() > 500
            assert (blue - red > 60).sum() > 500


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
