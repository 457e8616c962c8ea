"""A tiny drawn study that runs from pictures to its report, by papermill, with a real encoder and
real indexes.
"""

from pathlib import Path

from tests.tiny_study import command

STUDY = """\
study: tiny
title: Tiny houses & co
about: Two <b>are similar</b> when the nine questions say so.
images: {source: synthetic_houses, per_class: 16}
oracle: rubric
rounds: 2
asked_per_round: 20
zeros_per_round: 20
dev_asked: 12
test_asked: 12
max_per_image: 20
head: {epochs: 3}
sizes: []
indexes: [{name: exact}, {name: annoy, build: {trees: 5}, query: {search_k: [50]}}]
"""


def make_run(home: Path) -> None:
    """The study to its end."""
    home.mkdir(exist_ok=True)
    (home / "tiny.yaml").write_text(STUDY)
    done = command(home, "run", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    # a line a notebook, and where the report is
    assert len(done.stdout.strip().splitlines()) == 6
