"""The `imgsearch` command: thin calls into the package, errors as one clear line."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from imgsearch_utils import search_commands, workspace
from imgsearch_utils.search_commands import JsonOption, RunOption
from imgsearch_utils.study import parse_study

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Teach an image search engine what you mean by similar.")


@app.callback()
def main() -> None:
    """Teach an image search engine what you mean by similar."""


def _settings(assignments: list[str]) -> dict:
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set expects NAME=VALUE, got {assignment!r}")
        settings[name] = yaml.safe_load(value)
    return settings


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A name in configs/, or a YAML file's path.")] = "synthetic_houses",
    name: Annotated[str, typer.Option("--run", help="The run's name; the study's own when not given.")] = "",
    assignments: Annotated[list[str], typer.Option("--set", help="Another setting, e.g. --set rounds=2.")] = [],  # noqa: B006
) -> None:
    """Run a study from pictures to report; resume what was begun, leave alone what is finished."""
    from imgsearch_utils import pipeline

    settings, path = _settings(assignments), workspace.find_study(study)
    in_configs = path.parent == workspace.source() / "configs"
    opened = workspace.open_run(study, name, settings)
    pipeline.execute(opened, settings=settings, study=path.stem if in_configs else str(path))


@app.command()
def publish(
    study: Annotated[str, typer.Argument(help="A name in configs/.")] = "synthetic_houses",
) -> None:
    """Make the run that is kept in git, published_<study>, and the outputs of the committed notebooks."""
    from imgsearch_utils import pipeline

    opened = workspace.open_run(study, f"published_{study}")
    pipeline.execute(opened, study=study)
    pipeline.refresh_notebooks(sorted(path.stem for path in (workspace.source() / "notebooks").glob("*.ipynb")))


@app.command()
def new(
    study: Annotated[str, typer.Argument(help="The study's name: letters, digits, - and _.")],
    images: Annotated[Path, typer.Argument(help="A folder of class folders, of pictures, or with a labels.csv.")],
) -> None:
    """Write configs/<study>.yaml for a folder of your own pictures, after looking at it."""
    from imgsearch_utils.images import describe_folder

    file = workspace.home() / "configs" / f"{study}.yaml"
    if file.exists():
        raise ValueError(f"{workspace.shown(file)} is there already; choose another name, or edit it")
    text, found = describe_folder(study, images.resolve())
    parse_study(yaml.safe_load(text), str(file))
    workspace.write_atomic(file, text)
    print(f"{found}\nwritten: {workspace.shown(file)}; next: make run STUDY={study}")


@app.command()
def tag(
    study: Annotated[str, typer.Argument(help="A name in configs/, or a YAML file's path.")],
    name: Annotated[str, typer.Option("--run", help="The run's name; the study's own when not given.")] = "",
    queue: Annotated[str, typer.Option(help="round, disagreements, suspected_errors, pooled or votes.")] = "round",
    number: Annotated[int, typer.Option("--round", help="The round whose pairs are asked.")] = 0,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Grade pairs on a page of its own, on this machine; stop it with Ctrl-C."""
    from imgsearch_utils import pipeline

    run = workspace.find_run(study, name).name
    given = {"STUDY": str(workspace.find_study(study)), "RUN": run, "QUEUE": queue, "ROUND": number}
    pipeline.serve("10_tagging_page", given, port, browser)


@app.command()
def score(
    pairs: Annotated[Path, typer.Argument(help="A CSV with image1 and image2.")],
    study: Annotated[str, typer.Option(help="A name in configs/, or a YAML file's path.")] = "synthetic_houses",
    name: Annotated[str, typer.Option("--run", help="The run's name; the study's own when not given.")] = "",
    out: Annotated[Path | None, typer.Option(help="The CSV to write; standard output when not given.")] = None,
) -> None:
    """Score any pairs by a run's latest head: score, P(similar), P(each grade), the encoder's cosine."""
    from imgsearch_utils.rounds import score_file

    scored, unknown, about = score_file(workspace.find_run(study, name), pairs)
    scored.to_csv(out or sys.stdout, index=False, float_format="%.6f", lineterminator="\n")
    role = "promoted" if about["promoted"] else "not promoted: search keeps the encoder"
    print(f"{len(scored):,} pairs scored by the head of round {about['round']} ({role}); similar is p_similar >= "
          f"{about['threshold']:.3f}", file=sys.stderr)
    if unknown:
        named = ", ".join(map(repr, unknown[:10]))
        print(f"{len(unknown)} image(s) are unknown to the run, their pairs have no score: {named}", file=sys.stderr)


app.add_typer(search_commands.app)
labels = typer.Typer(no_args_is_help=True, help="Import, export and count a study's graded pairs.")
app.add_typer(labels, name="labels")
StudyOption = Annotated[str, typer.Option("--study", help="A name in configs/, or a YAML file's path.")]


@labels.command("import")
def import_(files: list[Path], study: StudyOption, run: RunOption = "", as_json: JsonOption = False) -> None:
    """Add graded pairs from CSV files (image1,image2,similarity) to a study, naming what is odd about them."""
    from imgsearch_utils.label_store import import_labels

    opened = workspace.find_run(study, run)
    counts, problems = import_labels(opened, files)
    if as_json:
        print(json.dumps(counts))
        return
    print(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    if len(problems):
        print(f"{len(problems):,} rows to look at: {workspace.shown(opened.labels / 'import_problems.csv')}")


@labels.command()
def export(file: Path, study: StudyOption, run: RunOption = "") -> None:
    """Write a study's current grades to a CSV that can be imported again."""
    from imgsearch_utils.label_store import export_labels

    print(f"{export_labels(workspace.find_run(study, run), file):,} pairs: {file}")


@labels.command()
def summary(study: StudyOption, run: RunOption = "", as_json: JsonOption = False) -> None:
    """Count a study's current grades, and how far the annotators agree."""
    from imgsearch_utils.label_store import summarise_labels

    found = summarise_labels(workspace.find_run(study, run))
    print(json.dumps(found) if as_json else yaml.safe_dump(found, sort_keys=False).strip())


def entry() -> None:
    """Run the command; an error of use is one line on stderr and exit status 1."""
    try:
        app()
    except (ValueError, RuntimeError, FileNotFoundError, PermissionError, ImportError) as error:
        sys.exit(f"imgsearch: {error}")


if __name__ == "__main__":
    entry()
