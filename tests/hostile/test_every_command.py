"""What holds for every command, whichever are added."""

import pytest
from typer.main import get_command

from imgsearch_utils.cli.commands import app
from tests.tiny_study import command


def every_command(group=None, names: tuple[str, ...] = ()):
    """The names of each command and group of commands, as they are typed."""
    group = group or get_command(app)
    yield names, group
    for name, one in getattr(group, "commands", {}).items():
        yield from every_command(one, (*names, name))


COMMANDS = dict(every_command())


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", ["0", "80"])
def test_the_help_of_every_command_says_what_its_options_say(names, columns, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    done = command(tmp_path, *names, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = "".join(done.stdout.split())
    for parameter in COMMANDS[names].params:
        assert "".join((getattr(parameter, "help", "") or "").split()) in shown
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in shown


@pytest.mark.parametrize("names", [names for names in COMMANDS if names], ids=" ".join)
def test_an_option_that_is_none_is_refused_in_a_few_lines(names, tmp_path):
    done = command(tmp_path, *names, "--[/none]")
    assert done.returncode == 2
    assert "--[/none]" in done.stderr and len(done.stderr.splitlines()) < 6
