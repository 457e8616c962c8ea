"""The commands of a study's life: new, run, check, score, publish, encoders."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.cli.files import bytes_read, output
from imgsearch_utils.study import parse_study, plain_values
from imgsearch_utils.workspace import DRAWN
from imgsearch_utils.workspace.command_options import (
    JsonOption,
    RunOption,
    StudyArgument,
    StudyOption,
)

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
    study: StudyArgument = DRAWN,
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
def check(study: StudyOption = DRAWN, name: RunOption = "", as_json: JsonOption = False) -> None:
    """Verify a whole run against what was written about it, and say what to do."""
    from imgsearch_utils.learning.model import head_left_out
    from imgsearch_utils.steps.run_check import check_run

    opened = workspace.find_run(study, name)
    faults, left_out = check_run(opened), head_left_out(opened)
    if as_json:
        about = {"run": opened.name, "faults": [fault._asdict() for fault in faults]}
        print(json.dumps({**about, "left_out": left_out}, ensure_ascii=False))
    else:
        whole = left_out and f"nothing that is here is broken, but {left_out}"
        whole = whole or f"run {opened.name} is whole, as far as it is made"
        print("\n".join(f"{fault.what}; {fault.do}" for fault in faults) or whole)
    raise typer.Exit(int(bool(faults)))


@app.command()
def publish(study: Annotated[str, typer.Argument(help="A name in configs/.")] = DRAWN) -> None:
    """Make the run that is kept in git, published_<study>, and the notebooks' outputs."""
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
            help="A column of labels.csv, or a level of folders, that is a class, coarse to fine; "
            "all when not given, '' for none."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="The column of labels.csv that is a split; folders, where these are one; or none."
        ),
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Folders mean nothing: no classes, and no split.")
    ] = False,
) -> None:
    """Write configs/<study>.yaml for a folder of your own pictures, after looking at it."""
    from imgsearch_utils.images.new_study import describe_folder

    # its name, before it is one of a file
    parse_study({"study": study, "images": {"source": str(images)}}, "new")
    file = workspace.home() / "configs" / f"{study}.yaml"
    if file.exists():
        raise ValueError(
            f"{workspace.shown(file)} is there already; choose another name, or edit it"
        )
    if (workspace.source() / "configs" / file.name).exists():
        raise ValueError(f"the workspace has a study called {study} already; choose another name")
    chosen = [name for name in classes if name] if classes else None
    text, told = describe_folder(study, images.resolve(), chosen, split, flat)
    parse_study(plain_values(text, str(file)), str(file))
    workspace.write_atomic(file, text)
    print(
        "\n".join(told) + f"\nwritten: {workspace.shown(file)}\n"
        f"make run STUDY={study}    # what can be known before anybody grades, with a report: "
        "some minutes\n"
        f"make teach STUDY={study}  # teach it what you mean by similar\n"
        f"make serve STUDY={study}  # search"
    )


@app.command()
def score(
    pairs: Annotated[Path, typer.Argument(help="A CSV with image1 and image2.")],
    study: StudyOption = DRAWN,
    name: RunOption = "",
    out: Annotated[
        Path | None, typer.Option(help="The CSV to write; standard output when not given.")
    ] = None,
) -> None:
    """Score any pairs by a run's latest head, with P(similar) and P(each grade)."""
    from imgsearch_utils.search.scoring import score_file

    opened = workspace.find_run(study, name)
    with output(out) as file, bytes_read(pairs) as watch:
        about = score_file(opened, pairs, file, watch)
        if about["pairs"] and not about["scored"]:
            raise ValueError(
                f"{pairs}: none of its {about['pairs']:,} pairs could be scored: no pair has two "
                f"images of the run (first unknown: {about['unknown'][0]!r}); see the run's "
                "images.csv"
            )
    role = "promoted" if about["promoted"] else "not promoted: search does not use it"
    part = f"{about['scored']:,} of " if about["scored"] < about["pairs"] else ""
    print(
        f"{part}{about['pairs']:,} pairs scored by the head of round {about['round']} ({role}); "
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
        first_names = ", ".join(map(repr, unknown[:10]))
        print(
            f"{len(unknown)} image(s) are unknown to the run, their pairs have no score: "
            f"{first_names}",
            file=sys.stderr,
        )


@app.command()
def encoders(
    names: Annotated[
        list[str] | None, typer.Argument(help="By name; the embedded ones when not given.")
    ] = None,
    study: StudyOption = DRAWN,
    run: RunOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare encoders on a study's test images: what each finds, how fast, how large."""
    from imgsearch_utils.evaluation.encoder_comparison import EMBEDDED, kept_comparison
    from imgsearch_utils.workspace.tables import intervals

    opened = workspace.find_run(study, run)
    comparison = kept_comparison(
        opened, names or EMBEDDED, lambda line: print(line, file=sys.stderr)
    )
    if as_json:
        return print(
            json.dumps(
                {
                    "study": opened.study.study,
                    "run": opened.name,
                    **{
                        name: json.loads(table.to_json(orient="records"))
                        for name, table in comparison._asdict().items()
                    },
                }
            )
        )
    all_queries = comparison.retrieval[comparison.retrieval["class"] == ""]
    wide = all_queries.assign(text=intervals(all_queries)).pivot(
        index="encoder", columns="measure", values="text"
    )
    about = comparison.encoders.set_index("encoder").drop(columns="missing")
    shown = wide[["AP", "P@1", "P@10", "nDCG@10"]].reindex(about.index).join(about)
    print(shown.rename(columns={"AP": "mAP"}).reset_index().to_string(index=False, na_rep="-"))
    print(f"the tables: {workspace.shown(opened.results / 'encoders')}")
