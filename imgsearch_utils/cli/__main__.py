"""``python -m imgsearch_utils.cli``: the same as `imgsearch`."""

from imgsearch_utils.cli import entry

entry()
