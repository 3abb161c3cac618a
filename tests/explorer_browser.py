"""The explorer's page of two models in a real browser, and what a user does to it."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from explorer_files import flow_files, load, read_page
from scipy.spatial import cKDTree

from pinnfluence.diagnosis.files import CORRECTION
from pinnfluence.explorer import write_explorer
from pinnfluence.models.trained_model import load_model
from pinnfluence.problems import cylinder_flow
from pinnfluence.scores import tensor_file

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
CHROMIUM = CHROMIUM or shutil.which("google-chrome")
DIGITS = 5e-2
"""Relative rounding of a number shown with two digits."""


@pytest.fixture(scope="session")
def files(tmp_path_factory, flow_points):
    folder = tmp_path_factory.mktemp("explorer")
    points = cylinder_flow.reference().points
    walls = points[np.flatnonzero(points[:, 1] == 0)[::9]]
    paths = flow_files(folder, flow_points, 180, walls)
    model = load_model(folder / "first")
    step = np.random.default_rng(0).standard_normal(model.pinn.n_params) * 1e-3
    facts = {"network": model.identity}
    arrays = {"step": step, "candidates": points[::7], "helping": points[::7, 0] / 2.2}
    arrays["leverage"] = np.linspace(0, 1, len(model.train_x))
    tensor_file.write(folder / "first_diagnosis" / CORRECTION, arrays, facts)
    return paths


@pytest.fixture(scope="session")
def scores(files):
    return [load(file) for file in files]


@pytest.fixture(scope="session")
def written(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_explorer(path, files)
    return path


@pytest.fixture(scope="session")
def browser():
    """Chromium; without it all that ask for it are skipped, in one line of the summary."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium runs these tests")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: see make setup")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextlib.contextmanager
def opened(browser, path, address="#show=selection", **settings):
    """The page, ready; afterwards: no errors in the console, nothing asked of the network."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **settings})
    page = context.new_page()
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri() + address)
    page.wait_for_selector("body[data-ready]")
    yield page
    settle(page)
    context.close()
    assert faults == []
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []


@pytest.fixture(scope="session")
def shared(browser, written):
    with opened(browser, written) as found:
        yield found


@pytest.fixture
def page(shared):
    """The same page for many tests, each from the same state on."""
    shared.mouse.move(0, 0)
    shared.evaluate("() => explorer.open('#show=selection')")
    settle(shared)
    return shared


def press(page, selector: str) -> None:
    """A click, also on a button in a menu that is closed."""
    page.locator(selector).dispatch_event("click")
    settle(page)


def slide(page, selector: str, value: float) -> None:
    page.locator(selector).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })) }", value
    )
    settle(page)


REMEMBERED = "() => location.hash === explorer.address()"
"""The page has seen that the choice rests: from then on it can be undone."""


def drag(page, model: str, kind: str, places) -> None:
    """The mouse pressed at the first of some places, and let go at the last."""
    page.mouse.move(*pixel(page, model, kind, places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*pixel(page, model, kind, place), steps=3)
    page.mouse.up()
    settle(page)


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
    press(page, f"#scale-choice [value={scale}]")
