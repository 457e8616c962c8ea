"""The house: which room may import which, read from the import statements."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "imgsearch_utils"
#: the core from the ground up; a room imports only itself and what stands before it
CORE = (
    "study",
    "metrics",
    "workspace",
    "plots",
    "indexes",
    "images",
    "encoders",
    "grades",
    "learning",
    "asking",
    "search",
    "evaluation",
    "steps",
    "web",
    "cli",
)
#: what the core never imports; it finds them by entry points. None imports another
WINGS = ("drawn_houses", "engines", "finetuning", "shards")
FLOORS = CORE + WINGS


def imported(file: Path) -> set[str]:
    """The rooms that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parents = file.relative_to(PACKAGE).parts[:-1]
            kept = parents[: len(parents) - node.level + 1]
            path = [*kept, *(node.module or "").split(".")]
            rooms |= {part for part in path[:1] if part} or {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            inner = node.module.split(".")[1:2]
            rooms |= set(inner) or {alias.name for alias in node.names}
    return rooms


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def test_every_room_has_its_floor():
    assert {room_of(file) for file in FILES} == set(FLOORS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_rooms_below_it(file):
    own = room_of(file)
    allowed = {own, *CORE[: CORE.index(own)]} if own in CORE else {own, *CORE}
    assert imported(file) <= allowed, f"{own} imports what stands above it, or a wing"


def test_no_two_files_have_one_name():
    names = Counter(file.name for file in FILES if not file.name.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    "folder",
    [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()],
    ids=lambda path: path.name,
)
def test_a_folder_says_what_comes_in_and_what_goes_out(folder):
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert told and (folder.name == "drawn_houses" or ("In:" in told and "Out:" in told))
