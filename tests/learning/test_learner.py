"""What is learnt: no grade judges itself, the choice needs a sure gain, the same seed gives the
same, reach.
"""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from imgsearch_utils.asking import Pool, choose_pairs
from imgsearch_utils.images import Embeddings, Images
from imgsearch_utils.learning import CANDIDATES, Model, learn, learner
from imgsearch_utils.learning.calibration import Calibration
from imgsearch_utils.learning.cross_fitting import cross_fits, judge
from imgsearch_utils.learning.evidence import FEWEST, Rival
from imgsearch_utils.learning.learner import (
    candidates_of,
    nearest_neighbour_cosine,
    train_candidate,
    with_unlabelled,
)
from imgsearch_utils.learning.promotion import decide
from imgsearch_utils.learning.round_metrics import evaluate, score_pairs
from imgsearch_utils.learning.training_statistics import TrainingStatistics
from imgsearch_utils.metrics import ap_gain, query_gain
from imgsearch_utils.metrics.geometry import normalised
from imgsearch_utils.study import HeadSettings
from tests.learning.threads import on_cores

SMALL = HeadSettings(hidden=16, epochs=6, learning_rate=3e-3)


def world(n=80, dim=16, people=4, n_pairs=600, classes=0, dev=False, seed=0):
    """Images of which people look at the first `people` dimensions, and pairs that they graded
    within each side.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    side = np.where(np.arange(n) < 0.75 * n, "train", "test")
    if dev:
        side[np.arange(n) % 4 == 0] = "dev"
    kind = {"kind": np.take(list("abc"), np.arange(n) % classes)} if classes else {}
    table = pd.DataFrame(
        {"image": [f"{k:03d}" for k in range(n)], **kind, "group": np.arange(n), "side": side}
    )
    images = Images(table, Embeddings(table.image.tolist(), vectors, {}))
    i, j = np.triu_indices(n, 1)
    some = rng.permutation(np.flatnonzero(side[i] == side[j]))[:n_pairs]
    i, j = i[some], j[some]
    seen = vectors[:, :people] / np.linalg.norm(vectors[:, :people], axis=1, keepdims=True)
    cosine = (seen[i] * seen[j]).sum(1)
    grades = np.digitize(cosine, np.quantile(cosine, [0.5, 0.75, 0.9]))
    pairs = pd.DataFrame(
        {
            "image1": np.take(images.names, i),
            "image2": np.take(images.names, j),
            "similarity": grades.astype(float),
            "round": 0,
            "automatic": False,
            "drawn": True,
            "strategy": "random",
            "side": side[i],
            "group1": i,
            "group2": j,
        }
    )
    return images, pairs.assign(same_class=images.same_class(pairs))


def everything(learnt):
    """All that was learnt, as bytes and plain values."""
    return (
        learnt.chosen,
        learnt.promoted,
        learnt.candidates.to_csv(),
        learnt.scored.to_csv(),
        learnt.history.to_csv(),
        learnt.models["head"].head.sha256,
        learnt.models["encoder"].out_of_collection_cosine,
        *(asdict(model.calibration) for model in (learnt.models["encoder"], learnt.models["head"])),
    )


@pytest.fixture(scope="module")
def plain():
    return world()


@pytest.fixture(scope="module")
def learnt(plain):
    return learn(*plain, SMALL, 0)


def test_the_same_seed_gives_the_same_on_any_number_of_cores(plain, learnt):
    images, pairs = plain
    before = pairs.copy()
    with on_cores(4):
        assert everything(learn(images, pairs, SMALL, 0)) == everything(learnt)
    pd.testing.assert_frame_equal(pairs, before)
    assert everything(learn(images, pairs, SMALL, 1)) != everything(learnt)


def test_sums_that_several_cores_share_give_the_same():
    """With so many images, pairs and dimensions, BLAS would add in another order on each number of
    cores.
    """
    images, pairs = world(n=600, dim=400, n_pairs=3_000, classes=3)
    found = []
    for cores in (1, 2):
        with on_cores(cores):
            found.append(
                everything(
                    learn(
                        images, pairs, SMALL.model_copy(update={"epochs": 1, "batch_size": 512}), 0
                    )
                )
            )
    assert found[0] == found[1]


def test_what_decided_are_the_graded_train_pairs_each_once_as_they_were_given(plain, learnt):
    images, pairs = plain
    train = pairs[pairs.side == "train"]
    judged = learnt.scored.sort_values(["image1", "image2"], ignore_index=True)
    expected = train.sort_values(["image1", "image2"], ignore_index=True)
    pd.testing.assert_frame_equal(judged[list(pairs)], expected)
    np.testing.assert_allclose(judged.cosine, Model().cosines(images, judged), atol=1e-6)


def test_test_pairs_decide_nothing(plain, learnt):
    images, pairs = plain
    without = learn(images, pairs[pairs.side == "train"], SMALL, 0)
    assert everything(without) == everything(learnt)


def test_the_table_compares_the_candidates_with_the_encoder(plain, learnt):
    images, pairs = plain
    table = learnt.candidates.set_index("candidate")
    assert list(table.index) == ["encoder", *candidates_of(images.train)]
    assert table.loc[
        "encoder", ["ap_gain", "ap_gain_low", "ap_gain_high", "ndcg_gain"]
    ].tolist() == [0, 0, 0, 0]
    judged, row = learnt.scored, table.loc[learnt.chosen]
    similar = judged.similarity == 3
    assert row.ap == pytest.approx(average_precision_score(similar, judged.score))
    assert table.ap["encoder"] == pytest.approx(average_precision_score(similar, judged.cosine))
    gain = ap_gain(judged, judged.score, judged.cosine)
    assert row[["ap_gain", "ap_gain_low", "ap_gain_high"]].tolist() == pytest.approx(
        [gain["difference"], gain["low"], gain["high"]]
    )
    within = query_gain(judged, judged.score, judged.cosine).set_index("measure").loc["nDCG@10"]
    assert row[["ndcg", "ndcg_gain", "ndcg_gain_low", "ndcg_gain_high"]].tolist() == pytest.approx(
        within[["score", "difference", "low", "high"]].tolist()
    )
    assert table.ap_gain.tolist() == pytest.approx((table.ap - table.ap["encoder"]).tolist())
    assert set(table.use) <= {"", "chosen", "search"} and (table.use == "search").sum() == 1


def test_the_head_is_the_candidate_trained_on_all_train_pairs(plain, learnt):
    images, pairs = plain
    assert (
        train_candidate(images, pairs, SMALL, 0, learnt.chosen).sha256
        == learnt.models["head"].head.sha256
    )
    assert learnt.models["head"].head.recipe == CANDIDATES[learnt.chosen]


def test_classes_decide_which_candidates_there_are():
    with_, without = (candidates_of(world(classes=classes)[0].train) for classes in (3, 0))
    assert with_[0] == "head" and without[0] == "whitened head, pull 0.3"
    assert candidates_of(world(classes=1)[0].train) == without
    assert set(with_) | set(without) <= set(CANDIDATES)


def is_sound(learnt, images):
    """The rule of choice and promotion, read from the table and the judged pairs."""
    table = learnt.candidates.set_index("candidate")
    chosen = table.loc[learnt.chosen]
    promoted = learnt.decision.used
    assert learnt.promoted == promoted
    assert learnt.decision == decide(learnt.decision.evidence, in_search=False)
    assert table.index[table.use == "search"].tolist() == [learnt.chosen if promoted else "encoder"]
    assert promoted or chosen.use == "chosen"
    if learnt.chosen != candidates_of(images.train)[0]:
        assert chosen.ap > table.ap[candidates_of(images.train)[0]]


def test_grades_at_random_show_nothing():
    """Where nothing is better, "shown to be better" may be said in 2.5 % of first looks."""
    answers = []
    for seed in range(6):
        images, pairs = world(seed=seed, n_pairs=300)
        shuffled = pairs.assign(
            similarity=np.random.default_rng(seed).permutation(pairs.similarity)
        )
        learnt = learn(images, shuffled, SMALL.model_copy(update={"epochs": 2}), seed)
        is_sound(learnt, images)
        answers.append(learnt.decision.answer)
    assert "shown" not in answers and {"open", "worse"} & set(answers)


def test_a_head_in_search_stays_until_pairs_say_that_it_is_worse():
    images, pairs = world(n_pairs=400)
    shuffled = pairs.assign(similarity=np.random.default_rng(7).permutation(pairs.similarity))
    short = SMALL.model_copy(update={"epochs": 2})
    new, kept = (
        learn(images, shuffled, short, 3, rival=Rival(in_search=before)) for before in (False, True)
    )
    assert new.decision.answer == kept.decision.answer == "open"
    assert not new.promoted and kept.promoted and new.chosen == kept.chosen
    assert kept.candidates.drop(columns="use").equals(new.candidates.drop(columns="use"))
    images, pairs = world(people=16, n_pairs=900, classes=3)
    wild = SMALL.model_copy(update={"learning_rate": 3.0, "head": "mlp", "class_share": 0.9})
    worse = learn(images, pairs, wild, 0, rival=Rival(in_search=True))
    assert worse.decision.answer == "worse" and not worse.promoted


def test_lists_decide_before_pairs_do(plain):
    """Lists that say the opposite of the pairs are believed, from ``FEWEST`` on."""
    images, pairs = plain
    listed = [
        {"round": 1, "query": str(query), "similarity": grade, "place_before": place}
        for query in range(6)
        for place, grade in enumerate([3.0, 3.0, 0.0, 0.0 if query else 3.0], 1)
    ]
    lists = pd.DataFrame(listed)
    lists["place_learnt"] = 5 - lists.place_before
    answers = [
        learn(images, pairs, SMALL, 0, rival=Rival(lists=some)).decision
        for some in (lists, lists[lists["query"].astype(int) < FEWEST - 1])
    ]
    assert [decision.evidence.by for decision in answers] == ["lists", "pairs"]
    assert answers[0].answer == "worse" and answers[1].answer in ("shown", "probable")


def test_where_somebody_waits_some_automatic_zeros_teach_and_all_judge(monkeypatch):
    images, pairs = world(n_pairs=900, classes=3)
    pairs = pairs.assign(automatic=(pairs.similarity == 0) & ~pairs.same_class)
    pairs = pairs[pairs.automatic | (pairs.index % 4 == 0)].reset_index(drop=True)
    assert pairs.automatic.sum() > 1.2 * (~pairs.automatic).sum()
    shown, quick = SMALL.model_copy(update={"epochs": 2}), learner.learn
    monkeypatch.setattr(learner, "ZEROS", 10_000)
    whole = quick(images, pairs, shown, 0, fast=True)
    monkeypatch.setattr(learner, "ZEROS", 10)
    some = quick(images, pairs, shown, 0, fast=True)
    assert some.candidates.candidate.tolist() == whole.candidates.candidate.tolist()
    columns = ["image1", "image2", "similarity"]
    pd.testing.assert_frame_equal(some.scored[columns], whole.scored[columns])
    ap = [learnt.candidates.set_index("candidate").ap for learnt in (some, whole)]
    assert ap[0]["head"] != ap[1]["head"] and ap[0]["encoder"] == ap[1]["encoder"]
    slow = quick(images, pairs, shown, 0)
    assert len(slow.candidates) > len(some.candidates)


def test_a_clearly_better_one_is_promoted():
    images, pairs = world(n=120, people=3, n_pairs=1200)
    learnt = learn(images, pairs, SMALL.model_copy(update={"epochs": 10}), 0)
    is_sound(learnt, images)
    assert learnt.decision.answer == "shown" and learnt.promoted
    test = evaluate(
        score_pairs(images, pairs, learnt),
        {"encoder": learnt.models["encoder"], "head": learnt.models["head"]},
    )["test"]
    assert test["head"]["ap"] > test["encoder"]["ap"] + 0.1


WORLDS = {
    "classes": ({"classes": 3}, {}),
    "wild": ({"people": 16}, {"learning_rate": 10.0, "head": "mlp"}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_first_candidate_is_chosen_or_the_best_of_those_that_are_better_for_sure(name):
    of_world, of_head = WORLDS[name]
    (images, pairs), chosen = (
        world(n=100, n_pairs=700, **of_world),
        SMALL.model_copy(update=of_head),
    )
    learnt = learn(images, pairs, chosen, 0)
    train = pairs[pairs.side == "train"]
    fits = cross_fits(images.train, with_unlabelled(images.train, train, 0), 0)
    first, *others = candidates_of(images.train)
    judged = judge(fits, {one: CANDIDATES[one] for one in [first, *others]}, chosen, 0)
    known = pd.concat([fit.held_out for fit in fits]).dropna(subset="similarity")
    known = known[~known.index.duplicated()].sort_index()
    score = {one: judged[one].score[known.index].round(4) for one in judged}
    gains = {one: ap_gain(known, score[one], score[first]) for one in others}
    better = {one: gain["difference"] for one, gain in gains.items() if gain["low"] > 0}
    assert learnt.chosen == (max(better, key=better.get) if better else first)
    assert bool(better) == (name == "wild")  # both ways are tried
    assert learnt.scored.score.sort_index().tolist() == score[learnt.chosen].sort_index().tolist()


def test_dev_images_decide_where_there_are_some():
    images, pairs = world(dev=True)
    learnt = learn(images, pairs, SMALL, 0)
    is_sound(learnt, images)
    dev = pairs[pairs.side == "dev"]
    judged = learnt.scored.set_index(["image1", "image2"])
    assert len(judged) == len(dev) and set(judged.index) == set(zip(dev.image1, dev.image2))
    own = learnt.models["head"].cosines(images, dev)  # of the head itself, for it saw no dev image
    np.testing.assert_allclose(judged.score[list(zip(dev.image1, dev.image2))], own, atol=1e-4)
    shuffled = pairs.similarity.where(
        pairs.side != "dev", np.random.default_rng(0).permutation(pairs.similarity)
    )
    again = learn(images, pairs.assign(similarity=shuffled), SMALL, 0)
    assert (
        train_candidate(images, pairs, SMALL, 0, "whitened head").sha256
        == train_candidate(
            images, pairs.assign(similarity=shuffled), SMALL, 0, "whitened head"
        ).sha256
    )
    assert again.decision.answer != "shown"


@pytest.mark.parametrize(("n_train", "said"), [(0, "0 graded pairs"), (1, "1 graded pairs")])
def test_too_few_grades_are_refused_in_one_line(plain, n_train, said):
    images, pairs = plain
    fast = pairs[pairs.side == "train"].head(n_train)
    with pytest.raises(ValueError, match=f"{said} are too few to learn from and to check"):
        learn(images, fast, SMALL, 0)


@pytest.mark.parametrize("grade", [0.0, 3.0])
@pytest.mark.parametrize("classes", [0, 3])
def test_grades_of_one_kind_teach_without_any_promotion(plain, grade, classes):
    images, pairs = world(classes=classes, n_pairs=200)
    learnt = learn(images, pairs.assign(similarity=grade), SMALL, 0)
    assert not learnt.promoted and learnt.candidates.ap.isna().all()
    assert np.isfinite(learnt.models["head"].cosines(images, pairs)).all()
    p = learnt.models["head"].p_similar(np.linspace(-1, 1, 9))
    assert ((p > 0) & (p < 1)).all()


# ---- pairs that nobody graded ----


@settings(max_examples=40)
@given(
    groups=st.lists(st.integers(0, 8), min_size=2, max_size=30),
    n=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_unlabelled_pairs_are_others_than_the_graded_ones_and_of_two_groups(groups, n, seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"image": [f"{k:02d}" for k in range(len(groups))], "group": groups})
    images = Images(
        table, Embeddings(table.image.tolist(), np.ones((len(groups), 2), np.float32), {})
    )
    i, j = np.triu_indices(len(groups), 1)
    some = rng.permutation(len(i))[:n]
    pairs = pd.DataFrame(
        {
            "image1": np.take(images.names, j[some]),
            "image2": np.take(images.names, i[some]),
            "similarity": 3.0,
            "group1": np.take(groups, j[some]),
            "group2": np.take(groups, i[some]),
        }
    )
    both = with_unlabelled(images, pairs, seed)
    pd.testing.assert_frame_equal(
        both[: len(pairs)][list(pairs)], pairs.reset_index(drop=True), check_dtype=False
    )
    assert both.index.tolist() == list(range(len(both)))
    new = both[len(pairs) :]
    assert (
        new.similarity.isna().all()
        and (new.group1 != new.group2).all()
        and new[["drawn", "same_class"]].all(None)
    )
    group = dict(zip(images.names, groups))
    assert [group[name] for name in new.image1] == new.group1.tolist()
    assert [group[name] for name in new.image2] == new.group2.tolist()
    every = [frozenset(pair) for pair in zip(both.image1, both.image2)]
    assert len(set(every)) == len(every)
    possible = sum(groups[a] != groups[b] for a, b in zip(i, j))
    of_two = (pairs.group1 != pairs.group2).sum()
    assert len(new) <= possible - of_two
    if len(groups) <= 12:  # 10,000 draws find nearly every one
        assert len(new) == possible - of_two


def test_grades_of_the_nearest_pairs_alone_make_not_everything_similar():
    """Only pairs of the highest cosines were asked, half of them similar: of the others nothing was
    said.
    """
    images, pairs = world(n=100, dim=8, n_pairs=10_000)
    cosine = Model().cosines(images, pairs)
    asked = pairs[(pairs.side == "train") & (cosine > np.quantile(cosine, 0.95))]
    rng = np.random.default_rng(0)
    learnt = learn(
        images, asked.assign(similarity=rng.choice([0.0, 3.0], len(asked)), drawn=False), SMALL, 0
    )
    for model in (learnt.models["encoder"], learnt.models["head"]):
        p = model.p_similar(model.cosines(images, pairs))
        assert p[cosine < np.quantile(cosine, 0.5)].mean() < 0.05
        assert p.mean() < 0.15  # if all pairs were as those that were asked: .5
        assert p[cosine > np.quantile(cosine, 0.97)].mean() > 0.15


def test_pairs_drawn_at_random_say_how_many_are_similar_where_those_asked_were_so_more_often():
    """Of the pairs that a strategy asked all that were similar and few others: P(similar) follows
    those drawn.
    """
    images, pairs = world(n=120, n_pairs=10_000)
    train = pairs[pairs.side == "train"]
    rng = np.random.default_rng(0)
    drawn = train.iloc[:400]
    rest = train.iloc[400:]
    asked = rest[(rest.similarity == 3) | (rng.random(len(rest)) < 0.05)].assign(drawn=False)
    both = pd.concat([drawn, asked])
    truth = (train.similarity == 3).mean()
    found = {
        name: learn(images, table, SMALL, 0).models["encoder"]
        for name, table in {"known": both, "unknown": both.assign(drawn=True)}.items()
    }
    p = {
        name: model.p_similar(model.cosines(images, train)).mean() for name, model in found.items()
    }
    assert p["known"] == pytest.approx(truth, abs=0.05) and p["unknown"] > truth + 0.2


def test_where_all_ranges_of_scores_were_graded_unlabelled_pairs_change_nothing(plain, learnt):
    """The encoder's curves are those of the graded pairs alone: they are a random sample of all."""
    judged = learnt.scored
    alone = Calibration.fit(judged.cosine.to_numpy(), judged.similarity.to_numpy())
    assert learnt.models["encoder"].calibration == alone


# ---- reach ----


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 10_000))
def test_the_reach_is_the_cosine_that_nearly_every_image_has_to_another_group(n, dim, seed):
    rng = np.random.default_rng(seed)
    vectors, groups = rng.normal(size=(n, dim)).astype(np.float32), rng.integers(0, n, n)
    table = pd.DataFrame({"image": [f"{k:02d}" for k in range(n)], "group": groups})
    unit, nearest = normalised(vectors), []
    for a in range(n):
        nearest.append(
            max([unit[a] @ unit[b] for b in range(n) if groups[a] != groups[b]], default=-1)
        )
    found = nearest_neighbour_cosine(Images(table, Embeddings(table.image.tolist(), vectors, {})))
    assert found == pytest.approx(np.quantile(nearest, 0.01), abs=1e-5)
    assert -1 <= found <= 1.001


# ---- rounding ----


def test_digits_that_depend_on_the_machine_change_few_of_the_next_pairs(plain, learnt):
    """Vectors changed by a millionth of their size: the pairs that uncertainty asks next stay, but
    for a few.
    """
    images, pairs = plain
    rng = np.random.default_rng(0)
    vectors = images.embeddings.vectors * (
        1 + 1e-6 * rng.normal(size=images.embeddings.vectors.shape)
    )
    other = replace(
        images, embeddings=replace(images.embeddings, vectors=vectors.astype(np.float32))
    )
    again = learn(other, pairs, SMALL, 0)
    assert again.chosen == learnt.chosen and again.promoted == learnt.promoted
    asked = [
        choose_pairs(Pool.of(images.train, result.models["head"], pairs), "uncertainty", 40, 0, 4)
        for result in (learnt, again)
    ]
    one, two = (set(zip(table.image1, table.image2)) for table in asked)
    print(f"{len(one & two)} of {len(one)} pairs are the same")
    assert len(one) == 40 and len(one & two) >= 36


def test_the_basis_of_all_candidates_is_that_of_the_training_images(plain):
    images, pairs = plain
    ground = TrainingStatistics.of(images.train.vectors, images.train.classes.to_numpy(str), SMALL)
    head = train_candidate(images, pairs, SMALL, 0, "whitened head")
    np.testing.assert_array_equal(head.basis.numpy(), ground.basis.numpy())
    np.testing.assert_array_equal(head.mean.numpy(), ground.mean.numpy())


def test_a_ground_is_made_once_and_another_one_for_other_images_classes_or_settings(plain):
    images, _ = plain
    vectors, classes = images.train.vectors, np.array(["a", "b"] * (len(images.train) // 2))
    made = TrainingStatistics.of(vectors, classes, SMALL)
    assert TrainingStatistics.of(vectors.copy(), classes.copy(), SMALL) is made
    others = [
        TrainingStatistics.of(vectors[::-1].copy(), classes, SMALL),
        TrainingStatistics.of(vectors, classes[::-1], SMALL),
        TrainingStatistics.of(vectors, classes, SMALL.model_copy(update={"class_share": 0.0})),
    ]
    assert all(other is not made for other in others) and len(others[2].class_bias) == 0
    for row in range(40):  # older ones are forgotten, and come out the same
        TrainingStatistics.of(vectors[row % 30 :] + row, classes[row % 30 :], SMALL)
    again = TrainingStatistics.of(vectors, classes, SMALL)
    assert again is not made and torch.equal(again.class_weight, made.class_weight)
    assert torch.equal(again.mean, made.mean)


def test_automatic_zeros_alone_do_not_say_how_many_are_similar():
    """People's pairs of one class were chosen somehow; only the pairs across classes were drawn:
    the curves stay.
    """
    images, pairs = world(n=120, classes=3, n_pairs=2_500)
    train = pairs[pairs.side == "train"]
    chosen = train.assign(drawn=~train.same_class)
    found = [learn(images, table, SMALL, 0) for table in (chosen, train.assign(drawn=True))]
    assert found[0].models["head"].calibration == found[1].models["head"].calibration


def test_drawn_pairs_of_strata_that_occur_no_more_leave_the_curves_as_they_are():
    """All pairs but the nearest and the farthest are graded: no pair is left that is like those
    drawn.
    """
    images, pairs = world(n=20, n_pairs=10_000)
    train = pairs[pairs.side == "train"]
    cosine = Model().cosines(images, train)
    known = train[(cosine > cosine.min()) & (cosine < cosine.max())]
    place = (Model().cosines(images, known) - cosine.min()) / (cosine.max() - cosine.min())
    drawn = known.assign(drawn=(place > 0.12) & (place < 0.9))
    assert not drawn.drawn.all() and drawn.drawn.sum() > 50
    found = [learn(images, table, SMALL, 0) for table in (drawn, known)]
    for one, other in zip(*((learnt.models["encoder"], learnt.models["head"]) for learnt in found)):
        assert (
            one.calibration == other.calibration and np.isfinite(one.calibration.intercepts).all()
        )
