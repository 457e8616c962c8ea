"""The contract of every notebook, found by glob, so that a new one cannot escape."""

import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param.stem, nbformat.read(request.param, as_version=4)


def parameters_cell(cells):
    [place] = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    return place


def test_those_of_the_pipeline_are_there():
    assert [path.stem for path in NOTEBOOKS if path.stem[0] == "0"] == [
        "01_data_tagging",
        "02_siamese_active_learning",
        "03_ann_comparison",
        "04_report",
        "05_teach",
    ]


def test_opens_with_title_promise_and_what_it_reads_and_writes(notebook):
    name, content = notebook
    first = content.cells[0].source
    assert first.startswith(f"# {name[:2]} · ") and first.splitlines()[1].startswith("*")
    for heading in ("**You will learn**", "**Reads**", "**Writes**"):
        assert heading in first, heading


def test_parameters_are_literals_and_checked_in_the_next_cell(notebook):
    name, content = notebook
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    place = parameters_cell(code)
    names = []
    for statement in ast.parse(code[place].source).body:
        assert isinstance(statement, ast.Assign), "only NAME = literal"
        ast.literal_eval(statement.value)
        names += [target.id for target in statement.targets]
    assert {"STUDY", "RUN"} <= set(names)
    assert code[place + 1].source.split("\n")[0] == f'parameters.check("{name}", globals())'


def test_code_is_short_and_defines_nothing(notebook):
    for cell in notebook[1].cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15
            kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
            assert not [
                node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)
            ]


def test_prose_comes_before_code(notebook):
    cells = notebook[1].cells
    assert sum(cell.cell_type == "markdown" for cell in cells) * 3 >= len(cells)


def test_carries_outputs_without_errors_paths_or_times(notebook):
    code = [cell for cell in notebook[1].cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in code)
    figures = [cell for cell in code if "plots." in cell.source.splitlines()[-1]]
    assert all("image/png" in output.data for cell in figures for output in cell.outputs[-1:])
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), (
        "run it from top to bottom"
    )
    for cell in code:
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            text = "".join(output.get("text", "")) + "".join(
                output.get("data", {}).get("text/plain", "")
            )
            assert str(Path.home()) not in text and str(NOTEBOOKS[0].parents[1]) not in text
