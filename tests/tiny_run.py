"""A tiny drawn study that runs from pictures to its report, by papermill, with a real encoder and
real indexes.
"""

from pathlib import Path

from tests.tiny_study import command, fresh_command

STUDY = """\
study: tiny
title: Tiny houses & co
about: Two <b>are similar</b> when the nine questions say so.
images: {source: synthetic_houses, per_class: 18}
oracle: rubric
rounds: 2
asked_per_round: 20
zeros_per_round: 20
dev_asked: 12
test_asked: 12
max_per_image: 20
head: {epochs: 3}
sizes: [300]
indexes: [{name: exact}, {name: faiss_lsh}, {name: annoy, build: {trees: 5}, query: {search_k: [50]}}]
"""


def make_run(home: Path) -> None:
    """The study to its end; the first try names another encoder, which is then corrected."""
    home.mkdir(exist_ok=True)
    (home / "tiny.yaml").write_text(STUDY + "encoder: efficientnet_lite1\n")
    first = command(home, "run", "tiny.yaml")
    assert first.returncode == 1 and "efficientnet_lite" in first.stderr
    (home / "tiny.yaml").write_text(STUDY)
    second = fresh_command(home, "run", "tiny.yaml")
    assert second.returncode == 0, second.stderr
    assert "goes on with other settings" in second.stderr
    assert "encoder: efficientnet_lite1 -> efficientnet_lite0" in second.stderr
    # a line a notebook, and where the report is
    assert len(second.stdout.strip().splitlines()) == 6
