"""indexes: one contract for every registered index.

With MILVUS_URI set, `pytest tests/indexes -k milvus` holds a Milvus server to the same contract;
pgvector's PostgreSQL is started here."""

import json

import numpy as np
import pytest

from imgsearch_utils import indexes
from tests.indexes.clusters import DIM, QUERIES, TRUTH, VECTORS, K, N, marked, overlap, widest


@pytest.fixture(scope="module", params=map(marked, sorted(indexes.INDEXES)))
def built(request):
    """Each registered index, built once; skipped, with the line that installs it, when its library
    is missing.
    """
    if request.param == "pgvector":
        request.getfixturevalue("postgres")
    try:
        return indexes.find(request.param)().build(VECTORS)
    except indexes.MissingPackage as error:
        pytest.skip(str(error))


def test_returns_ids_and_leaves_what_it_is_given(built):
    vectors, queries = VECTORS.copy(), QUERIES.copy()
    found = built.query(QUERIES, K)
    assert found.shape == (len(QUERIES), K) and found.dtype == np.int64
    assert found.min() >= -1 and found.max() < N
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)
    assert (vectors == VECTORS).all() and (queries == QUERIES).all()
    assert built.query(QUERIES[:1], 1).shape == (1, 1)


def test_finds_the_neighbours_at_its_defaults_and_most_at_the_end_of_its_sweep(built):
    assert overlap(built.query(QUERIES, K)) > 0.4
    assert overlap(built.query(QUERIES, K, **widest(built))) > 0.95
    assert set(built.default_sweep) <= set(indexes.arguments_of(built.name, "query"))


def test_a_vector_finds_itself_and_best_comes_first(built):
    found = built.query(VECTORS[:50], K, **widest(built))
    assert np.mean(found[:, 0] == np.arange(50)) > 0.95
    scores = np.einsum("qd,qkd->qk", VECTORS[:50], VECTORS[found])
    # its numbers have 8 bits
    rounding = 0.01 if built.name in ("faiss_ivf_disk", "faiss_ivf_rabitq") else 1e-4
    assert np.mean(np.diff(scores, axis=1) <= rounding) > 0.95


def test_saved_and_loaded_it_answers_the_same(built, tmp_path):
    path = tmp_path / "folder" / "some.index"
    built.save(path)
    loaded = indexes.load(path, VECTORS)
    assert (loaded.query(QUERIES, K) == built.query(QUERIES, K)).all()
    assert (
        type(loaded) is type(built)
        and loaded.count == N
        and loaded.build_arguments == built.build_arguments
    )
    about = json.loads((tmp_path / "folder" / "some.index.json").read_text())
    assert about["dim"] == DIM and about["count"] == N and about["library"]


def test_building_again_replaces(built):
    index = type(built)().build(VECTORS).build(VECTORS[:700])
    found = index.query(VECTORS[:5], K)
    assert index.count == 700 and found.max() < 700
    assert (found[:, 0] == np.arange(5)).mean() > 0.7


def test_a_collection_smaller_than_any_default_is_searched(built):
    index = type(built)().build(VECTORS[:3])
    assert sorted(index.query(VECTORS[:1], 3)[0]) == [0, 1, 2]
    assert type(built)().build(VECTORS[:1]).query(VECTORS[:1], 1)[0, 0] == 0


def test_refuses_bad_input_in_one_line(built):
    kind = type(built)
    for broken, message in [
        (VECTORS[0], r"must be \(n, d\)"),
        (VECTORS[:0], r"must be \(n, d\)"),
        (VECTORS * 2, "length 1, row 0 has 2"),
        (np.where(np.arange(DIM) == 3, np.nan, VECTORS), "row 0 has nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            kind().build(broken)
    for queries, k, message in [
        (QUERIES[0], 3, "queries must be"),
        (QUERIES[:, :5], 3, r"queries must be \(n_queries, 32\), got \(80, 5\)"),
        (np.where(np.arange(80)[:, None] == 4, np.nan, QUERIES), 3, "row 4 has NaN"),
        (QUERIES, N + 1, "k must be 1 to 1500"),
        (QUERIES, 0, "k must be 1 to 1500"),
    ]:
        with pytest.raises(ValueError, match=message):
            built.query(queries, k)
    with pytest.raises(ValueError, match=f"{built.name} has no build argument nosuch"):
        kind().build(VECTORS, nosuch=1)
    with pytest.raises(ValueError, match=f"{built.name} has no query argument nosuch"):
        built.query(QUERIES, 3, nosuch=1)


def able(built, *verbs):
    if not set(verbs) <= built.can():
        with pytest.raises(ValueError, match=f"{built.name} cannot {verbs[0]}; build it again"):
            getattr(built, verbs[0])(VECTORS[:1]) if verbs[0] != "filter" else built.query(
                QUERIES, 1, allowed=[0]
            )
        pytest.skip(f"{built.name} cannot {verbs[0]}, and says so")


def test_adds(built):
    able(built, "add")
    index = type(built)().build(VECTORS[:1000])
    assert index.add(VECTORS[1000:]).tolist() == list(range(1000, N)) and index.count == N
    assert overlap(index.query(QUERIES, K, **widest(index))) > 0.95
    with pytest.raises(ValueError, match=r"vectors must be \(n, 32\)"):
        index.add(VECTORS[:, :4])


def test_deletes_and_stays_deleted_when_saved_and_when_more_is_added(built, tmp_path):
    able(built, "delete")
    vectors = VECTORS[:-1]  # a server may share what was built of all
    gone = np.setdiff1d(TRUTH[:, :5], N - 1)
    kept = np.setdiff1d(np.arange(N - 1), gone)
    truth = kept[np.argsort(-QUERIES @ VECTORS[kept].T, axis=1)[:, :K]]
    index = type(built)().build(vectors)
    index.delete(gone)
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match=f"id {gone[0]} is deleted already"):
        index.delete(gone[:1])
    with pytest.raises(ValueError, match="ids must be 0 to 1498, got 1499"):
        index.delete([N - 1])
    for asked in (index, indexes.load(tmp_path / "index", vectors)):
        assert overlap(asked.query(QUERIES, K, **widest(asked)), truth) > 0.95
        assert not np.isin(asked.query(QUERIES, K), gone).any()
    if "add" in index.can():
        index.add(QUERIES)
        found = index.query(QUERIES, K, **widest(index))
        assert (
            np.mean(found[:, 0] == np.arange(N - 1, N - 1 + len(QUERIES))) > 0.95
            and not np.isin(found, gone).any()
        )
        index.save(tmp_path / "index")
        loaded = indexes.load(tmp_path / "index", np.concatenate([vectors, QUERIES]))
        assert not np.isin(loaded.query(QUERIES, K), gone).any()
        with pytest.raises(indexes.IndexFileError, match="made of other vectors"):
            indexes.load(tmp_path / "index", vectors)


def test_searches_among_the_allowed(built):
    able(built, "filter")
    allowed = np.arange(0, N, 3)
    truth = allowed[np.argsort(-QUERIES @ VECTORS[allowed].T, axis=1)[:, :K]]
    found = built.query(QUERIES, K, allowed=allowed, **widest(built))
    assert overlap(found, truth) > 0.9 and np.isin(found, [*allowed, -1]).all()
    few = built.query(QUERIES[:3], K, allowed=[5, 7], **widest(built))
    assert np.isin(few, [5, 7, -1]).all() and (few[:, 2:] == -1).all()
    assert (built.query(QUERIES[:3], K, allowed=[]) == -1).all()
    assert overlap(built.query(QUERIES, K, **widest(built))) > 0.95  # and forgets the filter


@pytest.mark.parametrize(
    "damage", ["flipped", "cut", "foreign", "no description", "description", "other vectors"]
)
def test_refuses_a_damaged_or_foreign_file_in_one_line(built, damage, tmp_path):
    path, about, vectors = tmp_path / "some.index", tmp_path / "some.index.json", VECTORS
    built.save(path)
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 255]) + content[-8:])
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    if damage == "foreign":
        path.write_bytes(b"\x89PNG\r\n")
    if damage == "no description":
        about.unlink()
    if damage == "description":
        about.write_text('{"index": ')
    if damage == "other vectors":
        vectors = VECTORS[::-1]
    with pytest.raises(indexes.IndexFileError) as refusal:
        indexes.load(path, vectors)
    assert "\n" not in str(refusal.value) and "build the index again" in str(refusal.value)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="no index is called faiss_hnws. Did you mean faiss_hnsw?"):
        indexes.find("faiss_hnws")
    with pytest.raises(ValueError, match="Did you mean ef_construction?"):
        indexes.check_arguments("faiss_hnsw", "build", {"ef_constuction": 3})
