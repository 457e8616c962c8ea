"""Loads what nearly every notebook needs, before a kernel is forked off; no code of this package,
which may change.
"""

import contextlib
import importlib
import os

# as ipykernel would
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
for name in (
    "ipykernel.ipkernel",
    "matplotlib.figure",
    "seaborn",
    "sklearn.metrics",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "torch",
    "ir_measures",
    "filelock",
    "yaml",
):
    with contextlib.suppress(Exception):  # a notebook that needs it will say so
        importlib.import_module(name)
with contextlib.suppress(Exception):  # pandas asks only at its import whether it is in a notebook
    importlib.import_module("pandas").set_option("display.max_columns", 20)
