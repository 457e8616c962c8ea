"""The benchmark of the map, on few images."""

import json

import pytest

browser = pytest.importorskip(
    "benchmarks.browser", reason="needs playwright: pip install -e '.[dev]'"
)
pytest.importorskip("plotly", reason="needs plotly: pip install -e '.[map]'")


@pytest.mark.skipif(browser.chromium() is None, reason=browser.INSTALL)
def test_it_measures_what_it_says(capsys):
    from benchmarks import map_page

    map_page.main(["--n", "2000", "--dim", "16", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 2000 and 0 < found["selected"] < 2000
    assert all(
        found[name] > 0 for name in ("drawn_seconds", "bare_seconds", "selected_ms", "pointed_ms")
    )
    assert found["frame_ms"] > 0 and found["bare_frame_ms"] > 0
    assert found["ratio_to_bare"] == found["drawn_seconds"] / found["bare_seconds"]
