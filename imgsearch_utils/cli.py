"""The `imgsearch` command: thin calls into the package, errors as one clear line."""

import sys
from typing import Annotated

import typer
import yaml

from imgsearch_utils import workspace

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


def entry() -> None:
    """Run the command; an error of use is one line on stderr and exit status 1."""
    try:
        app()
    except (ValueError, RuntimeError, FileNotFoundError, PermissionError) as error:
        sys.exit(f"imgsearch: {error}")


if __name__ == "__main__":
    entry()
