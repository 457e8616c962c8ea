"""All commands in one, and how an error of use ends: one line on stderr and exit status 1."""

import io
import os
import sys
from importlib.metadata import entry_points

import typer

from imgsearch_utils.cli import grade_commands, page_commands, search_commands, study_commands

LONGEST = 1200  # letters of an error's line
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a help text's [/...] is no markup
    help="Teach an image search engine what you mean by similar.",
)
app.add_typer(study_commands.app)
app.add_typer(search_commands.app)
app.add_typer(page_commands.app)
app.add_typer(grade_commands.app, name="labels")
for wing in entry_points(group="imgsearch_utils.commands"):
    app.add_typer(wing.load())


def run() -> None:
    """Run the command that was typed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a file name may be no text
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except (OSError, ValueError, RuntimeError, ImportError, MemoryError) as error:
        _give_up_output()
        sys.exit(f"imgsearch: {_bounded(_told(error))}")


def _told(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, RecursionError | MemoryError):
        return (
            f"what was asked is too large for this machine ({type(error).__name__}: {error}); "
            "ask for less"
        )
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(filter(None, [str(error.filename or ""), error.strerror])).replace(
            "\n", "\\n"
        )
    return " ".join(str(error).splitlines())


def _bounded(line: str) -> str:
    """The line, without its middle where it is too long to be read: a name that was typed may have
    any length.
    """
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 300]} ... {line[-300:]}"


def _give_up_output() -> None:
    """Where standard output cannot be written (a full disk), it cannot be flushed at the end
    either.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
