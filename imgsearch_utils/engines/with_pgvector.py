"""PostgreSQL with the extension pgvector: a server that the environment names (DATABASE_URL)."""

import json
import os
import re
import threading
import weakref

import numpy as np

from imgsearch_utils.indexes.base import Index
from imgsearch_utils.indexes.index_names import MissingPackage, Unreachable, register

TABLE = re.compile("imgsearch_[0-9a-f]{24}")
MOST = 1000  # candidates that the server's graph search accepts at most


@register("pgvector")
class PGVector(Index):
    """A table of the server's database: number of the vector, and the vector.

    `index_type`: HNSW (`m`, `ef_construction`; `ef` candidates a query), IVFFLAT (`nlist` lists, 0:
    the square root of the number of vectors; `nprobe` of them a query), or FLAT, which compares
    all. The table's name comes from vectors and arguments. A build is one transaction: one that was
    stopped leaves nothing, and one that is made again replaces what was there. A search among some
    goes through the index until enough of these are found, or past it where the server reckons that
    this is cheaper. A saved index holds the table's name. A connection that broke is opened again.
    """

    module, extra = "psycopg", "postgres"
    default_sweep = {"ef": [16, 64, 256, 1000]}
    remote = True

    def __init__(self):
        # one connection holds one transaction; a server's threads ask at once
        self._turn = threading.Lock()

    @classmethod
    def library(cls):
        library = super().library()
        if not os.environ.get("DATABASE_URL"):
            raise MissingPackage(
                f"{cls.name} needs a PostgreSQL server with the extension pgvector: set "
                "DATABASE_URL, "
                "such as postgresql://user@127.0.0.1/database"
            )
        try:
            import pgvector  # noqa: F401
        except ImportError as error:
            raise MissingPackage(
                f'{cls.name} needs pgvector: pip install "imgsearch-utils[{cls.extra}]"'
            ) from error
        return library

    def _connect(self):
        psycopg, where = self.library(), os.environ["DATABASE_URL"]
        try:
            connection = psycopg.connect(where, connect_timeout=10, autocommit=True)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())[:200]
            raise Unreachable(
                f"the PostgreSQL server that DATABASE_URL names does not answer ({reason}); "
                "start it, or "
                "set DATABASE_URL to another"
            ) from None
        if hasattr(self, "_end"):
            self._end()
        self._end, self._connection = weakref.finalize(self, connection.close), connection
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        from pgvector.psycopg import register_vector

        register_vector(connection)

    def _transaction(self, work):
        """What `work` returns of a cursor, all of it or nothing done; once more where the
        connection was broken.
        """
        psycopg = self.library()
        with self._turn:
            if not hasattr(self, "_connection"):
                self._connect()
            for again in (True, False):
                try:
                    with self._connection.transaction(), self._connection.cursor() as cursor:
                        return work(cursor)
                except psycopg.Error as error:
                    if not again or not self._connection.broken:
                        raise RuntimeError(
                            f"PostgreSQL: {' '.join(str(error).split())[:300]}"
                        ) from None
                    self._connect()

    def _build(self, vectors, index_type="HNSW", m=16, ef_construction=200, nlist=0):
        kinds = {
            "HNSW": f"hnsw (vector vector_ip_ops) WITH (m = {int(m)}, ef_construction = "
            f"{int(ef_construction)})",
            "IVFFLAT": "ivfflat (vector vector_ip_ops) WITH (lists = "
            f"{int(nlist) or round(len(vectors) ** 0.5)})",
        }
        if index_type not in ("FLAT", *kinds):
            raise ValueError(
                f"pgvector has no index_type {index_type}; choose from FLAT, {', '.join(kinds)}"
            )
        self._table = self._name_on_server()

        def work(cursor):
            cursor.execute(f"DROP TABLE IF EXISTS {self._table}")
            cursor.execute(
                f"CREATE TABLE {self._table} (id integer PRIMARY KEY, vector "
                f"vector({int(self.dim)}))"
            )
            self._copy(cursor, vectors, 0)
            if index_type in kinds:
                cursor.execute(f"CREATE INDEX ON {self._table} USING {kinds[index_type]}")

        self._transaction(work)
        self._transaction(lambda cursor: cursor.execute(f"ANALYZE {self._table}"))

    def _copy(self, cursor, vectors, first):
        with cursor.copy(
            f"COPY {self._table} (id, vector) FROM STDIN WITH (FORMAT BINARY)"
        ) as copy:
            copy.set_types(["int4", "vector"])
            for row, vector in enumerate(vectors, first):
                copy.write_row((row, vector))

    def _add(self, vectors):
        self._transaction(lambda cursor: self._copy(cursor, vectors, self.count))

    def _search(self, queries, k, ef=64, nprobe=8, allowed=None):
        settings = {
            "hnsw.ef_search": min(MOST, max(ef, k)),
            "hnsw.iterative_scan": "strict_order",
            "ivfflat.probes": int(nprobe),
            "ivfflat.iterative_scan": "relaxed_order",
        }
        if allowed is None:
            settings |= {"enable_seqscan": "off"}
        among, chosen = (
            ("", [])
            if allowed is None
            else ("WHERE id = ANY(%s)", [np.flatnonzero(allowed).tolist()])
        )
        found_ids = np.full((len(queries), k), -1, np.int64)

        def work(cursor):
            for name, value in settings.items():
                cursor.execute("SELECT set_config(%s, %s, true)", [name, str(value)])
            for row, query in enumerate(queries):
                cursor.execute(
                    f"SELECT id, vector <#> %s AS distance FROM {self._table} {among} ORDER BY "
                    "distance "
                    "LIMIT %s",
                    [query, *chosen, k],
                )
                ids = [
                    one
                    for one, _ in sorted(cursor.fetchall(), key=lambda found: (found[1], found[0]))
                ]
                found_ids[row, : len(ids)] = ids

        self._transaction(work)
        return found_ids

    def _count(self):
        def work(cursor):
            existing = cursor.execute("SELECT to_regclass(%s)", [self._table]).fetchone()[0]
            if existing is None:
                raise ValueError(f"the server has no table {self._table}")
            return cursor.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0]

        return self._transaction(work)

    def _write(self, path):
        path.write_text(json.dumps({"table": self._table}))

    def _read(self, path):
        self._table = str(json.loads(path.read_text())["table"])
        if not TABLE.fullmatch(self._table):
            raise ValueError("the file does not name a table of this package")
        self._expect(self._count())
