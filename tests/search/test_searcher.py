"""Search as a user types it: right pictures in the right order, resumable databases, one clear line
of error.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgsearch_utils import indexes, workspace
from imgsearch_utils.images import Embeddings
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.promotion import why_in_use
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.search import search
from imgsearch_utils.search.database import keep_index
from imgsearch_utils.search.reranking import reciprocal_distances
from imgsearch_utils.search.searcher import MAX_CROPS, Searcher, crops_of, expanded, rocchio
from imgsearch_utils.search.service import Service
from imgsearch_utils.workspace import find_run
from tests import tiny_study
from tests.encoders.test_encoder_names import tiny_clip  # noqa: F401  a fixture
from tests.tiny_study import command, living_in, typed


@pytest.fixture(scope="module")
def home(tiny):
    return tiny


@pytest.fixture(scope="module")
def searcher(home) -> Searcher:
    with living_in(home):
        return Searcher.open(find_run("tiny"))


@pytest.fixture
def copy(home, tmp_path) -> Path:
    """The same workspace, to change; its pictures' folder is its own."""
    shutil.copytree(home, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*.*"):
        if file.name in ("tiny.yaml", "settings.json"):
            file.write_text(file.read_text().replace(str(home), str(tmp_path / "copy")))
    return tmp_path / "copy"


def asked(home, *arguments) -> dict:
    out, err = typed(home, "search", *arguments, "--study", "tiny", "--json")
    assert out, err
    return json.loads(out)


def test_a_picture_finds_itself_first_with_its_label_and_a_sheet_to_look_at(
    home, searcher, tmp_path
):
    name = searcher.names[5]
    done = command(
        home,
        "search",
        f"pictures/{name}",
        "-k",
        4,
        "--study",
        "tiny",
        "--show",
        tmp_path / "sheet.png",
    )
    assert done.returncode == 0, done.stderr
    about, header, *rows = done.stdout.strip().splitlines()
    assert "head of run tiny, exact index, 36 pictures" in about
    assert header.split() == ["rank", "image", "class", "score", "P(similar)"]
    rank, image, label, score, _ = rows[0].split()
    assert (rank, image, label, score) == ("1", name, name.split("/")[0], "1.000")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * sheet.height / 2  # five pictures in a row


def test_the_command_and_the_function_say_the_same(home, searcher):
    file = searcher.collection.path(searcher.names[7])
    found = asked(home, file, "-k", 5)
    assert {key: found[key] for key in ("study", "run", "model", "index", "pictures")} == {
        "study": "tiny",
        "run": "tiny",
        "model": "head",
        "index": "exact",
        "pictures": 36,
    }
    [answer] = found["queries"]
    with living_in(home):
        for picture in (file, Image.open(file)):
            table = search(picture, 5, "tiny")
            assert list(table) == ["rank", "image", "class", "score", "p_similar", "close"]
            assert [row["image"] for row in answer["results"]] == table.image.tolist()
            np.testing.assert_allclose(
                [row["score"] for row in answer["results"]], table.score, atol=1e-5
            )
    assert found["threshold"] == searcher.model.threshold and answer["close_match"] == bool(
        table.close.any()
    )


@pytest.mark.parametrize("few", [0, 20_000])
@pytest.mark.parametrize("index", ["exact", "annoy", "faiss_ivf"])
@pytest.mark.parametrize("rerank", ["", "reciprocal"])
def test_among_a_part_the_results_are_those_of_the_whole_that_fit(
    home, monkeypatch, few, index, rerank
):
    """However many fit, and whether or not the index can pass over the others."""
    monkeypatch.setattr("imgsearch_utils.search.searcher.FEW", few)
    with living_in(home):
        opened, every = (Searcher.open(find_run("tiny"), "head", name) for name in (index, "exact"))
    rows, queries = opened.only("class <> 'modern'"), opened.vectors_of(opened.names[:3])
    found = opened.search(queries, 36, rerank=rerank, allowed=rows)
    assert (
        len(rows) == 24 and set(found["class"]) == {"farmhouse", "rustic"} and len(found) == 3 * 24
    )
    if not rerank:
        whole = every.search(queries, 36)
        whole = whole[whole["class"] != "modern"]
        assert found.image.tolist() == whole.image.tolist()
        np.testing.assert_allclose(found.p_similar, whole.p_similar, atol=1e-5)
    with pytest.raises(ValueError, match="no picture is left where class = 'none'"):
        opened.only("class = 'none'")


@pytest.mark.parametrize("model", ["encoder", "head"])
def test_order_scores_and_probabilities_are_those_of_the_definition(home, model):
    with living_in(home):
        run = find_run("tiny")
        searcher = Searcher.open(run, model)
    queries = searcher.vectors_of(searcher.names[:3])
    unit, asked_ = (searcher.model.vectors(v) for v in (searcher.database.vectors, queries))
    cosine = asked_ @ unit.T
    found = searcher.search(queries, 36)
    curves = workspace.read_json(home / "active_learning_models/tiny/round_00/calibration.json")
    calibration = Calibration.from_dict(curves[model])
    for query, table in found.groupby("query"):
        own = dict(zip(searcher.names, cosine[query]))
        assert sorted(table.image) == sorted(own) and table.image.iloc[0] == searcher.names[query]
        assert table["rank"].tolist() == list(range(1, 37)) and (np.diff(table.score) <= 2e-6).all()
        expected = np.array([own[name] for name in table.image])
        np.testing.assert_allclose(table.score, expected, atol=1e-5)
        np.testing.assert_allclose(table.p_similar, calibration.predict(expected)[:, 3], atol=1e-4)
        assert (table.close == (table.p_similar >= calibration.threshold)).all()
        assert table["class"].tolist() == [name.split("/")[0] for name in table.image]


@pytest.mark.parametrize("name", ["torch", "faiss_hnsw", "annoy"])
def test_every_index_by_name_finds_the_same_among_few(home, searcher, name):
    with living_in(home):
        other = Searcher.open(find_run("tiny"), "", name)
    queries = searcher.vectors_of(searcher.names[:6])
    assert other.index.name == name
    assert other.search(queries, 3).image.tolist() == searcher.search(queries, 3).image.tolist()


def test_the_head_is_asked_only_where_it_was_promoted_and_words_of_it_are_honest(copy):
    name = "pictures/modern/modern_0001.jpg"
    (copy / "active_learning_results/tiny/round_00/metrics.json").write_text('{"promoted": false}')
    assert asked(copy, name)["model"] == "encoder"
    shutil.rmtree(copy / "active_learning_results/tiny/round_00")
    assert (
        "round 0 of run tiny lost a part of it" in typed(copy, "search", name, "--study", "tiny")[1]
    )
    shutil.rmtree(copy / "active_learning_models/tiny/round_00")
    found = asked(copy, name)
    assert found["threshold"] is None and found["queries"][0]["results"][0]["p_similar"] is None
    out, _ = typed(copy, "search", name, "--study", "tiny")
    assert "P(similar) is not known before the first finished round" in out
    _, said = typed(copy, "search", name, "--study", "tiny", "--model", "head")
    assert said.strip() == "imgsearch: run tiny has no finished round yet; run the study first"


def test_a_published_run_without_its_head_says_so_with_each_answer_and_is_not_called_whole(copy):
    name, head = "pictures/modern/modern_0001.jpg", "active_learning_models/tiny/round_00"
    assert asked(copy, name)["notice"] == ""
    (copy / "active_learning_labels/tiny/PUBLISHED").touch()
    (copy / head / "head.safetensors").unlink()
    found, said = asked(copy, name), typed(copy, "search", name, "--study", "tiny")[1]
    assert found["model"] == "encoder" and "published without its heads" in found["notice"]
    assert said == f"imgsearch: {found['notice']}\n"
    with living_in(copy):
        run = find_run("tiny")
        served = Service(run).search(image="modern/modern_0001.jpg")
        assert served["notice"] == found["notice"]
        assert found["notice"] in why_in_use(run, "encoder")
    out, _ = typed(copy, "check", "--study", "tiny")
    assert "is whole" not in out
    # who asks for the encoder gets what was asked for
    assert typed(copy, "search", name, "--study", "tiny", "--model", "encoder")[1] == ""


def test_a_head_that_is_lost_is_not_replaced_by_the_encoder(copy):
    (copy / "active_learning_models/tiny/round_00/head.safetensors").unlink()
    done = command(copy, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny")
    assert done.returncode == 1 and "round_00" in done.stderr


def test_no_close_match_is_said(copy):
    file = copy / "active_learning_models/tiny/round_00/calibration.json"
    curves = json.loads(file.read_text())
    for model in ("encoder", "head"):
        curves[model]["threshold"] = 0.9999
    workspace.write_json(file, curves)
    out, _ = typed(copy, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny")
    assert out.strip().splitlines()[-1].startswith("no close match")
    assert not asked(copy, "pictures/modern/modern_0001.jpg")["queries"][0]["close_match"]


def test_a_picture_of_another_kind_is_close_to_nothing_whatever_the_head_says(searcher):
    """Far from all images by the encoder, though the head puts everything in one place."""
    queries = -searcher.database.vectors[:4] + 1e-3
    model = replace(searcher.model, out_of_collection_cosine=0.2)
    found = replace(searcher, model=model).search(
        np.concatenate([queries, searcher.database.vectors[:4]]), 36
    )
    without = replace(searcher, model=replace(model, out_of_collection_cosine=-1.0)).search(
        queries, 36
    )
    assert (without.p_similar > 0).all()
    far, near = found[found["query"] < 4], found[found["query"] >= 4]
    assert (far.p_similar == 0).all() and not far.close.any() and (near.p_similar > 0).all()
    assert (
        far.image.tolist() == without.image.tolist()
        and far.score.tolist() == without.score.tolist()
    )
    assert (
        replace(searcher, model=model).search(queries, 3, calibrated=False).p_similar.isna().all()
    )


def test_the_nearest_image_by_the_encoder_decides_even_where_few_results_are_asked_for(searcher):
    unit = normalised(searcher.database.vectors)
    cosine = unit @ unit.T - 2 * np.eye(len(unit))
    queries = normalised(unit + unit[cosine.argmax(1)] * 0.5)
    nearest = (queries @ unit.T).max(1)
    out_of_collection_cosine = float(np.median(nearest))
    asked = replace(
        searcher, model=replace(searcher.model, out_of_collection_cosine=out_of_collection_cosine)
    )
    for k, expand in ((1, 0), (5, 0), (1, 3)):
        first = asked.search(queries, k, expand=expand).groupby("query").first()
        assert (first.p_similar == 0).tolist() == (nearest < out_of_collection_cosine).tolist()
        assert 5 < (first.p_similar == 0).sum() < 31


@pytest.mark.parametrize(
    "out_of_collection_cosine",
    [None, "near", [0.5], True, 7.0, -1.5, float("nan"), 0, "absent"],
    ids=repr,
)
def test_a_calibration_without_a_sound_reach_is_one_line_that_names_the_file(
    copy, out_of_collection_cosine
):
    file = copy / "active_learning_models/tiny/round_00/calibration.json"
    curves = {**json.loads(file.read_text()), "reach": out_of_collection_cosine}
    if out_of_collection_cosine == "absent":
        del curves["reach"]
    file.write_text(json.dumps(curves))
    for model in ("encoder", "head"):
        _, said = typed(
            copy, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny", "--model", model
        )
        assert (
            "round_00/calibration.json" in said and "reach" in said and len(said.splitlines()) == 1
        ), said


def test_a_folder_of_queries_names_and_skips_what_is_broken(home, tmp_path):
    folder = tmp_path / "queries"
    shutil.copytree(home / "pictures/rustic", folder / "deeper")
    (folder / "torn.jpg").write_bytes((folder / "deeper/rustic_0001.jpg").read_bytes()[:1500])
    out, said = typed(
        home,
        "search",
        folder,
        "--study",
        "tiny",
        "-k",
        1,
        "--json",
        "--show",
        tmp_path / "sheet.png",
    )
    assert (
        said.startswith("set aside: ")
        and "torn.jpg" in said
        and len(said.strip().splitlines()) == 1
    )
    answers = json.loads(out)["queries"]
    assert [Path(a["query"]).name for a in answers] == [
        Path(a["results"][0]["image"]).name for a in answers
    ]
    assert len(answers) == 12 and (tmp_path / "sheet.png").stat().st_size


def test_new_pictures_are_embedded_alone_and_found_without_a_side(copy):
    vectors = copy / "vector_dbs/tiny/encoder"
    before, stamp = np.load(vectors / "vectors.npy"), (vectors / "vectors.npy").stat().st_mtime_ns
    out, _ = typed(copy, "embed", "--study", "tiny")
    assert (
        "36 vectors, 0 of them new" in out and (vectors / "vectors.npy").stat().st_mtime_ns == stamp
    )
    out, _ = typed(copy, "index", "--study", "tiny", "--index", "faiss_hnsw")
    assert "faiss_hnsw of 36 vectors of the head, built" in out
    with living_in(copy):
        assert len(search("pictures/modern/modern_0001.jpg", 99, "tiny")) == 36
    new = tiny_study.draw(copy, 12)
    (copy / "pictures/rustic/torn.jpg").write_bytes(b"no picture")
    out, said = typed(copy, "embed", "--study", "tiny")
    assert "37 vectors, 1 of them new" in out and "set aside: rustic/torn.jpg: " in said
    after, names = np.load(vectors / "vectors.npy"), (vectors / "names.csv").read_text()
    assert all((row == after).all(1).any() for row in before) and new.name in names
    assert new.name not in (copy / "active_learning_labels/tiny/images.csv").read_text()
    # the kept index is of the pictures before: it is not used, then made again
    for step in ((), ("index",)):
        if step:
            out = [
                typed(copy, *step, "--study", "tiny", "--index", "faiss_hnsw")[0] for _ in range(2)
            ]
            assert (
                "of 37 vectors of the head, 1 added" in out[0]
                and "of 37 vectors of the head, as it was" in out[1]
            )
        found = asked(copy, new, "--index", "faiss_hnsw", "-k", 3)
        assert (found["index"], found["pictures"]) == ("faiss_hnsw", 37)
        assert found["queries"][0]["results"][0]["image"].endswith(new.name)
    with living_in(copy):  # the open database is opened anew
        assert search(new, 99, "tiny").image.str.endswith(new.name).sum() == 1


@pytest.mark.parametrize(
    "name",
    [
        "exact",
        "faiss_ivf",
        "faiss_ivf_disk",
        "faiss_ivf_rabitq",
        "faiss_hnsw_sq",
        "usearch",
        "lancedb",
        "scann",
        "annoy",
    ],
)
def test_a_kept_index_takes_what_is_new_and_is_built_anew_where_that_would_not_be_as_good(
    copy, name
):
    rng, folder = np.random.default_rng(0), copy / "vector_dbs/tiny/encoder"

    def appended(n):
        database, vectors = (
            Embeddings.load(folder),
            rng.normal(size=(n, Embeddings.load(folder).vectors.shape[1])),
        )
        names = [f"new/{len(database.names) + number}.jpg" for number in range(n)]
        digests = [f"{len(database.names) + number:064}" for number in range(n)]
        more = replace(database, names=names, vectors=vectors.astype(np.float32), digests=digests)
        return database.append(folder, more)

    with living_in(copy):
        run, shown = find_run("tiny"), []
        try:
            shown.append(keep_index(run, "encoder", name).new)
        except indexes.MissingPackage as error:
            pytest.skip(str(error))
        can = "add" in indexes.find(name).can()
        for n in (0, 4, 3, 60):
            database = appended(n) if n else Embeddings.load(folder)
            shown.append(keep_index(run, "encoder", name).new)
            searcher, last = Searcher.open(run, "encoder", name), database.names[-1]
            found = searcher.search(searcher.vectors_of([last]), 1)
            assert searcher.index.name == name and found.image.tolist() == [last]
        assert shown == ([36, 0, 4, 3, 103] if can else [36, 0, 40, 43, 103])
        all_of = Embeddings.load(folder)
        fewer = replace(
            all_of,
            names=all_of.names[1:],
            vectors=all_of.vectors[1:].copy(),
            digests=all_of.digests[1:],
        )
        fewer.save(folder)
        assert keep_index(run, "encoder", name).new == 102  # one was removed


def test_a_kept_index_is_loaded_and_a_broken_one_refused(copy):
    with living_in(copy):
        run = find_run("tiny")
        file = keep_index(run, "encoder", "annoy").file
        assert (
            Searcher.open(run, "encoder", "annoy")
            .search(Searcher.open(run).vectors_of(["modern/modern_0001.jpg"]))["image"]
            .iloc[0]
            == "modern/modern_0001.jpg"
        )
    file.write_bytes(file.read_bytes()[:-7])
    _, said = typed(
        copy,
        "search",
        "pictures/modern/modern_0001.jpg",
        "--study",
        "tiny",
        "--model",
        "encoder",
        "--index",
        "annoy",
    )
    assert (
        "corrupt, cut off" in said
        and "build the index again" in said
        and len(said.splitlines()) == 1
    )
    assert (
        "36 vectors"
        in typed(copy, "index", "--study", "tiny", "--model", "encoder", "--index", "annoy")[0]
    )
    assert asked(copy, "pictures/modern/modern_0001.jpg", "--model", "encoder", "--index", "annoy")


def test_an_index_whose_package_is_missing_names_what_to_install(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    _, said = typed(
        home, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny", "--index", "hnswlib"
    )
    assert (
        said.strip() == 'imgsearch: hnswlib needs hnswlib: pip install "imgsearch-utils[hnswlib]"'
    )


def test_labels_of_any_name_stand_beside_the_results_own_columns(tmp_path):
    folder = tmp_path / "datasets/vectors"
    folder.mkdir(parents=True)
    np.save(folder / "v.npy", np.eye(5, dtype=np.float32))
    rows = "".join(f"{n}.jpg;{n % 2};high;{n}\n" for n in range(5))
    (folder / "labels.csv").write_text("file_label;kind;score;rank\n" + rows)
    (tmp_path / "mine.yaml").write_text(
        "study: mine\nimages: {source: vectors, vectors: v.npy, class_columns: [kind]}"
    )
    typed(tmp_path, "embed", "--study", "mine.yaml")
    with living_in(tmp_path):
        searcher = Searcher.open(find_run("mine.yaml"))
    found = searcher.search(searcher.vectors_of(["3.jpg"]), 5)
    # equal scores by name
    assert found.image.tolist() == ["3.jpg", "0.jpg", "1.jpg", "2.jpg", "4.jpg"]
    assert list(found) == [
        "query",
        "rank",
        "image",
        "kind",
        "label_score",
        "label_rank",
        "score",
        "p_similar",
        "close",
    ]
    assert found.iloc[0][["rank", "image", "label_score", "label_rank"]].tolist() == [
        1,
        "3.jpg",
        "high",
        "3",
    ]


def test_a_database_of_another_encoder_is_refused_and_made_again(copy):
    folder = copy / "vector_dbs/tiny/encoder"
    ours = Embeddings.load(folder)
    theirs = ours.config["preprocessing"].replace("crop 224", "crop 200")
    replace(
        ours, config={**ours.config, "preprocessing": theirs}, vectors=np.array(ours.vectors)
    ).save(folder)
    _, said = typed(copy, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny")
    assert said.startswith(
        "imgsearch: the database of run tiny was made by another encoder (preprocessing: "
    )
    assert (
        said.endswith("make it again: imgsearch embed --study tiny\n")
        and len(said.splitlines()) == 1
    )
    assert "36 vectors" in typed(copy, "embed", "--study", "tiny")[0]
    assert (
        asked(copy, "pictures/modern/modern_0001.jpg")["queries"][0]["results"][0]["score"] > 0.999
    )


def test_vectors_of_unknown_origin_answer_for_their_images_only(tmp_path):
    folder = tmp_path / "datasets/vectors"
    folder.mkdir(parents=True)
    np.save(folder / "v.npy", np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32))
    (folder / "labels.csv").write_text(
        "file_label,kind\n" + "".join(f"{n}.jpg,{n % 3}\n" for n in range(9))
    )
    (tmp_path / "mine.yaml").write_text(
        "study: mine\nimages: {source: vectors, vectors: v.npy, class_columns: [kind]}\n"
        "oracle: person\n"
    )
    assert "9 vectors, 9 of them new" in typed(tmp_path, "embed", "--study", "mine.yaml")[0]
    Image.new("RGB", (30, 30)).save(tmp_path / "black.png")
    _, said = typed(tmp_path, "search", "black.png", "--study", "mine.yaml")
    assert "came as vectors from v.npy, made elsewhere" in said and len(said.splitlines()) == 1
    with living_in(tmp_path):
        searcher = Searcher.open(find_run("mine.yaml"))
        found = searcher.search(searcher.vectors_of(["4.jpg"]), 2)
    assert found.image[0] == "4.jpg" and found.kind[0] == "1" and found.p_similar.isna().all()
    with pytest.raises(ValueError, match="1 image\\(s\\) have no vector, first: 'x.jpg'"):
        searcher.vectors_of(["x.jpg"])


def test_words_search_where_the_encoder_reads_them(tmp_path, tiny_clip):
    tiny_study.make(tmp_path, encoder=f"open_clip:tiny-clip/{tiny_clip[1] / 'plain.pt'}")
    out, said = typed(
        tmp_path,
        "search",
        "--text",
        "a red house",
        "--study",
        "tiny",
        "-k",
        3,
        "--show",
        tmp_path / "sheet.png",
    )
    assert out.startswith("a red house - encoder of run tiny") and out.rstrip().endswith(
        "not known of words"
    ), said
    with living_in(tmp_path):
        searcher = Searcher.open(find_run("tiny"), "encoder")
    text = normalised(searcher.encoder.encode_texts(["a red house"]))
    cosine = normalised(searcher.database.vectors) @ text[0]
    assert out.splitlines()[2].split()[1] == searcher.names[int(cosine.argmax())]


def test_two_searchers_share_one_network(home, searcher):
    with living_in(home):
        other = Searcher.open(find_run("tiny"), "encoder")
    assert other.encoder is searcher.encoder


def test_options_are_off_by_default_and_gentle(searcher):
    picture = Image.open(searcher.collection.path(searcher.names[3]))
    plain = searcher.encode([picture])
    several = searcher.encode([picture, picture], crops=3)
    crops = normalised(searcher.encode(crops_of(picture, 3)))
    np.testing.assert_allclose(several, np.repeat(crops.mean(0)[None], 2, 0), atol=1e-5)
    found, wide = searcher.search(plain, 5), searcher.search(plain, 5, expand=4, alpha=2)
    assert found.image[0] == searcher.names[3]
    unit = searcher.model.vectors(plain)
    near = normalised(searcher.vectors[searcher.database.rows(found.image[:4])])
    by_hand = unit[0] + sum(vector * max(0, vector @ unit[0]) ** 2 for vector in near)
    expected = normalised(searcher.vectors) @ normalised(by_hand[None])[0]
    np.testing.assert_allclose(wide.score, np.sort(expected)[::-1][:5], atol=1e-5)
    np.testing.assert_allclose(wide.score, expected[searcher.database.rows(wide.image)], atol=1e-5)
    p_of = dict(zip(searcher.search(plain, 36).image, searcher.search(plain, 36).p_similar))
    np.testing.assert_allclose(wide.p_similar, [p_of[name] for name in wide.image], atol=1e-6)


def test_re_ranking_by_another_name_is_refused(searcher):
    with pytest.raises(ValueError, match="rerank is one of reciprocal, or nothing; got 'head'"):
        searcher.search(searcher.vectors_of(searcher.names[:1]), rerank="head")


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 8), st.integers(1, 5), st.floats(0, 1)
)
def test_reciprocal_distances_are_those_of_the_article(seed, n, near, few, share):
    rng = np.random.default_rng(seed)
    unit = normalised(rng.normal(size=(1 + n, 5)).round(rng.integers(0, 4)) + [1, 0, 0, 0, 0])
    distance = 2 - 2 * (unit @ unit.T).astype(float)
    distance /= max(distance.max(), 1e-12)
    np.fill_diagonal(distance, 0)
    order = [
        [row, *(other for other in np.argsort(distance[row], kind="stable") if other != row)]
        for row in range(1 + n)
    ]

    def reciprocal(row, size):
        return {other for other in order[row][: size + 1] if row in order[other][: size + 1]}

    weights = np.zeros((1 + n, 1 + n))
    for row in range(1 + n):
        members = set(reciprocal(row, near))
        for other in reciprocal(row, near):
            theirs = reciprocal(other, max(1, round(near / 2)))
            if len(theirs & reciprocal(row, near)) > 2 / 3 * len(theirs):
                members |= theirs
        for other in members:
            weights[row, other] = np.exp(-distance[row, other])
        weights[row] /= weights[row].sum()
    weights = np.array(
        [np.mean([weights[other] for other in order[row][:few]], 0) for row in range(1 + n)]
    )
    jaccard = [
        1 - np.minimum(weights[0], weights[row]).sum() / np.maximum(weights[0], weights[row]).sum()
        for row in range(1, 1 + n)
    ]
    expected = (1 - share) * np.array(jaccard) + share * distance[0, 1:]
    np.testing.assert_allclose(reciprocal_distances(unit, near, few, share), expected, atol=1e-9)


def test_examples_move_a_query_as_defined_and_leave_p_similar_to_the_query(searcher):
    asked_, like, unlike = (
        searcher.vectors_of(searcher.names[of]) for of in (slice(3, 4), slice(5, 7), slice(20, 22))
    )
    found = searcher.search(asked_, 36, like=like, unlike=unlike)
    unit, likes, unlikes = map(searcher.model.vectors, (asked_, like, unlike))
    by_hand = (unit[0] + likes.sum(0)) / 3 - 0.4 * unlikes.mean(0)
    expected = normalised(searcher.vectors) @ normalised(by_hand[None])[0]
    np.testing.assert_allclose(
        found.score, expected[searcher.database.rows(found.image)], atol=1e-5
    )
    assert (np.diff(found.score) <= 2e-6).all()
    p_of = searcher.search(asked_, 36).set_index("image").p_similar
    np.testing.assert_allclose(found.p_similar, p_of[found.image], atol=1e-6)
    few = searcher.search(asked_, 5, expand=2, like=like, unlike=unlike)
    wide = normalised(searcher.vectors[searcher.database.rows(found.image[:2])])
    moved_ = normalised(by_hand[None])
    expected = normalised(searcher.vectors) @ expanded(moved_, wide[None], 3.0)[0]
    np.testing.assert_allclose(few.score, np.sort(expected)[::-1][:5], atol=1e-5)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_a_moved_query_is_nearer_to_what_it_shall_be_like(n_like, n_unlike, seed):
    rng = np.random.default_rng(seed)
    queries, like, unlike = (normalised(rng.normal(size=(n, 12))) for n in (3, n_like, n_unlike))
    found = rocchio(queries, like, unlike)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    if not n_unlike:
        mean = like.sum(0)
        assert n_like or np.allclose(found, queries, atol=1e-6)
        assert (found @ mean >= queries @ mean - 1e-5).all()
    elif not n_like:
        assert (found @ unlike.mean(0) <= queries @ unlike.mean(0) + 1e-5).all()


def test_several_pictures_are_one_question_and_what_it_is_not_like(home, searcher):
    names = [searcher.names[row] for row in (5, 8, 30)]
    files = [f"pictures/{name}" for name in names]
    found = asked(home, *files[:2], "--not", files[2], "-k", 36)
    [answer] = found["queries"]
    assert answer["query"] == f"{files[0]} + {files[1]} - {files[2]}" and not answer["close_match"]
    vectors = searcher.encode([Image.open(searcher.collection.path(name)) for name in names])
    table = searcher.search(vectors[:1], 36, like=vectors[1:2], unlike=vectors[2:])
    assert [row["image"] for row in answer["results"]] == table.image.tolist()
    # of several examples it is not known
    assert {row["p_similar"] for row in answer["results"]} == {None}
    out, _ = typed(home, "search", *files[:2], "--study", "tiny")
    assert out.rstrip().endswith("P(similar) is not known of several examples")
    found = asked(home, files[0], "--not", files[2], "-k", 36)
    [plain], [answer] = asked(home, files[0], "-k", 36)["queries"], found["queries"]
    p_of = {row["image"]: row["p_similar"] for row in plain["results"]}
    assert [row["p_similar"] for row in answer["results"]] == [
        p_of[row["image"]] for row in answer["results"]
    ]


@given(st.integers(1, MAX_CROPS), st.integers(1, 60), st.integers(1, 60))
def test_crops_lie_in_the_picture_and_the_first_is_the_picture(n, width, height):
    picture = Image.new("RGB", (width, height))
    crops = crops_of(picture, n)
    assert len(crops) == n and crops[0] is picture
    assert all(0 < crop.width <= width and 0 < crop.height <= height for crop in crops)


@given(st.integers(0, 5), st.floats(0, 8), st.integers(0, 2**32 - 1))
def test_expansion_gives_unit_vectors_and_without_neighbours_changes_nothing(m, alpha, seed):
    rng = np.random.default_rng(seed)
    queries, near = (
        normalised(rng.normal(size=(3, 7))),
        rng.normal(size=(3, m, 7)).astype(np.float32),
    )
    near = normalised(near.reshape(-1, 7)).reshape(near.shape)
    found = expanded(queries, near, alpha)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(expanded(queries, np.zeros_like(near), alpha), queries, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["nothing.jpg"],
            "nothing.jpg: no such file or folder; give a picture, or a folder of pictures",
        ),
        (["torn.jpg"], "'torn.jpg': not a readable picture"),
        (["empty"], "empty: no picture in this folder"),
        (["broken"], "broken: none of its pictures can be read"),
        ([], "give a picture, a folder of pictures, or --text WORDS"),
        (["--not", "good.jpg"], "give a picture, a folder of pictures, or --text WORDS"),
        (
            ["good.jpg", "broken"],
            "broken is a folder; several pictures are one question, so give a folder by itself",
        ),
        (["good.jpg", "torn.jpg"], "'torn.jpg': not a readable picture"),
        (["good.jpg", "--not", "torn.jpg"], "'torn.jpg': not a readable picture"),
        (["good.jpg", "--not", "nothing.jpg"], "'nothing.jpg': No such file or directory"),
        (["good.jpg", "--not", "broken"], "'broken': a folder, not a picture"),
        (
            ["good.jpg", "-k", "0"],
            "k must be at least 1, expand and alpha at least 0, got 0, 0 and 3.0",
        ),
        (["good.jpg", "--expand", "-1"], "expand and alpha at least 0, got 10, -1"),
        (["good.jpg", "--crops", "11"], "crops must be 1 to 10, got 11"),
        (["good.jpg", "--index", "anoy"], "no index is called anoy. Did you mean annoy?"),
        (["good.jpg", "--model", "haed"], "no model is called haed. Did you mean head?"),
        (
            ["good.jpg", "--run", "tinyy"],
            "no run is called tinyy here; begin it: imgsearch run tiny --run tinyy. Did you "
            "mean tiny?",
        ),
        (["good.jpg", "--show", "sheet.xyz"], "--show sheet.xyz: Format 'xyz' is not supported"),
        (
            ["good.jpg", "--show", "nowhere/sheet.png"],
            "--show nowhere/sheet.png: [Errno 2] No such file",
        ),
        (
            ["--text", "a house"],
            "words need an open_clip encoder, and run tiny has efficientnet_lite0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line(copy, arguments, said):
    shutil.copy(copy / "pictures/modern/modern_0001.jpg", copy / "good.jpg")
    (copy / "torn.jpg").write_text("no picture")
    (copy / "empty").mkdir()
    (copy / "broken").mkdir()
    shutil.copy(copy / "torn.jpg", copy / "broken/1.jpg")
    _, error = typed(copy, "search", *arguments, "--study", "tiny")
    assert said in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == (2 if arguments == ["broken"] else 1)


def test_more_than_there_is_gives_all(home):
    out, said = typed(
        home, "search", "pictures/modern/modern_0001.jpg", "--study", "tiny", "-k", 500, "--json"
    )
    assert len(json.loads(out)["queries"][0]["results"]) == 36
    assert said.strip() == "the database has 36 pictures; all are ranked"


def test_before_a_run_the_next_step_is_named(tmp_path):
    tiny_study.write_study(tmp_path)
    done = command(tmp_path, "search", "x.jpg", "--study", "tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.strip() == "imgsearch: no run is called tiny here; begin it: imgsearch run tiny"
    )
    for arguments in (["index"], ["serve"], ["classify", "x.jpg"]):
        assert typed(tmp_path, *arguments, "--study", "tiny") == ("", done.stderr)
    with living_in(tmp_path):
        run = workspace.find_run("tiny", begin=True)
        with pytest.raises(
            ValueError, match="run tiny has no vectors yet; make them: imgsearch embed --study tiny"
        ):
            Searcher.open(run)
