"""One round: its pairs, the answers, the labels that may be used, what they are worth, the log of
all rounds.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgsearch_utils.encoders.embed_collection import read_vectors
from imgsearch_utils.grades import graded_pairs
from imgsearch_utils.grades.comparison_files import teaching_triplets
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.pairs import key, list_numbers, read_pairs, write_pairs
from imgsearch_utils.grades.usable_grades import graded_lists, voted_pairs
from imgsearch_utils.images import Images
from imgsearch_utils.images.collection import open_collection
from imgsearch_utils.images.image_split import read_split, split_by_group
from imgsearch_utils.learning import Model, learner
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.heads import Head
from imgsearch_utils.learning.round_metrics import evaluate, score_pairs
from imgsearch_utils.steps import learning_round, rounds_log, tagging
from imgsearch_utils.study import HeadSettings, parse_study
from imgsearch_utils.workspace import Run, write_json

CURVES = Calibration((8.0, 8.0, 8.0), (-1.0, -3.0, -5.0), 0.5)


class World:
    """A run on 60 vectors of three trees and six kinds, split, with its round 0 written."""

    def __init__(self, home, oracle="hierarchy", classes=True, n=60, **settings_):
        values = {
            "study": "tiny",
            "images": {"source": "trees", "vectors": "v.npy"}
            | ({"class_columns": ["tree", "kind"]} if classes else {}),
            "oracle": oracle,
            "rounds": 3,
            "asked_per_round": 10,
            "zeros_per_round": 20,
            "dev_share": 0.25,
            "dev_asked": 8,
            "test_asked": 8,
            **settings_,
        }
        self.run = Run("tiny", parse_study(values))
        rng = np.random.default_rng(0)
        kinds = rng.integers(0, 6, n)
        folder = home / "datasets" / "trees"
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"ü {i:02d}, x.png" for i in range(n)]
        columns = (
            {"tree": [f"tree {k // 2}" for k in kinds], "kind": [f"0{k}" for k in kinds]}
            if classes
            else {}
        )
        pd.DataFrame({"file_label": names, **columns}).to_csv(folder / "labels.csv", index=False)
        np.save(
            folder / "v.npy",
            (rng.normal(size=(6, 8))[kinds] + rng.normal(size=(n, 8))).astype(np.float32),
        )
        self.collection = open_collection(self.run)
        self.embeddings = read_vectors(self.collection)
        grouped = Images(self.collection.images.assign(group=np.arange(n) // 2), self.embeddings)
        self.all = split_by_group(grouped, 0.25 if self.run.study.dev_share else 0, 0.25, 0)
        self.images = self.all.table
        self.run.labels.mkdir(parents=True, exist_ok=True)
        self.images.to_csv(self.run.labels / "images.csv", index=False)
        self.head = Head(8, HeadSettings(hidden=4))

    def folder(self, number, table):
        file = self.run.round(number).pairs
        file.parent.mkdir(parents=True, exist_ok=True)
        write_pairs(table, file)
        return file.parent

    def first(self):
        return tagging.first_pairs(self.run, self.all)

    def next(self, number):
        return learning_round.next_pairs(
            self.run.round(number - 1), self.all, Model.with_head(self.head, CURVES)
        )

    def answer(self, number, folder, annotator="oracle"):
        return tagging.answer(
            self.run.tagging_stage(), self.run.round(number), self.collection, annotator
        )

    def labels(self, number):
        return graded_pairs(self.run.round(number), self.all)

    def waiting(self, number=0):
        return tagging.waiting_pairs(self.run.round(number))


@pytest.fixture
def world(home):
    return World(home)


def keys(table):
    return list(zip(table.image1, table.image2))


def test_images_come_back_as_they_were_written(world):
    images = read_split(world.run)
    assert images.to_dict("list") == world.images.to_dict("list")  # "01" stays text
    assert images.group.dtype == int
    with pytest.raises(
        ValueError, match="run other has no images.csv yet; run 01_data_tagging first"
    ):
        read_split(Run("other", world.run.study))


def test_first_pairs_stay_on_their_side_and_within_the_budgets(world):
    table = world.first()
    pd.testing.assert_frame_equal(table, world.first())
    split, tree = (world.images.set_index("image")[name] for name in ("side", "tree"))
    assert (table.side.to_numpy() == split[table.image1].to_numpy()).all()
    assert (table.side.to_numpy() == split[table.image2].to_numpy()).all()
    assert (table.image1 < table.image2).all() and len(set(keys(table))) == len(table)
    zeros = table[table.automatic]
    assert (tree[zeros.image1].to_numpy() != tree[zeros.image2].to_numpy()).all() and (
        zeros.similarity == 0
    ).all()
    assert table[~table.automatic].similarity.isna().all()
    asked = table[~table.automatic].side.value_counts().to_dict()
    assert asked == {"train": 10, "dev": 8, "test": 8}
    assert zeros.side.value_counts().to_dict() == {"train": 20, "dev": 16, "test": 16}


def test_a_strategy_that_is_not_there_is_refused_before_anything_is_graded(home):
    with pytest.raises(ValueError, match="no strategy is called entropy. Choose from: random"):
        World(home, strategy="entropy").first()


def test_answers_are_given_once(world):
    folder = world.folder(0, world.first())
    before = (folder / "pairs.csv").read_bytes()
    assert len(world.waiting()) == 26
    assert world.answer(0, folder) == 26
    assert world.waiting().empty
    journal = world.run.journal.read_bytes()
    assert world.answer(0, folder) == world.answer(0, folder, "person") == 0
    assert (
        world.run.journal.read_bytes() == journal and (folder / "pairs.csv").read_bytes() == before
    )
    labels = world.labels(0)
    assert len(labels) == 26 + 52 and labels.automatic.sum() == 52
    table = world.images.set_index("image")
    same = table.kind[labels.image1].to_numpy() == table.kind[labels.image2].to_numpy()
    assert ((labels.similarity == 3).to_numpy() == same).all()


@pytest.mark.parametrize(
    ("annotator", "source"), [("oracle:hierarchy", "hierarchy"), ("import", "import")]
)
def test_answers_that_were_interrupted_are_completed(world, annotator, source):
    table = world.first()
    folder = world.folder(0, table)
    some = world.waiting().head(7)
    Journal(world.run.journal).append_many(some.assign(similarity=2.0), annotator, source, 0)
    assert len(world.waiting()) == 19
    assert world.answer(0, folder) == 19
    labels = world.labels(0).set_index(["image1", "image2"])
    assert (labels.loc[keys(some)].similarity == 2).all()


def grade(world, pair, act="grade", **fields):
    grades = {"grade": 2} if act == "grade" else {}
    Journal(world.run.journal).append("anna", pair.image1, pair.image2, act, **grades, **fields)


def test_what_a_person_began_waits_for_the_person_in_later_rounds_too(world):
    folder = world.folder(0, world.first())
    grade(world, world.waiting().iloc[0], "unsure")
    for annotator in ("oracle", "person"):
        with pytest.raises(
            ValueError,
            match="25 pairs of round 0 wait for a person's grade.*make tag STUDY=tiny ROUN",
        ):
            world.answer(0, folder, annotator)
    with pytest.raises(ValueError, match="A person has begun to grade this run.*begin another run"):
        world.answer(0, folder)
    for pair in world.waiting().itertuples():
        grade(world, pair)
    assert world.answer(0, folder) == 0
    folder = world.folder(1, world.next(1))
    with pytest.raises(ValueError, match="10 pairs of round 1 wait for a person's grade"):
        world.answer(1, folder)
    assert not [
        act for act in Journal(world.run.journal).acts() if act.annotator.startswith("oracle")
    ]


def test_a_grade_that_was_taken_back_begins_nothing(world):
    folder = world.folder(0, world.first())
    pair = world.waiting().iloc[0]
    grade(world, pair)
    grade(world, pair, "undo")
    assert world.answer(0, folder) == 26


def test_a_second_look_leaves_the_run_the_oracles(world):
    folder = world.folder(0, world.first())
    asked = world.waiting()
    assert world.answer(0, folder) == 26
    grade(world, asked.iloc[0])
    grade(world, asked.iloc[1], source="adjudication")
    grade(world, asked.iloc[2], "vote_up")
    folder = world.folder(1, world.next(1))
    assert world.answer(1, folder) == 10


def test_pairs_in_either_order_count_as_answered(world):
    table = world.first().rename(columns={"image1": "image2", "image2": "image1"})
    folder = world.folder(0, table[["image1", "image2", *table.columns.drop(["image1", "image2"])]])
    assert world.answer(0, folder) == 26
    assert world.waiting().empty and world.answer(0, folder) == 0


def test_people_are_waited_for_and_strangers_refused(home):
    world = World(home, oracle="person", classes=False)
    folder = world.folder(0, world.first())
    for annotator in ("person", "oracle"):
        with pytest.raises(
            ValueError, match="10 pairs of round 0 wait for a person's grade.*make teach STUDY=tiny"
        ):
            world.answer(0, folder, annotator)
    assert not tagging.ready(world.run.round(0))
    with pytest.raises(ValueError, match="ANNOTATOR must be oracle or person, got 'me'"):
        world.answer(0, folder, "me")
    waiting = world.waiting()
    Journal(world.run.journal).append_many(waiting.assign(similarity=1.0), "anna", "person", 0)
    assert world.answer(0, folder, "person") == 0 and tagging.ready(world.run.round(0))


def test_a_run_that_people_teach_learns_its_classes_before_anybody_is_asked(home):
    world = World(home, oracle="person")
    first = world.first()
    assert first.automatic.all() and set(first.side) == {"train", "dev", "test"}
    folder = world.folder(0, first)
    assert tagging.ready(world.run.round(0)) and world.answer(0, folder, "person") == 0
    found = learning_round.evidence(world.run.round(0), world.all)
    kinds = world.images.set_index("image")
    for row in found.itertuples():
        one, two = kinds.loc[row.image1], kinds.loc[row.image2]
        assert row.similarity == (3 if one.kind == two.kind else 2 if one.tree == two.tree else 0)
        assert one.side == two.side == row.side and one.group != two.group
    assert (
        found.automatic.all()
        and set(found.side) == {"train", "test"}
        and (found.similarity == 3).any()
    )
    pd.testing.assert_frame_equal(found, learning_round.evidence(world.run.round(0), world.all))
    train = world.next(1)
    assert set(train.strategy) == {"lists", "random", AUTOMATIC}
    graded = train[~train.automatic.astype(bool)].assign(similarity=2.0)
    Journal(world.run.journal).append_many(graded, "anna", "person", 1)
    found = learning_round.evidence(world.run.round(1), world.all)
    # nobody graded a test pair
    assert set(found.similarity) == {0, 2} and set(found.side) == {"train", "dev"}
    asked = tagging.check_pairs(world.run, world.all)
    assert len(asked) == 8 and kinds.loc[asked.image1].side.eq("test").all()
    Journal(world.run.journal).append_many(
        asked.head(5).assign(similarity=1.0), "anna", "person", 1
    )
    found = learning_round.evidence(world.run.round(1), world.all)
    assert (found.side == "test").sum() > 5 and len(tagging.check_pairs(world.run, world.all)) == 3


def test_lists_compare_what_grades_taught_with_what_search_used_before(home):
    """The places stand in the round's pairs, the grades in the journal; nothing else is needed."""
    world = World(home, strategy="lists")
    first = world.first()
    assert "place_learnt" not in first  # nothing is learnt yet
    world.answer(0, world.folder(0, first))
    table = world.next(1)
    folder = world.folder(1, table)
    before = graded_lists(world.run.round(1), world.all)
    assert before.empty
    world.answer(1, folder)
    found = graded_lists(world.run.round(1), world.all)
    asked = table[table.strategy == "lists"]
    assert len(found) == len(asked) > 5 and set(found["query"]) == set(asked["query"])
    assert (found["round"] == 1).all() and found.similarity.isin([0, 1, 2, 3]).all()
    for name in ("place_before", "place_learnt"):
        assert sorted(found[name]) == sorted(asked[name])
    grades = world.labels(1).set_index(["image1", "image2"]).similarity
    told = found.groupby("query").similarity.sum()
    for query, part in asked.groupby("query"):
        assert told[query] == sum(grades[pair] for pair in keys(part))
    file = folder / "pairs.csv"
    file.write_text(file.read_text().replace("place_learnt", "place_learned").replace("query", "q"))
    assert graded_lists(world.run.round(1), world.all).empty
    write_pairs(table.assign(place_learnt="third"), file)
    with pytest.raises(ValueError, match="pairs.csv: expected query, and numbers as place_before"):
        graded_lists(world.run.round(1), world.all)


def test_lists_that_nobody_began_are_drafted_anew_by_what_was_learnt_meanwhile(home):
    """What somebody has begun, or sees, stays as it is; the round is learnt from what it asks now."""
    world = World(home, oracle="person", classes=False, asked_per_round=60, zeros_per_round=0)
    this = world.run.round(0)
    world.folder(0, world.first())
    before = read_pairs(this.pairs)
    number = list_numbers(before)
    assert number.max() >= 3 and "place_learnt" not in before
    begun, seen = (before[number == one] for one in (1, 2))
    graded = begun.head(4).assign(similarity=[3.0, 0.0, 3.0, 1.0])
    Journal(world.run.journal).append_many(graded, "anna", "person", 0)
    drafts = learning_round.redraft(this, world.all, Model.with_head(world.head))
    on_screen = set(keys(seen.head(1)))
    tagging.take_over(this, drafts, on_screen)
    after = read_pairs(this.pairs)
    assert this.pairs == this.redrafted and len(after) == len(before)
    assert not after.duplicated(["image1", "image2"]).any()
    same = (after[["image1", "image2"]] == before[["image1", "image2"]]).all(axis=1)
    assert same[np.isin(number, (-1, 1, 2))].all()
    assert np.array_equal(list_numbers(after) >= 0, number >= 0)
    drafted = after.place_learnt.notna()
    assert drafted.sum() > 12 and not np.isin(number[drafted], (-1, 1, 2)).any()
    assert graded_lists(this, world.all).empty  # the list that was graded compares nothing
    listed = after[drafted].head(12)
    Journal(world.run.journal).append_many(listed.assign(similarity=2.0), "anna", "person", 0)
    assert len(graded_lists(this, world.all)) == 12
    tagging.take_over(this, drafts, set())  # made of other pairs than are asked now
    pd.testing.assert_frame_equal(read_pairs(this.pairs), after)
    assert this.as_stage().sources["pairs"] == this.redrafted


def test_next_pairs_are_new_train_pairs(world):
    first = world.folder(0, world.first())
    world.answer(0, first)
    seen = set(keys(read_pairs(first / "pairs.csv")))
    train = set(world.images.image[world.images.side == "train"])
    for number in (1, 2):
        table = world.next(number)
        pd.testing.assert_frame_equal(table, world.next(number))
        assert not seen & set(keys(table)) and set(table.image1) | set(table.image2) <= train
        assert (
            (~table.automatic).sum() == 10
            and table.automatic.sum() == 20
            and (table.side == "train").all()
        )
        seen |= set(keys(table))
        world.answer(number, world.folder(number, table))
    labels = world.labels(2)
    assert labels["round"].value_counts().to_dict() == {0: 78, 1: 30, 2: 30}
    assert len(world.labels(0)) == 78


@pytest.mark.parametrize("classes", [True, False])
def test_when_no_pair_is_left_the_next_round_is_empty(home, classes):
    world = World(
        home,
        "person",
        classes,
        n=16,
        asked_per_round=200,
        zeros_per_round=200,
        max_per_image=100,
        rounds=2,
    )
    table = world.first()
    Journal(world.run.journal).append_many(table.assign(similarity=1.0), "anna", "person", 0)
    train = world.images[world.images.side == "train"].image.tolist()
    every = pd.DataFrame(
        [(a, b) for a in train for b in train if a < b], columns=["image1", "image2"]
    )
    Journal(world.run.journal).append_many(every.assign(similarity=1.0), "anna", "person", 0)
    table = world.next(1)
    assert table.empty and {
        "image1",
        "image2",
        "similarity",
        "automatic",
        "strategy",
        "side",
    } == set(table)
    folder = world.folder(1, table)
    assert world.waiting(1).empty and world.answer(1, folder, "person") == 0


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_never_cross_sides_nor_rounds_nor_know_strangers(world, data):
    world.run.journal.unlink(missing_ok=True)
    journal = Journal(world.run.journal)
    names = [*world.images.image, "stranger.png"]
    acts = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(names),
                st.sampled_from(names),
                st.integers(0, 3),
                st.integers(0, 3),
                st.sampled_from(["person", AUTOMATIC]),
            ),
            max_size=30,
        )
    )
    for one, two, grade, number, source in acts:
        if one != two:
            journal.append(source, one, two, "grade", grade=grade, round=number, source=source)
    by_image = world.images.set_index("image")
    found = world.labels(1)
    expected = {
        tuple(sorted((one, two)))
        for one, two, _, number, _ in acts
        if one != two
        and number <= 1
        and "stranger.png" not in (one, two)
        and by_image.side[one] == by_image.side[two]
    }
    assert set(keys(found)) == expected and len(found) == len(expected)
    for row in found.itertuples():
        assert row.side == by_image.side[row.image1] == by_image.side[row.image2] and row.round <= 1
        assert row.same_class == (by_image.tree[row.image1] == by_image.tree[row.image2])
        assert (row.group1, row.group2) == (by_image.group[row.image1], by_image.group[row.image2])
        assert row.automatic == (row.source == AUTOMATIC)
    assert set(found) >= {
        "similarity",
        "round",
        "side",
        "automatic",
        "same_class",
        "group1",
        "group2",
    }


def test_labels_without_classes_are_all_of_one_class(home):
    world = World(home, "person", classes=False)
    table = world.first()
    assert not table.automatic.any() and len(table) == 10 and set(table.side) == {"train"}
    Journal(world.run.journal).append_many(table.assign(similarity=3.0), "anna", "person", 0)
    assert world.labels(0).same_class.all()


def scored_pairs(good, n=200, n_groups=100, seed=0):
    """Dev and test pairs of many groups; the head tells grade 3 with certainty (`good`) or is the
    encoder.
    """
    rng = np.random.default_rng(seed)
    grades = rng.choice(4, n, p=[0.5, 0.2, 0.1, 0.2])
    cosine = 0.5 + 0.1 * grades / 3 + rng.normal(0, 0.2, n)
    score = np.where(grades == 3, 0.9, 0.1) + rng.uniform(0, 0.01, n) if good else cosine
    table = pd.DataFrame(
        {
            "image1": [f"{i}a" for i in range(n)],
            "image2": [f"{i}b" for i in range(n)],
            "similarity": grades.astype(float),
            "score": score,
            "cosine": cosine,
            "p_similar": score.clip(0, 1),
            "encoder_p_similar": cosine.clip(0, 1),
            "same_class": (grades > 0) | (rng.random(n) < 0.5),
            "side": np.where(np.arange(n) % 2, "dev", "test"),
            "group1": rng.integers(0, n_groups, n),
            "group2": rng.integers(0, n_groups, n),
        }
    )
    return table


CALIBRATED = {"encoder": Model(calibration=CURVES), "head": Model(calibration=CURVES)}


@pytest.fixture(scope="module")
def perfect():
    table = scored_pairs(good=True)
    before = table.copy()
    found = evaluate(table, CALIBRATED)
    pd.testing.assert_frame_equal(table, before)
    return found


def test_a_perfect_head_is_measured_as_one(perfect):
    found = perfect
    assert set(found) == {"dev", "test"}  # what is promoted is decided elsewhere
    for split in ("dev", "test"):
        assert found[split]["head"]["f1"] == found[split]["head"]["roc_auc"] == 1
        assert found[split]["head"]["ap"] == pytest.approx(1)
        assert found[split]["encoder"]["ap"] < 0.7
        gain = found[split]["ap_gain_over"]["encoder"]
        assert gain["difference"] == pytest.approx(1 - found[split]["encoder"]["ap"])
        assert 0 < gain["low"] < gain["difference"] < gain["high"]
        assert found[split]["trivial"]["always-yes"]["recall"] == 1
        assert set(found[split]["ap_gain_over"]) == {"encoder", "same-class"}


def test_the_order_within_queries_is_measured_beside_all_pairs():
    rng = np.random.default_rng(0)
    i, j = np.triu_indices(20, 1)
    grades = rng.integers(0, 4, len(i)).astype(float)
    table = scored_pairs(True, len(i)).assign(
        image1=i.astype(str),
        image2=j.astype(str),
        group1=i,
        group2=j,
        similarity=grades,
        score=grades,
        side="test",
    )
    within = evaluate(table, CALIBRATED)["test"]["within_queries"]
    assert set(within) == {"nDCG@10", "AP"}
    for measure in within.values():
        assert measure["queries"] == 20 and measure["head"] == pytest.approx(1)
        assert measure["difference"] == pytest.approx(1 - measure["encoder"]) and measure["low"] > 0


@pytest.mark.parametrize("grade", [0.0, 3.0])
def test_pairs_of_one_kind_say_nothing_and_are_no_number(tmp_path, grade):
    found = evaluate(scored_pairs(good=True).assign(similarity=grade), CALIBRATED)
    assert (
        found["dev"]["head"]["ap"] is None
        and found["dev"]["ap_gain_over"]["encoder"]["difference"] is None
    )
    assert found["dev"]["within_queries"]["nDCG@10"]["difference"] is None
    write_json(tmp_path / "metrics.json", found)
    assert "NaN" not in (tmp_path / "metrics.json").read_text()


QUICK = {"hidden": 4, "epochs": 2}


class Taught(World):
    """A world whose round 0 is answered, with a stage to keep what it teaches."""

    def __init__(self, home, **settings_):
        super().__init__(
            home,
            asked_per_round=80,
            max_per_image=20,
            test_asked=40,
            dev_asked=40,
            head=QUICK,
            **settings_,
        )
        self.answer(0, self.folder(0, self.first()))
        self.round, self.graded = self.run.round(0), self.labels(0)
        self.stage = self.round.stage().start()

    def learn(self):
        return learning_round.learn(self.round, self.all, self.graded)


@pytest.fixture(params=[0, 0.25], ids=["cross-fitted", "dev side"])
def taught(home, request):
    return Taught(home, dev_share=request.param)


def test_what_a_round_learnt_is_kept_and_read_again(taught):
    lesson = taught.learn()
    folders = taught.stage["model"], taught.stage["results"]
    files = {file.name: file.read_bytes() for folder in folders for file in folder.iterdir()}
    assert set(files) == {
        "calibration.json",
        "head.safetensors",
        "config.json",
        "candidates.csv",
        "history.csv",
        "scored_pairs.csv",
    }
    learnt = learner.learn(taught.all, taught.graded, taught.run.study.head, taught.run.study.seed)
    assert (lesson.chosen, lesson.promoted) == (learnt.chosen, learnt.promoted)
    assert lesson.models["head"].head.sha256 == learnt.models["head"].head.sha256
    for name, model in learnt.models.items():
        assert (lesson.models[name].calibration, lesson.models[name].out_of_collection_cosine) == (
            model.calibration,
            model.out_of_collection_cosine,
        )
    again = taught.learn()
    assert {
        file.name: file.read_bytes() for folder in folders for file in folder.iterdir()
    } == files
    for name in ("candidates", "scored", "history"):
        one, two = getattr(lesson, name), getattr(again, name)
        pd.testing.assert_frame_equal(one, two)


def test_votes_up_to_a_round_teach_it_where_nobody_graded_and_only_those_of_two_train_images(
    taught,
):
    run, images = taught.run, taught.all
    journal, train, test = Journal(run.journal), images.train.names, images.split("test").names
    labels = journal.labels()
    graded = labels[(labels.source != AUTOMATIC) & labels.image1.isin(train)].iloc[0]
    anchor = train[0]
    free = [
        name
        for name in train[1:]
        if name
        not in {*labels[labels.image1 == anchor].image2, *labels[labels.image2 == anchor].image1}
    ]
    for who, pair, act, number in (
        ("ann", (anchor, free[0]), "vote_up", 0),
        ("ann", (anchor, free[1]), "vote_down", 0),
        ("ann", (anchor, free[2]), "vote_up", 0),
        ("bob", (anchor, free[2]), "vote_down", 0),  # a tie
        ("ann", (anchor, free[3]), "vote_up", 1),  # of the next round
        ("ann", (graded.image1, graded.image2), "vote_down", 0),
        ("ann", (anchor, test[0]), "vote_up", 0),
        ("ann", (test[0], test[1]), "vote_up", 0),
    ):
        journal.append(who, *pair, act, source="vote", round=number)
    # of a time when votes taught nothing
    journal.append("cy", anchor, free[4], "vote_up", source="search")
    found = voted_pairs(taught.round, images)
    assert dict(zip(zip(found.image1, found.image2), found.similarity)) == {
        key(anchor, free[0]): 3,
        key(anchor, free[1]): 0,
    }
    assert len(voted_pairs(run.round(1), images)) == 3
    lesson = taught.learn()
    plain = learner.learn(images, taught.graded, run.study.head, run.study.seed)
    votes = learner.learn(images, taught.graded, run.study.head, run.study.seed, votes=found)
    assert lesson.models["head"].head.sha256 == votes.models["head"].head.sha256
    assert votes.models["head"].head.sha256 != plain.models["head"].head.sha256
    assert taught.labels(0).equals(taught.graded)


def test_comparisons_up_to_a_round_teach_it_and_only_those_of_three_train_images(taught):
    run, images = taught.run, taught.all
    journal, train, test = Journal(run.journal), images.train.names, images.split("test").names
    for act, number, *three in (
        ("closer", 0, *train[:3]),
        ("closer", 0, *train[3:6]),
        ("neither", 0, *train[6:9]),
        ("closer", 1, *train[9:12]),  # of the next round
        ("closer", 0, test[0], *train[:2]),
        ("closer", 0, *train[:2], test[0]),
    ):
        journal.compare("ann", *three, act, round=number)
    found = teaching_triplets(run, images.train, 0)
    assert found[["query", "closer", "farther"]].to_numpy().tolist() == [train[:3], train[3:6]]
    assert len(teaching_triplets(run, images.train)) == 3
    lesson = taught.learn()
    plain, compared = (
        learner.learn(images, taught.graded, run.study.head, run.study.seed, comparisons=each)
        for each in (None, found)
    )
    assert lesson.models["head"].head.sha256 == compared.models["head"].head.sha256
    if lesson.models["head"].head.network is not None:
        assert compared.models["head"].head.sha256 != plain.models["head"].head.sha256
    assert taught.labels(0).equals(taught.graded)


def test_a_head_that_was_lost_is_made_again_as_the_chosen_candidate(taught):
    lesson = taught.learn()
    file = taught.stage["model"] / "head.safetensors"
    before = file.read_bytes()
    file.unlink()
    assert (
        learning_round.models_of(taught.round, taught.all)["head"].head.sha256
        == lesson.models["head"].head.sha256
    )
    assert file.read_bytes() == before


def test_the_pairs_that_decided_and_the_test_pairs_are_scored_with_all_that_was_known(taught):
    lesson, graded = taught.learn(), taught.graded
    before = graded.copy()
    scored = score_pairs(
        taught.all, graded, learner.learn(taught.all, graded, taught.run.study.head, 0)
    )
    pd.testing.assert_frame_equal(graded, before)
    assert scored[list(graded)].dtypes.to_dict() == graded.dtypes.to_dict()
    deciding = "dev" if taught.run.study.dev_share else "train"
    for split, origin in (("dev", deciding), ("test", "test")):
        part = scored[scored.side == split].sort_values(["image1", "image2"])
        expected = graded[graded.side == origin].sort_values(["image1", "image2"])
        assert keys(part) == keys(expected)
        for name in ("similarity", "automatic", "same_class", "round", "group1", "group2"):
            assert part[name].tolist() == expected[name].tolist(), name
    assert set(scored.side) == {"dev", "test"} == set(lesson.scored.side)
    assert lesson.scored["round"].dtype == int and lesson.scored.same_class.dtype == bool
    for model, score, p in (
        ("encoder", "cosine", "encoder_p_similar"),
        ("head", "score", "p_similar"),
    ):
        test = lesson.scored[lesson.scored.side == "test"]
        np.testing.assert_allclose(
            test[score], lesson.models[model].cosines(taught.all, test), atol=2e-5
        )
        np.testing.assert_allclose(
            lesson.scored[p], lesson.models[model].p_similar(lesson.scored[score]), atol=2e-3
        )
    grades = [f"p_grade_{grade}" for grade in range(4)]
    np.testing.assert_allclose(lesson.scored[grades].sum(axis=1), 1, atol=1e-4)


def test_metrics_say_what_was_chosen_and_of_how_many_labels(taught):
    lesson = taught.learn()
    metrics = learning_round.measure(lesson, taught.graded)
    assert metrics["candidate"] == lesson.chosen in learner.CANDIDATES
    assert metrics["promoted"] is lesson.promoted
    assert metrics["labels"] == rounds_log.count_labels(taught.graded)
    assert metrics["labels"]["labels"] == (taught.graded.side == "train").sum() == 100
    gain, table = (
        metrics["dev"]["ap_gain_over"]["encoder"],
        lesson.candidates.set_index("candidate"),
    )
    row = table.loc[lesson.chosen]
    found = [gain["difference"], gain["low"], gain["high"]]
    expected = row[["ap_gain", "ap_gain_low", "ap_gain_high"]].tolist()
    assert found[0] == pytest.approx(expected[0], abs=1e-3)
    assert [np.nan if value is None else value for value in found] == pytest.approx(
        expected, abs=2e-3, nan_ok=True
    )


def test_what_a_round_measured_is_a_row_a_split_and_model(perfect):
    table = rounds_log.quality(perfect)
    rows = [(split, model) for split in ("dev", "test") for model in ("encoder", "head")]
    assert table.index.tolist()[:4] == rows and set(table.loc["test"].index) > {"always-no"}
    assert "always-no" not in table.loc["dev"].index  # once is enough
    assert table.loc[("test", "head"), "ap"] == perfect["test"]["head"]["ap"]
    assert rounds_log.quality({}).empty and list(rounds_log.quality({})) == list(table)
    within = rounds_log.within_queries(perfect)
    gain = pd.Series(perfect["test"]["within_queries"]["AP"], dtype=float)
    row = within.loc[("test", "AP")]
    pd.testing.assert_series_equal(row.sort_index(), gain.sort_index(), check_names=False)


def test_grades_are_counted_by_round_of_what_was_asked(taught):
    counts = learning_round.count_grades(taught.graded)
    asked = taught.graded[~taught.graded.automatic]
    assert counts.to_numpy().sum() == len(asked)
    assert counts.loc["test"].sum() == (asked.side == "test").sum()
    by_class = taught.graded.assign(automatic=True)
    assert learning_round.count_grades(by_class).to_numpy().sum() == len(by_class)
    dev, test = learning_round.deciding_and_reporting(taught.graded[taught.graded.side != "test"])
    assert test is dev


def test_the_log_has_a_row_a_finished_round_and_is_the_same_again(world, perfect):
    about = {"labels": {"labels": 30, "asked": 10, "similar": 3}, "candidate": "head, pull 0.3"}
    found = about | perfect | {"promoted": True}
    nothing = (
        about
        | evaluate(scored_pairs(True).assign(similarity=0.0), CALIBRATED)
        | {"promoted": False}
    )
    for number, metrics in ((0, found), (1, nothing)):
        for folder in world.run.round(number).as_stage().folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        write_json(world.run.results / f"round_{number:02d}" / "metrics.json", metrics)
    log = rounds_log.log_rounds(world.run)
    path = world.run.results / "results_log.csv"
    content = path.read_bytes()
    assert log["round"].tolist() == [0, 1] and log.labels.tolist() == [30, 30]
    assert log.test_head_ap[0] == pytest.approx(1) and np.isnan(log.test_head_ap[1])
    assert (
        log.promoted.tolist() == [True, False] and log.candidate.tolist() == ["head, pull 0.3"] * 2
    )
    for split in ("dev", "test"):
        within = found[split]["within_queries"]["nDCG@10"]
        assert [
            log[f"{split}_query_ndcg_gain{part}"][0] for part in ("", "_low", "_high")
        ] == pytest.approx(
            [
                np.nan if within[name] is None else within[name]
                for name in ("difference", "low", "high")
            ],
            nan_ok=True,
        )
        assert log[f"{split}_ap_gain"][0] == found[split]["ap_gain_over"]["encoder"]["difference"]
        assert (
            log[f"{split}_ap_gain_low"][0]
            < log[f"{split}_ap_gain"][0]
            < log[f"{split}_ap_gain_high"][0]
        )
    assert set(log.evidence) == {"grades"}
    numbers = log.columns.drop(["candidate", "evidence"])
    assert all(kind.kind in "ifb" for kind in log[numbers].dtypes)
    pd.testing.assert_frame_equal(pd.read_csv(path), log, atol=1e-6, check_dtype=False)
    rounds_log.log_rounds(world.run)
    assert path.read_bytes() == content and b"\r" not in content
    write_json(world.run.results / "round_00" / "metrics.json", nothing)
    assert all(kind.kind in "ifb" for kind in rounds_log.log_rounds(world.run)[numbers].dtypes)
    for lost in ("candidate", "promoted", "labels", "test"):
        write_json(
            world.run.results / "round_01" / "metrics.json",
            {k: v for k, v in found.items() if k != lost},
        )
        with pytest.raises(ValueError, match=f"round_01/metrics.json.*{lost}.*run the study again"):
            rounds_log.log_rounds(world.run)


def test_near_duplicates_on_train_and_test_are_refused_by_name(world):
    folder = world.folder(0, world.first())
    world.answer(0, folder)
    labels = world.labels(0)
    seen, kept = (labels[labels.side == split].image1.iloc[0] for split in ("train", "test"))
    group = world.images.set_index("image").group[seen]
    leaking = world.images.assign(group=world.images.group.where(world.images.image != kept, group))
    with pytest.raises(ValueError, match="leak.*" + kept):
        graded_pairs(world.run.round(0), replace(world.all, table=leaking))
