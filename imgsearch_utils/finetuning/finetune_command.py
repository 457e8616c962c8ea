"""The command `finetune`: train an encoder further, or list what was trained."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_utils import workspace
from imgsearch_utils.workspace import DRAWN
from imgsearch_utils.workspace.command_options import JsonOption, RunOption, StudyOption

app = typer.Typer()


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
    """Train an encoder's last blocks on classes or grades; a stopped training goes on."""
    from tqdm import tqdm

    from imgsearch_utils.finetuning.finetune_run import finetune_all, listed
    from imgsearch_utils.finetuning.finetuning_settings import read_settings

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
