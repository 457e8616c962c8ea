"""The commands of grades and comparisons: labels import, export, summary."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from imgsearch_utils import workspace
from imgsearch_utils.cli.files import bytes_read
from imgsearch_utils.workspace.account import Account
from imgsearch_utils.workspace.command_options import JsonOption, RunOption, StudyOption

if TYPE_CHECKING:
    import pandas as pd  # half a second, which the command's help does not need

app = typer.Typer(no_args_is_help=True, help="Import, export and count a study's graded pairs.")


@app.command("import")
def import_(
    files: list[Path],
    study: StudyOption,
    run: RunOption = "",
    begin: Annotated[
        bool, typer.Option("--begin", help="Begin the run that is named, where it is not there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add graded pairs (image1,image2,similarity) or comparisons (query,closer,farther) from CSV
    files, naming what is odd about them.
    """
    from imgsearch_utils.grades.comparison_files import holds_comparisons

    compared = [file for file in files if holds_comparisons(file)]
    if compared and len(compared) < len(files):
        raise ValueError(
            f"{compared[0]} holds comparisons, and not all of the others do; import graded pairs "
            "and comparisons by a command each"
        )
    if compared:
        _import_comparisons(files, study, run, begin, as_json)
    else:
        _import_pairs(files, study, run, begin, as_json)


def _import_comparisons(
    files: list[Path], study: str, run: str, begin: bool, as_json: bool
) -> None:
    from imgsearch_utils.grades.comparison_files import (
        COMPARISON_ACCOUNT,
        import_comparisons,
        read_comparisons,
    )

    triplets = read_comparisons(files)  # what cannot be read begins no run
    opened = workspace.find_run(study, run, begin=workspace.NAMED if begin else True)
    counts, problems = import_comparisons(opened, triplets)
    account = Account.read(opened.labels / COMPARISON_ACCOUNT)
    _say(counts, problems, account, opened.labels / "comparison_problems.csv", as_json)


def _import_pairs(files: list[Path], study: str, run: str, begin: bool, as_json: bool) -> None:
    from imgsearch_utils.grades.import_export import IMPORT_ACCOUNT, import_labels
    from imgsearch_utils.grades.pairs import read_grades

    with bytes_read(files[0]) as watch:
        pairs = read_grades(files, watch)  # what cannot be read begins no run
    opened = workspace.find_run(study, run, begin=workspace.NAMED if begin else True)
    counts, problems = import_labels(opened, pairs)
    account = Account.read(opened.labels / IMPORT_ACCOUNT)
    _say(counts, problems, account, opened.labels / "import_problems.csv", as_json)


def _say(
    counts: dict[str, int], problems: "pd.DataFrame", account: Account, place: Path, as_json: bool
) -> None:
    if as_json:
        print(json.dumps(counts))
        return
    print(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    print("\n".join(account.lines()))
    if len(problems):
        print(f"{len(problems):,} rows to look at: {workspace.shown(place)}")


@app.command()
def export(
    file: Path,
    study: StudyOption,
    run: RunOption = "",
    votes: Annotated[
        bool, typer.Option("--votes", help="The votes of the search page instead.")
    ] = False,
    comparisons: Annotated[
        bool, typer.Option("--comparisons", help="The comparisons instead.")
    ] = False,
) -> None:
    """Write a study's grades to a CSV that can be imported again; or its votes, or comparisons."""
    from imgsearch_utils.grades.comparison_files import export_comparisons
    from imgsearch_utils.grades.import_export import export_labels, export_votes

    if votes and comparisons:
        raise ValueError("expected --votes or --comparisons, got both; write a file for each")
    opened = workspace.find_grades(study, run)
    if comparisons:
        count, neither = export_comparisons(opened, file)
        left_out = f' (without {neither:,} answers "neither")' if neither else ""
        print(f"{count:,} comparisons{left_out}: {file}")
        return
    count, what = (
        (export_votes(opened, file), "votes") if votes else (export_labels(opened, file), "pairs")
    )
    print(f"{count:,} {what}: {file}")


@app.command()
def summary(study: StudyOption, run: RunOption = "", as_json: JsonOption = False) -> None:
    """Count a study's current grades, and how far the annotators agree."""
    from imgsearch_utils.grades.import_export import summarise_labels

    counts = summarise_labels(workspace.find_grades(study, run))
    print(json.dumps(counts) if as_json else yaml.safe_dump(counts, sort_keys=False).strip())
