"""In: what is typed behind `imgsearch`. Out: thin calls into the other rooms.

An error of use is one clear line and exit status 1.
"""

import sys

import typer

from imgsearch_utils.cli import labels, searching, studies

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Teach an image search engine what you mean by similar.")
app.add_typer(studies.app)
app.add_typer(searching.app)
app.add_typer(labels.app, name="labels")


def entry() -> None:
    """Run the command; an error of use is one line on stderr and exit status 1."""
    try:
        app()
    except (ValueError, RuntimeError, FileNotFoundError, PermissionError, ImportError) as error:
        sys.exit(f"imgsearch: {error}")
