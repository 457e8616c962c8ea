"""Indexes by name, and which arguments each one takes."""

import inspect
from functools import cache
from typing import Any

from imgsearch_utils.study import nearest
from imgsearch_utils.workspace.registry import Registry


class MissingPackage(ImportError):
    """An index's optional library is not installed; the message holds the line that installs it."""


class Unreachable(ConnectionError):
    """An index's server does not answer; the message says which, and what to do."""


INDEXES = Registry("index", wings="indexes")
find = INDEXES.find


def register(name: str):
    """Class decorator: make the index known by this name; a name that is taken raises."""

    def add(kind: type) -> type:
        INDEXES.register(name)(kind).name = name
        return kind

    return add


@cache
def arguments_of(name: str, verb: str) -> dict[str, Any]:
    """Name -> default of what an index's build or query takes; unknown index names are refused."""
    method = {"build": find(name)._build, "query": find(name)._search}[verb]
    parameters = inspect.signature(method).parameters.values()
    return {
        p.name: p.default for p in parameters if p.default is not p.empty and p.name != "allowed"
    }


def check_arguments(name: str, verb: str, arguments) -> None:
    """Refuse an argument that the index's build or query does not take, with the nearest that it
    does.
    """
    known_arguments = arguments_of(name, verb)
    for argument in arguments:
        if argument not in known_arguments:
            advice = nearest(argument, known_arguments) if known_arguments else "It takes none."
            raise ValueError(f"{name} has no {verb} argument {argument}. {advice}")
