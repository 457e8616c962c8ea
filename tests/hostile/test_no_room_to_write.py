"""A workspace that this user cannot write, another's or read-only, and no home; a full disk is the
hostile benchmark's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny_study
from tests.tiny_study import typed

# what only reads, and what writes; each in one process, where the libraries are loaded once
COMMANDS = """
import json, sys
from pathlib import Path
from tests.tiny_study import command, living_in

home, out = Path(sys.argv[1]), []
picture = next(home.glob("pictures/*/*.jpg"))
for arguments in (
    ["search", picture, "-k", "3", "--json"],
    ["search", picture, "-k", "3", "--where", "class <> 'x'", "--json"],
    ["score", home / "pairs.csv"], ["check"], ["labels", "summary"],
    ["index"], ["labels", "import", home / "pairs.csv"], ["duplicates"], ["embed"],
):
    done = command(home, *arguments, "--study", "tiny")
    out.append([str(arguments[0]), done.returncode, done.stdout, done.stderr])
try:
    from imgsearch_utils.search.service import Service
    from imgsearch_utils.workspace import find_run
    with living_in(home):
        served = Service(find_run("tiny")).search(picture=picture.read_bytes(), where="class <> 'x'", k=3)
    out.append(["serve", 0, json.dumps(served), ""])
except OSError as error:
    out.append(["serve", 1, "", str(error)])
print(json.dumps(out))
"""
READS = ("search", "score", "serve")


@pytest.fixture
def home(tmp_path) -> Path:
    """A run that nobody searched yet."""
    folder = tmp_path / "home"
    folder.mkdir()
    tiny_study.make(folder)
    names = [f"{file.parent.name}/{file.name}" for file in folder.glob("pictures/*/*.jpg")]
    (folder / "pairs.csv").write_text(f"image1,image2,similarity\n{names[0]},{names[1]},3\n")
    return folder


def answers(home: Path, *wrapper: str) -> list[list]:
    """What the commands said, under this wrapper and without a home of the user's own."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", COMMANDS, str(home)],
        env={**os.environ, "HOME": "/nonexistent", "XDG_STATE_HOME": "/nonexistent/state"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def read_only(home: Path, mounting) -> list[str]:
    return mounting(f"mount --bind {home} {home} && mount -o remount,bind,ro {home}")


def anothers(home: Path, mounting) -> list[str]:
    """Its files belong to another user, whom root without its rights is not."""
    for path in [home, *home.rglob("*")]:
        os.chown(path, 65534, 65534)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


@pytest.mark.slow  # a process of its own each, which loads a network
@pytest.mark.parametrize(("place", "searched"), [(read_only, True), (anothers, False)])
def test_what_cannot_be_written_is_searched_and_the_rest_is_one_line(
    home, mounting, place, searched
):
    picture = next(home.glob("pictures/*/*.jpg"))
    if searched:
        out, _ = typed(home, "search", picture, "-k3", "--json", "--study=tiny")
        assert (home / "vector_dbs/tiny/labels.arrow").is_file()
    told = answers(home, *place(home, mounting))
    for name, code, out, err in told:
        assert "Traceback" not in err and "Error:" not in err, (name, err)
        if name in READS:
            assert code == 0 and out, (name, err)
        elif name != "check":  # which names what a run made by hand lacks
            assert code == 0 or len(err.splitlines()) == 1, (name, err)
    found = [json.loads(line[2]) for line in told if line[0] == "search"]
    assert found[0]["model"] == "head" and found[0]["queries"] == found[1]["queries"]
    if searched:
        [now], before = found[0]["queries"], json.loads(out)
        assert [one["image"] for one in now["results"]] == [
            one["image"] for one in before["results"]
        ]
