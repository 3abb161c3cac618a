"""The explorer's page in headless Chromium: size, times to load and of a click, faults.

python benchmarks/explorer_page.py [scores ...] [--checkpoint ...]

By default of the scores that ``make demo`` writes. With the packages of ``make explorer-bundle``
installed, axe-core looks at what a screen reader would meet, in both themes.
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

from pinnfluence.explorer import write_explorer
from pinnfluence.storage.files import write_bytes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "explorer_page.json"
AXE = ROOT / "pinnfluence" / "explorer" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PAGE = ROOT / "build" / "explorer_benchmark.html"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CLICKS = 20
CHOOSE = """() => performance.getEntriesByName("choose", "measure").map((m) => m.duration)"""


def load(page: Page) -> dict[str, float]:
    """Milliseconds to the first paint and until all is drawn."""
    page.goto(PAGE.as_uri())
    page.wait_for_selector("body[data-ready]")
    paint = "performance.getEntriesByName('first-paint')[0].startTime"
    ready = "performance.getEntriesByName('ready')[0].startTime"
    return {"first_paint_ms": page.evaluate(paint), "ready_ms": page.evaluate(ready)}


def clicks(page: Page) -> dict[str, float]:
    """Milliseconds from a click to all drawings, over places in the first map."""
    box = page.locator("figure.map canvas").first.bounding_box()
    assert box is not None
    for number in range(CLICKS):
        x = box["x"] + 60 + (box["width"] - 90) * number / CLICKS
        page.mouse.click(x, box["y"] + 0.6 * box["height"])
        page.wait_for_function(f"() => ({CHOOSE})().length > {number}")
    times = sorted(page.evaluate(CHOOSE))
    return {"click_median_ms": statistics.median(times), "click_largest_ms": times[-1]}


def processor_time(session: CDPSession) -> float:
    """Milliseconds that the page's main thread has worked: also a busy machine tells these."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1000 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")


def axe(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds that is serious or critical."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("() => axe.run()")["violations"]
    return [
        {"rule": one["id"], "impact": one["impact"], "where": [n["target"] for n in one["nodes"]]}
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def measure() -> dict[str, Any]:
    """All figures; the page is the file ``PAGE``."""
    result: dict[str, Any] = {"megabytes": PAGE.stat().st_size / 1e6, "axe": {}}
    console: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1366, "height": 768}, color_scheme=scheme, bypass_csp=True
            )
            page = context.new_page()
            page.on("console", lambda message: console.append(message.text))
            page.on("pageerror", lambda error: console.append(str(error)))
            session = context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            figures = load(page)
            at_load = processor_time(session)
            figures |= clicks(page)
            per_click = (processor_time(session) - at_load) / CLICKS
            figures |= {"ready_cpu_ms": at_load, "click_cpu_ms": per_click}
            if scheme == "light":
                result |= figures
            if AXE.is_file():
                result["axe"][scheme] = axe(page)
            context.close()
        browser.close()
    return result | {"console": console}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = [ROOT / "model_zoo" / f"{name}_influences" for name in ("good", "broken", "bad")]
    parser.add_argument("scores", type=Path, nargs="*", default=default)
    parser.add_argument("--checkpoint", type=Path, nargs="+", default=[])
    arguments = parser.parse_args()
    PAGE.parent.mkdir(exist_ok=True)
    sources = write_explorer(PAGE, arguments.scores, arguments.checkpoint)
    result = {"models": [source.name for source in sources]} | measure()
    print(json.dumps(result, indent=1))
    write_bytes(RESULTS, f"{json.dumps(result, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
