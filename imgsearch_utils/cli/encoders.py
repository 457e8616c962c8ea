"""The commands about encoders: compare them, train one further."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.cli.options import JsonOption, RunOption, StudyOption
from imgsearch_utils.workspace import DRAWN

app = typer.Typer()


@app.command()
def encoders(
    names: Annotated[
        list[str] | None, typer.Argument(help="By name; the embedded ones when not given.")
    ] = None,
    study: StudyOption = DRAWN,
    run: RunOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare encoders on a study's test images: what each finds as it is, how fast it is, how
    large.
    """
    from imgsearch_utils.steps.encoders import EMBEDDED, kept_comparison
    from imgsearch_utils.tables import intervals

    opened = workspace.find_run(study, run)
    found = kept_comparison(opened, names or EMBEDDED, lambda line: print(line, file=sys.stderr))
    if as_json:
        return print(
            json.dumps(
                {
                    "study": opened.study.study,
                    "run": opened.name,
                    **{
                        name: json.loads(table.to_json(orient="records"))
                        for name, table in found._asdict().items()
                    },
                }
            )
        )
    every = found.retrieval[found.retrieval["class"] == ""]
    wide = every.assign(text=intervals(every)).pivot(
        index="encoder", columns="measure", values="text"
    )
    about = found.encoders.set_index("encoder").drop(columns="missing")
    shown = wide[["AP", "P@1", "P@10", "nDCG@10"]].reindex(about.index).join(about)
    print(shown.rename(columns={"AP": "mAP"}).reset_index().to_string(index=False, na_rep="-"))
    print(f"the tables: {workspace.shown(opened.results / 'encoders')}")


@app.command()
def finetune(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML of settings, one version or a grid of them.")
    ] = None,
    versions: Annotated[
        bool, typer.Option("--list", help="Show the versions of a run, and train nothing.")
    ] = False,
    study: StudyOption = DRAWN,
    run: RunOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train the last blocks of an encoder on a run's classes or grades; a stopped training goes
    on.
    """
    from tqdm import tqdm

    from imgsearch_utils.finetuning.settings import read_settings
    from imgsearch_utils.steps.finetuning import finetune_all, listed

    if versions == (config is not None):
        raise ValueError("give a YAML of settings, or --list (with --study and --run)")
    if config:
        return finetune_all(
            read_settings(config),
            lambda line: print(line, flush=True),
            lambda each: tqdm(each, disable=not sys.stderr.isatty()),
        )
    opened = workspace.find_run(study, run)
    table = listed(opened)
    if as_json:
        return print(table.to_json(orient="records", force_ascii=False))
    print(
        table.to_string(index=False)
        if len(table)
        else f"run {opened.name} has no fine-tuned version; make one: imgsearch finetune CONFIG"
    )
