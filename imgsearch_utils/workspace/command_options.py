"""Options that several commands share."""

from typing import Annotated

import typer

StudyArgument = Annotated[str, typer.Argument(help="A name in configs/, or a YAML file's path.")]
StudyOption = Annotated[
    str, typer.Option("--study", help="A name in configs/, or a YAML file's path.")
]
RunOption = Annotated[
    str, typer.Option("--run", help="The run's name; the study's own when not given.")
]
ModelOption = Annotated[
    str, typer.Option("--model", help="encoder or head; when not given, the head if promoted.")
]
IndexOption = Annotated[
    str, typer.Option("--index", help="A registered index; when not given, the recommended one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")]
