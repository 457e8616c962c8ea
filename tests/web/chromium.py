"""The mark of a test that needs a real browser."""

import pytest

browser = pytest.importorskip(
    "benchmarks.browser", reason="needs playwright: pip install -e '.[dev]'"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe: pip install -e '.[dev]'"
)


def needs_chromium(test):
    """Slow: a browser, and mostly a page's server, are started for it."""
    there = pytest.mark.skipif(browser.chromium() is None, reason=browser.INSTALL)
    return pytest.mark.browser(there(test))


SIZES = ((1280, 800), (400, 800))


def faults(page) -> list[str]:
    """What axe-core calls serious or critical, at both sizes, and what is wider than the screen."""
    found = []
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for fault in axe.Axe().run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found.append(f"{width}: {fault['id']}: {fault['nodes'][0]['html'][:200]}")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{width}: wider than the screen")
    page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
    return found
