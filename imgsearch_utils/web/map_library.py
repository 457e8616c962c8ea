"""Where the library is that draws the map, apart from the map's page, so that a server starts in a
moment.
"""

from importlib.util import find_spec
from pathlib import Path

NO_PLOTLY = "the map is drawn by plotly, an extra: pip install 'imgsearch-utils[map]'"


def plotly_file() -> Path:
    """Where plotly's JavaScript is; ValueError where it is not installed."""
    if not (spec := find_spec("plotly")):
        raise ValueError(NO_PLOTLY)
    return Path(spec.origin).with_name("package_data") / "plotly.min.js"
