"""The commands of grades: labels import, export, summary."""

import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from imgsearch_utils import workspace
from imgsearch_utils.cli.files import bytes_read
from imgsearch_utils.workspace.command_options import JsonOption, RunOption, StudyOption

app = typer.Typer(no_args_is_help=True, help="Import, export and count a study's graded pairs.")


@app.command("import")
def import_(
    files: list[Path], study: StudyOption, run: RunOption = "", as_json: JsonOption = False
) -> None:
    """Add graded pairs from CSV files (image1,image2,similarity), naming what is odd about them."""
    from imgsearch_utils.grades.import_export import import_labels
    from imgsearch_utils.grades.pairs import read_grades

    with bytes_read(files[0]) as watch:
        pairs = read_grades(files, watch)  # what cannot be read begins no run
    opened = workspace.find_run(study, run, begin=True)
    counts, problems = import_labels(opened, pairs)
    if as_json:
        print(json.dumps(counts))
        return
    print(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    if len(problems):
        print(
            f"{len(problems):,} rows to look at: "
            f"{workspace.shown(opened.labels / 'import_problems.csv')}"
        )


@app.command()
def export(
    file: Path,
    study: StudyOption,
    run: RunOption = "",
    votes: Annotated[
        bool, typer.Option("--votes", help="The votes of the search page instead.")
    ] = False,
) -> None:
    """Write a study's grades to a CSV that can be imported again; or its votes."""
    from imgsearch_utils.grades.import_export import export_labels, export_votes

    opened = workspace.find_run(study, run)
    count, what = (
        (export_votes(opened, file), "votes") if votes else (export_labels(opened, file), "pairs")
    )
    print(f"{count:,} {what}: {file}")


@app.command()
def summary(study: StudyOption, run: RunOption = "", as_json: JsonOption = False) -> None:
    """Count a study's current grades, and how far the annotators agree."""
    from imgsearch_utils.grades.import_export import summarise_labels

    counts = summarise_labels(workspace.find_run(study, run))
    print(json.dumps(counts) if as_json else yaml.safe_dump(counts, sort_keys=False).strip())
