"""A notebook's declared parameters: read them, check what is given, refuse with the nearest name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import papermill

from imgsearch_utils.study import nearest


def declared(notebook: Path) -> dict[str, str]:
    """The names in a notebook's cell tagged `parameters`, each with its default as source text."""
    return {name: entry["default"] for name, entry in papermill.inspect_notebook(str(notebook)).items()}


def refuse_unknown(notebook: str, given: Iterable[str], names) -> None:
    """Raise ValueError for the first given name that the notebook does not declare."""
    for name in given:
        if name not in names:
            raise ValueError(f"{notebook} declares no parameter {name}. {nearest(name, names)}")


def check(notebook: str, namespace: Mapping[str, Any], **types: type) -> None:
    """Check a notebook's parameters from inside it: the cell after the parameters calls this.

    Papermill only warns of a parameter that a notebook does not declare, and hands over whatever type
    the command line had; both end here instead.

    Parameters
    ----------
    namespace : the notebook's ``globals()``; its upper-case names are the given parameters
    types : the declared names and their types

    Raises
    ------
    ValueError
        for an undeclared name (with the nearest declared one) or a value of another type.
    """
    given = {name: value for name, value in namespace.items() if name.isupper() and not name.startswith("_")}
    plain = str | int | float | list | dict | None
    refuse_unknown(notebook, [name for name, value in given.items() if isinstance(value, plain)], types)
    for name, kind in types.items():
        value = given.get(name)
        if type(value) is not kind:
            raise ValueError(f"{notebook}: {name} must be {kind.__name__}, got {value!r} ({type(value).__name__})")
