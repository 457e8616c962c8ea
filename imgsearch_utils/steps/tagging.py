"""Notebook 01: which images take part and in which split, the first pairs, and who answers them."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from imgsearch_utils.asking import STRATEGIES, Pool, automatic_zeros, choose_pairs, first_strategy
from imgsearch_utils.asking.pool import NO_PAIRS
from imgsearch_utils.encoders.embed_collection import embed_run, gone, load_embeddings
from imgsearch_utils.grades import oracles
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.pairs import key, list_numbers, merge, read_pairs
from imgsearch_utils.grades.usable_grades import usable
from imgsearch_utils.images import Collection, Embeddings, Images
from imgsearch_utils.images.image_split import (
    balanced_sample,
    group_near_duplicates,
    keep_split,
    named_sample,
    read_split,
    split_by_group,
)
from imgsearch_utils.workspace import BY_PEOPLE, Round, Run, Stage, shown, write_atomic
from imgsearch_utils.workspace.tables import write_table


class Drafts(NamedTuple):
    """The pairs that a round asks, and with its untouched lists drafted anew, row by row."""

    before: pd.DataFrame
    after: pd.DataFrame


NO_IMAGES = pd.DataFrame(columns=["image", "reason"], dtype=str)
PAIR_COLUMNS = ["image1", "image2", "similarity", "automatic", "strategy"]
# of lists: whose results they are, and where the two models put them
LIST_COLUMNS = ["query", "place_before", "place_learnt"]
ORACLE = "oracle:"  # what an oracle's name as annotator begins with


def embed_pictures(
    run: Run, stage: Stage, collection: Collection, progress: Callable = iter
) -> tuple[Embeddings, pd.DataFrame]:
    """The run's embeddings, and the pictures set aside (`image`, `reason`); encoded where they are
    not there yet.
    """
    there = stage.finished and (run.vectors / "encoder" / "config.json").is_file()
    encode = cache(lambda: embed_run(run, collection, progress))  # once, whoever asks first
    set_aside = stage.keep("set_aside.csv", lambda: encode()[1])
    return load_embeddings(run) if there else encode()[0], set_aside


def take_part(
    run: Run, collection: Collection, embeddings: Embeddings, seed: int
) -> tuple[Images, pd.DataFrame, pd.DataFrame]:
    """The study's sample of images with their near-duplicate groups and splits, and the pairs of
    near-duplicates.

    A split that the data come with is kept; what has a near-duplicate in a more telling split is
    left out of it.

    seed : of the split; the sample is the study's

    Returns
    -------
    the images; the pairs of near-duplicates (image1, image2); and what is left out (image, reason)
    """
    study = run.study
    images = Images(collection.images, embeddings).among(embeddings.names)
    if study.images.sample:
        images = named_sample(images, run.data / study.images.sample)
    images = balanced_sample(images, study.images.per_class, study.seed)
    images, duplicates = group_near_duplicates(images, study.duplicate_cosine)
    if collection.split:
        images, left_out = keep_split(images, collection.split)
        return images, duplicates, left_out
    return split_by_group(images, study.dev_share, study.test_share, seed), duplicates, NO_IMAGES


def split_images(
    run: Run, stage: Stage, collection: Collection, embeddings: Embeddings
) -> tuple[Images, pd.DataFrame, pd.DataFrame]:
    """What ``take_part`` gives; the images are kept in the run's images.csv."""
    chosen = cache(lambda: take_part(run, collection, embeddings, run.study.seed))
    duplicates = stage.keep("duplicates.csv", lambda: chosen()[1])
    left_out = stage.keep("left_out.csv", lambda: chosen()[2]) if collection.split else NO_IMAGES
    if not stage.finished:
        file = run.labels / "images.csv"
        text = chosen()[0].table.to_csv(index=False, lineterminator="\n")
        if stage.begun and file.is_file() and file.read_bytes() != text.encode():
            raise ValueError(
                f"{shown(file)} is not what the pictures give now, and steps were built on it. "
                "Bring the pictures back as they were, or begin another run (RUN)"
            )
        write_atomic(file, text)
        if other := stage.other_sources("images"):
            raise ValueError(
                f"{other[0]}. Bring the pictures back as they were, or begin another run (RUN)"
            )
    return Images(read_split(run), embeddings), duplicates, left_out


def first_pairs(run: Run, images: Images) -> pd.DataFrame:
    """Round 0: pairs to ask in each split, and automatic zeros across classes in the rounds'
    proportion.

    Dev and test pairs are random; train pairs are chosen by ``asking.first_strategy``. In a run
    that people teach, nobody is asked dev or test pairs before anything is learnt; and where there
    are classes, no train pairs either: the classes themselves are learnt first.

    Returns
    -------
    image1, image2, similarity (0 where automatic, else NaN), automatic, strategy, side

    Raises
    ------
    ValueError
        for a strategy of the study that is not there, with those that are.
    """
    study, tables = run.study, []
    if study.strategy:  # one that nobody knows is refused before anything is graded
        STRATEGIES.find(study.strategy)
    if study.oracle == "replay":
        return replayed_pairs(
            run, images, lambda table: (table["round"] == 0) | (table.side != "train")
        )
    budgets = {"train": study.asked_per_round, "dev": study.dev_asked, "test": study.test_asked}
    for number, (split, budget) in enumerate(budgets.items()):
        here, seed = images.split(split), study.seed * 1000 + number
        if len(here):  # a study may have no dev images
            strategy = first_strategy(images, run.taught) if split == "train" else "random"
            asked = choose_pairs(Pool.of(here), strategy, budget, seed)
            if run.taught and (split != "train" or images.has_classes):
                asked = asked[:0]
            n_zeros = round(budget * study.zeros_per_round / study.asked_per_round)
            tables.append(with_zeros(asked, here, n_zeros, seed).assign(side=split))
    return pd.concat(tables, ignore_index=True)


def check_pairs(run: Run, images: Images) -> pd.DataFrame:
    """Pairs of test images that say honestly how good what was learnt is: random ones that nobody
    graded yet.

    They are a run's own that people teach, and asked when somebody wants to know; they decide
    nothing."""
    study = run.study
    asked = choose_pairs(
        Pool.of(images.split("test")), "random", study.test_asked, study.seed * 1000 + 2
    )
    return _ungraded(run, asked)


def with_zeros(
    asked: pd.DataFrame, images: Images, n_zeros: int, seed: int, labelled: pd.DataFrame = NO_PAIRS
) -> pd.DataFrame:
    """The pairs to ask, and `n_zeros` automatic ones across classes that are not labelled yet."""
    zeros = pd.DataFrame(columns=["image1", "image2", "similarity"])
    if images.class_column and n_zeros:
        zeros = automatic_zeros(images, n_zeros, seed, exclude=labelled)
    listed = [name for name in LIST_COLUMNS if len(asked) and name in asked]
    parts = [
        asked[["image1", "image2", "strategy", *listed]].assign(
            similarity=float("nan"), automatic=False
        ),
        zeros.assign(strategy=AUTOMATIC, automatic=True),
    ]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table[[*PAIR_COLUMNS, *listed]]


def replayed_pairs(
    run: Run, images: Images, wanted: Callable[[pd.DataFrame], pd.Series]
) -> pd.DataFrame:
    """People's pairs that are `wanted` and whose images are in one split; a pair comes in the
    round where it was first graded.
    """
    table = usable(merge(oracles.people_pairs(run)).pairs, images)
    split, other = images.of_pairs(table, "side")
    automatic = (table.similarity == 0) & ~images.same_class(table)
    table = table.assign(
        side=split,
        automatic=automatic,
        similarity=table.similarity.where(automatic),
        strategy=np.where(automatic, AUTOMATIC, "replay"),
    )[split == other]
    return table[wanted(table)][[*PAIR_COLUMNS, "side"]]


def asked_pairs(of: Round) -> pd.DataFrame:
    """The pairs of a round that are for people, in their order: all but the automatic zeros, and
    those of pictures that were removed since.
    """
    if not of.pairs.is_file():
        raise ValueError(
            f"run {of.run.name} has no pairs of round {of.number} yet; run the notebooks before "
            "it first"
        )
    table = read_pairs(of.pairs)
    table = table[table.strategy != AUTOMATIC]
    if not (of.run.vectors / "encoder" / "config.json").is_file():
        return table
    missing = gone({*table.image1, *table.image2}, load_embeddings(of.run))
    return table[~table.image1.isin(missing) & ~table.image2.isin(missing)]


def waiting_pairs(of: Round) -> pd.DataFrame:
    """Those of a round's pairs that nobody has answered yet; "skip" and "unsure" are answers too,
    without a grade.
    """
    return unanswered(asked_pairs(of), Journal(of.run.journal))


def unanswered(pairs: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """Those of these pairs on which no act stands."""
    answered = [bool(journal.standing_on(*pair)) for pair in zip(pairs.image1, pairs.image2)]
    return pairs[~np.array(answered, bool)]


def untouched_lists(of: Round, pairs: pd.DataFrame, on_screen: set[tuple[str, str]]) -> np.ndarray:
    """The number of each pair's list (n,), where nobody has answered any pair of it and none is on
    somebody's screen; else -1.
    """
    acts = Journal(of.run.journal).standing()
    held = on_screen | {(act.image1, act.image2) for act in acts}
    number = list_numbers(pairs)
    touched = np.unique(number[_are_among(pairs, held)])
    return np.where(np.isin(number, touched), -1, number)


def take_over(of: Round, drafts: Drafts, on_screen: set[tuple[str, str]]) -> None:
    """Ask a round's newly drafted lists from now on, but for those that somebody has begun since.

    Nothing is done where the round asks other pairs by now than those that were drafted anew.
    """
    pairs = read_pairs(of.pairs)
    if not pairs.equals(drafts.before):
        return
    number = untouched_lists(of, pairs, on_screen)
    while True:  # a list that stays may hold a pair of one that comes
        stay = number < 0
        kept = {*map(key, pairs.image1[stay], pairs.image2[stay])}
        clash = np.unique(number[~stay & _are_among(drafts.after, kept)])
        if not len(clash):
            break
        number = np.where(np.isin(number, clash), -1, number)
    if not stay.all():
        asked = pd.concat([pairs[stay], drafts.after[~stay]]).sort_index()
        of.redrafted.parent.mkdir(exist_ok=True)
        write_table(asked, of.redrafted)


def _are_among(pairs: pd.DataFrame, known: set[tuple[str, str]]) -> np.ndarray:
    """Which pairs, whatever the order of their images, are known: (n,) bool."""
    return np.array([key(one, two) in known for one, two in zip(pairs.image1, pairs.image2)], bool)


def _ungraded(run: Run, pairs: pd.DataFrame) -> pd.DataFrame:
    graded = Journal(run.journal).labels()
    return pairs[~_are_among(pairs, {*zip(graded.image1, graded.image2)})]


def is_a_persons(of: Round) -> bool:
    """Whether a person has begun to grade what this round and those before it ask, and no oracle
    has answered yet.

    A person's second look at an oracle's grades (the queues of disagreements, suspected errors,
    votes) comes after the oracle's answers, and so leaves the run the oracle's. Imported grades are
    nobody's turn."""
    acts = Journal(of.run.journal).standing()
    if any(act.annotator.startswith(ORACLE) for act in acts):
        return False
    by_people = {(act.image1, act.image2) for act in acts if act.source in BY_PEOPLE}
    rounds = [this for this in map(of.run.round, range(of.number + 1)) if this.pairs.is_file()]
    return any(_are_among(asked_pairs(this), by_people).any() for this in rounds)


def ready(of: Round) -> bool:
    """Whether a round of a run that people teach can be learnt from: somebody answered every pair
    that it asks.

    Round 0 asks nothing where the classes are learnt first.
    """
    if not of.pairs.is_file() or len(waiting_pairs(of)):
        return False
    return of.number == 0 or len(asked_pairs(of)) > 0


def answer(
    stage: Stage, of: Round, collection: Collection, annotator: str, wait: bool = True
) -> int:
    """Get a round's missing grades: from the oracle, or see that a person gave them; automatic
    zeros are written too.

    A run whose pairs a person has begun to grade before any oracle answered is that person's
    (``is_a_persons``): its other pairs wait for the person, whatever `annotator` says.

    Parameters
    ----------
    stage : needs the grades; once it is finished, nothing is asked
    annotator : "oracle" or "person"
    wait : whether pairs that wait for a person are an error; off where nothing is learnt from them
        yet

    Returns
    -------
    how many pairs the oracle graded now

    Raises
    ------
    ValueError
        when pairs wait for a person, or for an annotator that is neither.
    """
    if annotator not in ("oracle", "person"):
        raise ValueError(f"ANNOTATOR must be oracle or person, got {annotator!r}")
    if stage.finished:
        return 0
    run, study, journal = of.run, of.run.study, Journal(of.run.journal)
    journal.begin()
    pairs = read_pairs(of.pairs)
    zeros = _ungraded(run, pairs[pairs.strategy == AUTOMATIC])
    journal.append_many(zeros, AUTOMATIC, AUTOMATIC, of.number)
    waiting, for_a_person = waiting_pairs(of), run.taught or is_a_persons(of)
    if annotator == "oracle" and not for_a_person:
        grades = oracles.answer(study.oracle, waiting, oracles.known_to_oracle(run, collection))
        answered = waiting.assign(similarity=grades)
        return journal.append_many(answered, ORACLE + study.oracle, study.oracle, of.number)
    if len(waiting) and wait:
        begun = (
            " A person has begun to grade this run, so its oracle does not answer; for an "
            "oracle's grades, begin another run (RUN)."
        )
        raise ValueError(
            f"{len(waiting)} pairs of round {of.number} wait for a person's grade; give them in "
            f"the notebook's widget, or by: {tag_command(of)}; then run this again."
            f"{begun if for_a_person and not run.taught else ''}"
        )
    return 0


def tag_command(of: Round) -> str:
    """What to type to grade a round's pairs."""
    run = of.run
    if run.taught:
        return teach_command(run)
    if run.named:
        return f"imgsearch tag {run.study.study}{run.named} --round {of.number}"
    return f"make tag STUDY={run.study.study} ROUND={of.number}"


def teach_command(run: Run) -> str:
    """What to type to teach a run."""
    if run.named:
        return f"imgsearch teach {run.study.study}{run.named}"
    return f"make teach STUDY={run.study.study}"
