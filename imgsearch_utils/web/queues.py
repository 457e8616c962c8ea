"""What to show an annotator: pairs of a round, of test images, of a map; disagreements, doubtful
grades, votes.
"""

import pandas as pd

from imgsearch_utils.grades.agreement import agreement
from imgsearch_utils.grades.journal import AUTOMATIC, Journal
from imgsearch_utils.grades.pairs import canonical
from imgsearch_utils.steps.tagging import asked_pairs
from imgsearch_utils.web.queue_names import check_queue
from imgsearch_utils.workspace import Run

SUSPECTED = 50  # grades that a queue of suspected errors lists


def open_queue(run: Run, name: str, number: int) -> pd.DataFrame:
    """The pairs of a queue of a run: image1, image2 and what the queue knows of them, most urgent
    first.

    Parameters
    ----------
    name : "round" (the round's pairs); "check" (random test pairs, which say honestly how good what
        was learnt is); "disagreements" (of annotators, for an adjudicator); "suspected_errors"
        (grades of train pairs that heads find least likely: trains a few heads); "pooled" (the
        first ten results of every model and index that nobody judged); "votes" (pairs voted up or
        down on the search page); or "map" (pairs of the images that somebody selected on the map)
    number : the round

    Raises
    ------
    ValueError
        for another name, or a round that is not there yet.
    """
    check_queue(run, name, number)
    journal, this = Journal(run.journal), run.round(number)
    if name == "round":
        return asked_pairs(this)
    if name == "disagreements":
        return agreement(journal).queue
    if name == "votes":
        return voted(journal)
    from imgsearch_utils.asking.second_look import (
        suspected_errors,
    )  # these load torch, which the others do without
    from imgsearch_utils.encoders.embed_collection import open_images
    from imgsearch_utils.grades.usable_grades import graded_pairs
    from imgsearch_utils.steps.collection_map import selected_pairs
    from imgsearch_utils.steps.index_round import pooled_rankings
    from imgsearch_utils.steps.tagging import check_pairs

    if name == "map":
        return selected_pairs(run)
    images = open_images(run)
    if name == "check":
        return check_pairs(run, images)
    if name == "pooled":
        return pooled(pooled_rankings(run, images.split("test"), 10), journal.labels(), 10)
    graded = graded_pairs(this, images).query("side == 'train'")
    listed = suspected_errors(images.train, graded, run.study.head, folds=3)
    return listed[~listed.automatic].head(SUSPECTED)


def pooled(rankings: pd.DataFrame, labels: pd.DataFrame, k: int) -> pd.DataFrame:
    """The results in any system's first `k` that nobody judged, those of most systems first, then
    by best rank.

    Judging the pool of all systems' results makes retrieval metrics comparable (Spaerck Jones & van
    Rijsbergen 1975).

    Parameters
    ----------
    rankings : query_image, retrieved_image, system (a model or index), rank (1 is best)
    labels : image1, image2, similarity

    Returns
    -------
    image1, image2, systems (how many found it), rank (the best)
    """
    names = {"query_image": "image1", "retrieved_image": "image2"}
    pooled_pairs = canonical(rankings[rankings["rank"] <= k].rename(columns=names))
    pooled_pairs = pooled_pairs.groupby(["image1", "image2"], as_index=False).agg(
        systems=("system", "nunique"), rank=("rank", "min")
    )
    judged = pd.MultiIndex.from_frame(canonical(labels)[["image1", "image2"]])
    open_pairs = pooled_pairs[
        ~pd.MultiIndex.from_frame(pooled_pairs[["image1", "image2"]]).isin(judged)
    ]
    order = {"systems": False, "rank": True, "image1": True, "image2": True}
    return open_pairs.sort_values(list(order), ascending=list(order.values()), ignore_index=True)


def voted(journal: Journal) -> pd.DataFrame:
    """The pairs that people voted on in the search page and that nobody graded.

    Returns
    -------
    image1, image2, up, down (how many votes), last (UTC): those with votes on both sides first,
    then the latest vote"""
    labels = journal.labels()
    graded = set(
        labels[labels.source != AUTOMATIC][["image1", "image2"]].itertuples(index=False, name=None)
    )
    rows = []
    for pair, by_annotator in journal.search_votes().items():
        up = sum(act.act == "vote_up" for act in by_annotator.values())
        if pair not in graded:
            rows.append(
                (*pair, up, len(by_annotator) - up, max(act.time for act in by_annotator.values()))
            )
    rows.sort(key=lambda row: (min(row[2:4]), row[4]), reverse=True)
    return pd.DataFrame(rows, columns=["image1", "image2", "up", "down", "last"])
