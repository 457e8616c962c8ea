"""The commands of a study's life: unpack, new, run, check, tag, score, publish."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.cli.files import bytes_read, output
from imgsearch_utils.cli.options import JsonOption, RunOption, StudyArgument, StudyOption
from imgsearch_utils.study import parse_study, plain_values

app = typer.Typer()


def _settings(assignments: list[str]) -> dict:
    settings = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set expects NAME=VALUE, got {assignment!r}")
        if name in settings:
            raise ValueError(f"--set {name} stands twice; keep one")
        settings[name] = plain_values(value, f"--set {assignment[:80]!r}")
    return settings


@app.command()
def run(
    study: StudyArgument = "synthetic_houses",
    name: RunOption = "",
    assignments: Annotated[
        list[str], typer.Option("--set", help="Another setting, e.g. --set rounds=2.")
    ] = [],  # noqa: B006
) -> None:
    """Run a study from pictures to report; resume what was begun, leave alone what is finished."""
    from imgsearch_utils.steps import pipeline

    opened = workspace.open_run(study, name, _settings(assignments))
    pipeline.execute(opened, *workspace.how_begun(study, opened))


@app.command()
def check(
    study: StudyOption = "synthetic_houses", name: RunOption = "", as_json: JsonOption = False
) -> None:
    """Verify a whole run against what was written about it, and say what to do; nothing is
    written.
    """
    from imgsearch_utils.steps.check import check_run

    found = workspace.find_run(study, name)
    faults = check_run(found)
    if as_json:
        print(
            json.dumps(
                {"run": found.name, "faults": [fault._asdict() for fault in faults]},
                ensure_ascii=False,
            )
        )
    else:
        print(
            "\n".join(f"{fault.what}; {fault.do}" for fault in faults)
            or f"run {found.name} is whole, as far as it is made"
        )
    raise typer.Exit(int(bool(faults)))


@app.command()
def publish(
    study: Annotated[str, typer.Argument(help="A name in configs/.")] = "synthetic_houses",
) -> None:
    """Make the run that is kept in git, published_<study>, and the outputs of the committed
    notebooks.
    """
    from imgsearch_utils.steps import pipeline

    pipeline.publish(workspace.open_run(study, f"published_{study}"))


@app.command()
def new(
    study: Annotated[str, typer.Argument(help="The study's name: letters, digits, - and _.")],
    images: Annotated[
        Path, typer.Argument(help="A folder of class folders, of pictures, or with a labels.csv.")
    ],
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="A column of labels.csv that is a class, coarse to fine; all when not given, '' "
            "for none."
        ),
    ] = None,
) -> None:
    """Write configs/<study>.yaml for a folder of your own pictures, after looking at it."""
    from imgsearch_utils.pictures.new_study import describe_folder

    # its name, before it is one of a file
    parse_study({"study": study, "images": {"source": str(images)}}, "new")
    file = workspace.home() / "configs" / f"{study}.yaml"
    if file.exists():
        raise ValueError(
            f"{workspace.shown(file)} is there already; choose another name, or edit it"
        )
    if (workspace.source() / "configs" / file.name).exists():
        raise ValueError(f"the workspace has a study called {study} already; choose another name")
    text, line = describe_folder(
        study, images.resolve(), [name for name in classes if name] if classes else None
    )
    parse_study(plain_values(text, str(file)), str(file))
    workspace.write_atomic(file, text)
    print(
        f"{line}\nwritten: {workspace.shown(file)}\n"
        f"make run STUDY={study}    # what can be known before anybody grades, with a report: "
        "some minutes\n"
        f"make teach STUDY={study}  # teach it what you mean by similar: ten minutes\n"
        f"make serve STUDY={study}  # search"
    )


@app.command()
def unpack(
    source: Annotated[
        Path, typer.Argument(help="A shard, or a folder of shards: .tar, .parquet, or .arrow.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where the pictures and their labels.csv go.")],
) -> None:
    """Unpack pictures that come in shards: tar (webdataset, img2dataset), Parquet, a Hugging Face
    dataset; vectors too.

    A shard that was unpacked is not unpacked again.
    """
    from tqdm import tqdm

    from imgsearch_utils.pictures.shards import unpack

    def progress(shards):
        return tqdm(shards, desc="shards", disable=None)

    done = unpack(source, folder, progress)
    for place, why in list(done.set_aside.items())[:10]:
        print(f"set aside: {place}: {why}", file=sys.stderr)
    if len(done.set_aside) > 10:
        print(f"... and {len(done.set_aside) - 10:,} more", file=sys.stderr)
    said = f"; labels.csv says of each: {', '.join(done.columns)}" if done.columns else ""
    print(
        f"{done.images:,} {'vectors' if done.vectors else 'pictures'} in "
        f"{workspace.shown(folder)}{said}\n"
        f"imgsearch new <study> {workspace.shown(folder)} --classes <column>  # or --classes '' "
        "for none"
    )


@app.command()
def score(
    pairs: Annotated[Path, typer.Argument(help="A CSV with image1 and image2.")],
    study: StudyOption = "synthetic_houses",
    name: RunOption = "",
    out: Annotated[
        Path | None, typer.Option(help="The CSV to write; standard output when not given.")
    ] = None,
) -> None:
    """Score any pairs by a run's latest head: score, P(similar), P(each grade), the encoder's
    cosine.
    """
    from imgsearch_utils.search.scoring import score_file

    opened = workspace.find_run(study, name)
    with output(out) as file, bytes_read(pairs) as watch:
        about = score_file(opened, pairs, file, watch)
    role = "promoted" if about["promoted"] else "not promoted: search keeps the encoder"
    print(
        f"{about['pairs']:,} pairs scored by the head of round {about['round']} ({role}); "
        "similar is p_similar >= "
        f"{about['threshold']:.3f}",
        file=sys.stderr,
    )
    if about["anew"]:
        print(
            f"made anew, in place of the file's own columns: {', '.join(about['anew'])}",
            file=sys.stderr,
        )
    if unknown := about["unknown"]:
        named = ", ".join(map(repr, unknown[:10]))
        print(
            f"{len(unknown)} image(s) are unknown to the run, their pairs have no score: {named}",
            file=sys.stderr,
        )
