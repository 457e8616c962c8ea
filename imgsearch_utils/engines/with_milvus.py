"""Milvus: a server where the environment names one (MILVUS_URI), else Milvus Lite in a folder of
its own.
"""

import functools
import importlib
import importlib.util
import json
import logging
import os
import tempfile
import time
import weakref
from pathlib import Path

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import MissingPackage, Unreachable, register

# what Lite builds: it accepts more
LITE = ("HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "FLAT", "AUTOINDEX")
BATCH = 2000  # rows a message
# Milvus' code for a server that does not answer, and seconds until it is believed
UNAVAILABLE, ANSWERED = (2, 10)
PATIENCE = 600  # seconds in which a server's index does not grow, before it is given up
DATABASE = "milvus.db"  # Lite's folder


class _Client:
    """A MilvusClient whose every error is one line: ``Unreachable``, or RuntimeError."""

    def __init__(self, library, uri, token):
        # it logs a page for an error that it raises too
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._library, self._uri = library, uri
        self._client = self._told(library.MilvusClient, uri=uri, token=token, timeout=ANSWERED)

    def _told(self, call, *arguments, **named):
        try:
            return call(*arguments, **named)
        except self._library.MilvusException as error:
            reason = " ".join(str(error.message).split())[:200]
            if error.code == UNAVAILABLE:
                raise Unreachable(
                    f"Milvus does not answer at {self._uri} ({reason}); start the server, or set "
                    "MILVUS_URI to another"
                ) from None
            raise RuntimeError(f"Milvus: {reason}") from None

    def __getattr__(self, name):
        return functools.partial(self._told, getattr(self._client, name))


def _stop(client, database):
    """Close the client, and Lite's server with it: that ends only when its background work is on
    disk.
    """
    client.close()
    if not os.environ.get("MILVUS_URI"):
        importlib.import_module(
            "milvus_lite.server_manager"
        ).server_manager_instance.release_server(str(database))


def _leave(client, folder):
    _stop(client, Path(folder.name) / DATABASE)
    folder.cleanup()


@register("milvus")
class Milvus(Index):
    """A Milvus collection with one index; metric COSINE, IP or L2 rank unit vectors alike.

    HNSW kinds take m, ef_construction and, in a query, ef; IVF kinds take nlist and nprobe. Lite
    accepts index types that it then searches by brute force without a word: those are refused here.
    The collection's name comes from its vectors and arguments, and a build drops what was there, so
    that building again never doubles rows. The index is built in the background: it is waited for.
    A saved index holds the name of the server's collection; of Lite, the vectors: loading builds
    the index again, which takes as long as building did and, in every trial, answers the same."""

    module = "pymilvus"
    extra = "milvus"
    default_sweep = {"ef": [16, 64, 256, 1024]}

    @classmethod
    def library(cls):
        library = super().library()
        if not os.environ.get("MILVUS_URI") and not importlib.util.find_spec("milvus_lite"):
            install = 'pip install "imgsearch-utils[milvus]", or set MILVUS_URI to a server'
            raise MissingPackage(f"{cls.name} needs milvus-lite: {install}")
        return library

    @property
    def remote(self):
        return bool(os.environ.get("MILVUS_URI"))

    def _connect(self):
        """A client of the server, or of Lite in a new folder."""
        if hasattr(self, "_end"):
            self._end()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._open()

    @property
    def _database(self):
        return Path(self._folder.name) / DATABASE

    def _open(self):
        uri, token = (
            os.environ.get("MILVUS_URI") or str(self._database),
            os.environ.get("MILVUS_TOKEN", ""),
        )
        self._client = _Client(self.library(), uri, token)
        self._end = weakref.finalize(self, _leave, self._client, self._folder)

    def _reopen(self):
        """Lite builds indexes and compacts in the background and says "Finished" at once: closing
        waits for it.
        """
        self._end.detach()
        _stop(self._client, self._database)
        self._open()

    def _build(
        self, vectors, index_type="HNSW", metric="COSINE", m=16, ef_construction=200, nlist=128
    ):
        if not self.remote and index_type not in LITE:
            choices = f"choose from {', '.join(LITE)}, or a server"
            raise ValueError(f"Milvus Lite would search {index_type} by brute force; {choices}")
        self._index_type = index_type
        parameters = {"HNSW": {"M": m, "efConstruction": ef_construction}, "IVF": {"nlist": nlist}}
        if index_type == "HNSW_SQ":
            parameters["HNSW"]["sq_type"] = "SQ8"
        self._collection = self._name_on_server()
        self._connect()
        kind = self.library().DataType
        self._client.drop_collection(self._collection)
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", kind.INT64, is_primary=True)
        schema.add_field("vector", kind.FLOAT_VECTOR, dim=self.dim)
        self._client.create_collection(
            self._collection, schema=schema, consistency_level="Eventually"
        )
        self._inserted = []
        self._insert(vectors, 0)
        index = self._client.prepare_index_params()
        wanted = parameters.get(index_type.split("_")[0], {})
        index.add_index("vector", index_type=index_type, metric_type=metric, params=wanted)
        self._client.create_index(self._collection, index)
        self._settle()

    def _insert(self, vectors, first):
        if not self.remote:
            self._inserted.append(vectors)
        for start in range(0, len(vectors), BATCH):
            rows = enumerate(vectors[start : start + BATCH], first + start)
            self._client.insert(
                self._collection, [{"id": row, "vector": vector} for row, vector in rows]
            )

    def _settle(self):
        """Return when every row is stored, indexed and searchable."""
        self._client.flush(self._collection)
        if not self.remote:
            self._reopen()
        else:
            self._wait_for_server()
        self._client.load_collection(self._collection)  # Lite reads every index before it answers
        if self.remote:
            self._client.refresh_load(self._collection)
        self._count()

    def _wait_for_server(self):
        (name,), before, moved = self._client.list_indexes(self._collection), None, time.monotonic()
        while True:
            state = self._client.describe_index(self._collection, name)
            if state["state"] == "Finished" and not state.get("pending_index_rows"):
                return
            if state != before:
                before, moved = state, time.monotonic()
            if state["state"] == "Failed" or time.monotonic() > moved + PATIENCE:
                raise RuntimeError(
                    f"Milvus did not finish its index: {state}; look at its log, or build again"
                )
            time.sleep(0.05)

    def _count(self):
        answer = self._client.query(
            self._collection, output_fields=["count(*)"], consistency_level="Strong"
        )
        return answer[0]["count(*)"]

    def _add(self, vectors):
        self._insert(vectors, self.count)
        self._settle()

    def _search(self, queries, k, ef=0, nprobe=0, allowed=None):
        parameters = {"ef": max(ef, k) if ef else 0, "nprobe": nprobe}
        for name, kind in (("ef", "HNSW"), ("nprobe", "IVF")):
            if parameters[name] and not self._index_type.startswith(kind):
                raise ValueError(f"{name} is for {kind} kinds, got index_type {self._index_type}")
        chosen = {"params": {name: value for name, value in parameters.items() if value}}
        among = "" if allowed is None else f"id in {np.flatnonzero(allowed).tolist()}"
        hits = self._client.search(
            self._collection,
            queries,
            limit=k,
            filter=among,
            output_fields=["id"],
            search_params=chosen,
        )
        found_ids = np.full((len(queries), k), -1, np.int64)
        for row, listed in enumerate(hits):
            found_ids[row, : len(listed)] = [hit["id"] for hit in listed]
        return found_ids

    def _vectors_added(self):
        return np.concatenate(self._inserted)

    def _write(self, path):
        if self.remote:
            path.write_text(json.dumps({"collection": self._collection}))
        else:
            super()._write(path)

    def _read(self, path):
        if not self.remote:
            return super()._read(path)
        self._index_type = self.build_arguments.get("index_type", "HNSW")
        self._collection = json.loads(path.read_text())["collection"]
        self._connect()
        if not self._client.has_collection(self._collection):
            raise ValueError(f"the server has no collection {self._collection}")
        self._client.load_collection(self._collection)
        self._expect(self._count())
