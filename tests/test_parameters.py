"""A notebook's parameters: what it declares is all that it takes, and of the type it declares."""

from pathlib import Path

import nbformat
import pytest

from imgsearch_utils import parameters

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
CELL = "STUDY = 'tiny'\nROUND = 0\nSETTINGS = {}"
GIVEN = {"STUDY": "tiny", "ROUND": 0, "SETTINGS": {}}


def write_notebook(path: Path, *cells: str, tag: str = "parameters") -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.cells[0].metadata["tags"] = [tag]
    notebook.metadata = {
        "kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}
    }
    nbformat.write(notebook, path)
    return path


def test_declared_names_are_those_of_the_tagged_cell(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "A = 1  # one\nB = 'x'\nC = [1, 2]\n", "D = 2")
    assert parameters.declared(path) == {"A": 1, "B": "x", "C": [1, 2]}
    assert parameters.declared(write_notebook(tmp_path / "m.ipynb", "A = 1", tag="other")) == {}


@pytest.fixture(autouse=True)
def notebook_02(tmp_path, monkeypatch):
    """The notebook 02, wherever it is looked for."""
    path = write_notebook(tmp_path / "02.ipynb", CELL)
    monkeypatch.setattr(parameters, "notebook_path", lambda name: path)


def test_what_is_declared_passes():
    parameters.refuse_unknown("02", GIVEN, GIVEN)
    assert parameters.check("02", GIVEN) is None


@pytest.mark.parametrize(
    "name, expected",
    [
        ("RUOND", "Did you mean ROUND?"),
        ("STUDY_", "Did you mean STUDY?"),
        ("XQZ", "Choose from: STUDY, ROUND, SETTINGS."),
    ],
)
@pytest.mark.parametrize("value", [3, "3", 3.0, [3], {"a": 3}, True, None])
def test_an_undeclared_name_is_refused_with_the_nearest(name, expected, value):
    expected = f"02 declares no parameter {name}. {expected}"
    with pytest.raises(ValueError) as caught:
        parameters.refuse_unknown("02", GIVEN | {name: value}, GIVEN)
    assert str(caught.value) == expected
    with pytest.raises(ValueError) as caught:
        parameters.check("02", GIVEN | {name: value})
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("ROUND", "3", "ROUND must be int, got '3' (str)"),
        ("ROUND", True, "ROUND must be int, got True (bool)"),
        ("ROUND", 3.0, "ROUND must be int, got 3.0 (float)"),
        ("ROUND", None, "ROUND must be int, got None (NoneType)"),
        ("STUDY", 7, "STUDY must be str, got 7 (int)"),
        ("SETTINGS", [], "SETTINGS must be dict, got [] (list)"),
    ],
)
def test_a_value_of_another_type_is_refused(name, value, expected):
    with pytest.raises(ValueError) as caught:
        parameters.check("02", GIVEN | {name: value})
    assert str(caught.value) == f"02: {expected}"


def test_a_declared_name_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="ROUND must be int, got None"):
        parameters.check("02", {"STUDY": "tiny", "SETTINGS": {}})


def test_what_else_a_notebook_holds_is_no_parameter():
    namespace = GIVEN | {
        "Path": Path,
        "CLASS": Path,
        "pandas": nbformat,
        "In": [""],
        "Out": {},
        "_": 3,
        "_I1": "x",
        "share": 0.5,
        "__name__": "__main__",
    }
    before = dict(namespace)
    parameters.check("02", namespace)
    assert namespace == before
