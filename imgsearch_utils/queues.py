"""What to show an annotator: a round's pairs, disagreements, suspected errors, unjudged results, voted pairs."""

import numpy as np
import pandas as pd

from imgsearch_utils import relevance, rounds
from imgsearch_utils.agreement import agreement
from imgsearch_utils.journal import AUTOMATIC, Journal
from imgsearch_utils.pairs import GRADES, canonical
from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import Run

QUEUES = ("round", "disagreements", "suspected_errors", "pooled", "votes")


def open_queue(run: Run, name: str, number: int) -> pd.DataFrame:
    """The pairs of a queue of a run: image1, image2 and what the queue knows of them, most urgent first.

    Parameters
    ----------
    name : "round" (the round's pairs), "disagreements" (of annotators, for an adjudicator), or "suspected_errors"
        (grades that the round's model finds least likely), or "pooled" (the first ten results of every model and index
        that nobody judged), or "votes" (pairs voted up or down on the search page)
    number : the round

    Raises
    ------
    ValueError
        for another name, or a round that is not there yet.
    """
    if name not in QUEUES:
        raise ValueError(f"no queue is called {name!r}. {nearest(name, QUEUES)}")
    if name == "disagreements":
        return agreement(Journal(run.journal)).queue
    if name == "votes":
        return voted(Journal(run.journal))
    if name == "pooled":
        return pooled(relevance.pooled_rankings(run, rounds.read_images(run), 10), Journal(run.journal).labels(), 10)
    if name == "round":
        folder = run.tagging_stage()["pairs"] if number == 0 else run.round_pairs(number)
        if not (folder / "pairs.csv").is_file():
            raise ValueError(f"run {run.name} has no pairs of round {number} yet; run the notebooks before it first")
        return rounds.asked(folder)
    scored = run.round_stage(number)["results"] / "scored_pairs.csv"
    if not scored.is_file():
        raise ValueError(f"round {number} of run {run.name} is not finished; finish it first")
    return suspected_errors(pd.read_csv(scored), Journal(run.journal).labels())


def suspected_errors(scored: pd.DataFrame, labels: pd.DataFrame, n: int = 50) -> pd.DataFrame:
    """The `n` asked pairs whose current grade has the smallest probability under the model.

    Parameters
    ----------
    scored : image1, image2, p_grade_0 to p_grade_3, and `automatic` where zeros were set without asking
    labels : image1, image2, similarity
    """
    asked = canonical(scored[~scored.automatic] if "automatic" in scored else scored)
    columns = ["image1", "image2", *(f"p_grade_{grade}" for grade in GRADES)]
    known = asked[columns].merge(labels[["image1", "image2", "similarity"]].dropna(), on=["image1", "image2"])
    likelihood = known[columns[2:]].to_numpy()[np.arange(len(known)), known.similarity.astype(int)]
    known = known[["image1", "image2", "similarity"]].assign(likelihood=likelihood)
    return known.nsmallest(n, ["likelihood"], keep="first").reset_index(drop=True)


def pooled(rankings: pd.DataFrame, labels: pd.DataFrame, k: int) -> pd.DataFrame:
    """The results in any system's first `k` that nobody judged, those of most systems first, then by best rank.

    Judging the pool of all systems' results makes retrieval metrics comparable (Spaerck Jones & van Rijsbergen 1975).

    Parameters
    ----------
    rankings : query_image, retrieved_image, system (a model or index), rank (1 is best)
    labels : image1, image2, similarity

    Returns
    -------
    image1, image2, systems (how many found it), rank (the best)
    """
    names = {"query_image": "image1", "retrieved_image": "image2"}
    found = canonical(rankings[rankings["rank"] <= k].rename(columns=names))
    found = found.groupby(["image1", "image2"], as_index=False).agg(systems=("system", "nunique"), rank=("rank", "min"))
    judged = pd.MultiIndex.from_frame(canonical(labels)[["image1", "image2"]])
    open_pairs = found[~pd.MultiIndex.from_frame(found[["image1", "image2"]]).isin(judged)]
    order = {"systems": False, "rank": True, "image1": True, "image2": True}
    return open_pairs.sort_values(list(order), ascending=list(order.values()), ignore_index=True)


def voted(journal: Journal) -> pd.DataFrame:
    """The pairs that people voted on in the search page and that nobody graded.

    Returns
    -------
    image1, image2, up, down (how many votes), last (UTC): those with votes on both sides first, then the latest vote
    """
    labels = journal.labels()
    graded = set(labels[labels.source != AUTOMATIC][["image1", "image2"]].itertuples(index=False, name=None))
    rows = []
    for pair, by_annotator in journal.search_votes().items():
        up = sum(act.act == "vote_up" for act in by_annotator.values())
        if pair not in graded:
            rows.append((*pair, up, len(by_annotator) - up, max(act.time for act in by_annotator.values())))
    rows.sort(key=lambda row: (min(row[2:4]), row[4]), reverse=True)
    return pd.DataFrame(rows, columns=["image1", "image2", "up", "down", "last"])
