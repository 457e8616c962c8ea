"""A notebook's declared parameters: read from its tagged cell, and what is given checked against
them.
"""

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import notebook_path


def declared(notebook: Path) -> dict[str, Any]:
    """The parameters of a notebook, name -> default, from its cell tagged `parameters`.

    Read as plain JSON: importing nbformat takes as long as importing torch, in every notebook.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = [
        "".join(cell["source"])
        for cell in cells
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for source in sources
        for statement in ast.parse(source).body
    }


def refuse_unknown(notebook: str, given: Iterable[str], names: Iterable[str]) -> None:
    """Raise ValueError for the first given name that the notebook does not declare."""
    for name in given:
        if name not in names:
            raise ValueError(f"{notebook} declares no parameter {name}. {nearest(name, names)}")


def check(notebook: str, namespace: Mapping[str, Any]) -> None:
    """Check a notebook's parameters from inside it: the cell after the parameters calls this.

    Papermill only warns of a parameter that a notebook does not declare, and hands over whatever
    type the command line had; both end here instead. What is declared, and of which type, says the
    tagged cell.

    Parameters
    ----------
    notebook : its name in notebooks/, without the ending
    namespace : the notebook's ``globals()``; its upper-case names are the given parameters

    Raises
    ------
    ValueError
        for an undeclared name (with the nearest declared one) or a value of another type.
    """
    expected = declared(notebook_path(notebook))
    plain = str | int | float | list | dict | None
    given_values = {
        name: value
        for name, value in namespace.items()
        if name.isupper() and not name.startswith("_")
    }
    refuse_unknown(
        notebook,
        [name for name, value in given_values.items() if isinstance(value, plain)],
        expected,
    )
    for name, default in expected.items():
        value = given_values.get(name)
        if type(value) is not type(default):
            kinds = type(default).__name__, type(value).__name__
            raise ValueError(f"{notebook}: {name} must be {kinds[0]}, got {value!r} ({kinds[1]})")
