"""indexes on a server: killed and started again it answers the same, and a build that was killed
leaves nothing.
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from imgsearch_utils import indexes
from tests.conftest import REPOSITORY
from tests.indexes.clusters import QUERIES, TRUTH, VECTORS, K
from tests.indexes.conftest import Milvus, Postgres

pytestmark = pytest.mark.engine  # a database server is started, killed and started again
EXACT = {"index_type": "FLAT"}
KILLED = """
import os, signal
from imgsearch_utils import indexes
from tests.indexes.clusters import VECTORS
kind = indexes.find({name!r})
store = kind.{store}
def half(self, *given):
    store(self, *(each[: len(each) // 2] if each is given[{at}] else each for each in given))
    os.kill(os.getpid(), signal.SIGKILL)
kind.{store} = half
kind().build(VECTORS, index_type="FLAT")
"""


@pytest.fixture(
    scope="module", params=[("pgvector", Postgres), ("milvus", Milvus)], ids=["pgvector", "milvus"]
)
def served(request):
    """The name of an index, and its server, which the environment names."""
    name, kind = request.param
    indexes.find(name)
    patch = pytest.MonkeyPatch()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = kind(Path(folder))
        patch.setenv(server.variable, server.start())
        yield name, server, patch
        patch.undo()
        server.kill()


def test_killed_and_started_again_it_has_lost_nothing_and_doubled_nothing(served, tmp_path):
    name, server, environment = served
    index = indexes.find(name)().build(VECTORS[:1000], **EXACT)
    index.add(VECTORS[1000:])
    before = index.query(QUERIES, K)
    assert (np.sort(before, 1) == np.sort(TRUTH, 1)).all()
    index.save(tmp_path / "index")
    server.kill()
    for act in (
        lambda: indexes.load(tmp_path / "index", VECTORS),
        lambda: index.query(QUERIES, K),
        lambda: indexes.find(name)().build(VECTORS[:10]),
    ):
        with pytest.raises(indexes.Unreachable, match="does not answer") as refusal:
            act()
        assert "\n" not in str(refusal.value) and "start" in str(refusal.value)
    environment.setenv(server.variable, server.start())
    loaded = indexes.load(tmp_path / "index", VECTORS)
    assert (loaded.query(QUERIES, K) == before).all() and loaded._count() == len(VECTORS)
    if name == "pgvector":  # its address is the same; the one that was open before goes on too
        assert (index.query(QUERIES, K) == before).all()


def test_a_build_that_is_killed_leaves_nothing_that_a_later_one_would_meet(served):
    name = served[0]
    store, at = {"pgvector": ("_copy", 1), "milvus": ("_insert", 0)}[name]
    child = subprocess.run(
        [sys.executable, "-c", KILLED.format(name=name, store=store, at=at)], cwd=REPOSITORY
    )
    assert child.returncode == -signal.SIGKILL
    index = indexes.find(name)().build(VECTORS, **EXACT)
    assert index._count() == len(VECTORS)
    assert (np.sort(index.query(QUERIES, K), 1) == np.sort(TRUTH, 1)).all()


@pytest.mark.parametrize(
    "name, variable, address",
    [
        ("pgvector", "DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/none"),
        ("milvus", "MILVUS_URI", "http://127.0.0.1:1"),
    ],
)
def test_an_unreachable_server_is_one_line(name, variable, address, monkeypatch):
    monkeypatch.setenv(variable, address)
    try:
        indexes.find(name).library()
    except indexes.MissingPackage as error:
        pytest.skip(str(error))
    with pytest.raises(indexes.Unreachable, match="does not answer") as refusal:
        indexes.find(name)().build(VECTORS[:10])
    assert (
        "\n" not in str(refusal.value)
        and "secret" not in str(refusal.value)
        and variable in str(refusal.value)
    )
