"""What a run found, as sentences for a reader who was not there; each judgement is computed from
the run's numbers.

A run may lack parts: rounds, test grades, classes. What is not there is not spoken of, or said to
be missing."""

import numpy as np

from imgsearch_utils.evaluation.example_queries import ENOUGH_JUDGED, grades_so_far
from imgsearch_utils.images.image_split import read_split
from imgsearch_utils.learning import promotion
from imgsearch_utils.metrics import Ceiling, calibration_by_chance
from imgsearch_utils.steps.run_results import RunResults
from imgsearch_utils.workspace import Run


def interval(gain: tuple[float, float, float]) -> str:
    """A gain as text, with its interval where there is one."""
    difference, low, high = gain
    if np.isnan(difference):
        return "not defined"
    return (
        f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]" if np.isfinite(low) else f"{difference:+.3f}"
    )


def verdict(gain: tuple[float, float, float]) -> str:
    """What an interval says of a gain."""
    _, low, high = gain
    if np.isnan(low):
        return "on too few similar pairs for an interval, so it may be chance"
    return (
        "more than chance explains"
        if low > 0
        else "a loss that chance does not explain"
        if high < 0
        else "no more than chance may explain"
    )


def _number(value: float) -> str:
    return "not defined" if np.isnan(value) else f"{value:.3f}"


def _percent(share: float) -> str:
    return "not defined" if np.isnan(share) else f"{100 * share:.0f} %"


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _reported_split(results: RunResults) -> str:
    """The split that the result is told of: test, else dev; empty where neither was measured."""
    return next((split for split in ("test", "dev") if results.measures(split)), "")


def encoder(run: Run) -> str:
    """What made the vectors: an encoder's name, or the file that they came in."""
    return run.study.images.vectors or run.study.encoder


def result(results: RunResults) -> str:
    """The result in one sentence."""
    if not results.metrics:
        by = "By the classes" if results.judged_by_classes else "By the grades"
        ranked = (
            f" {by}, the first ten results of a test image reach nDCG@10 of "
            f"{results.retrieval['encoder']['nDCG@10']:.3f}."
            if len(results.retrieval)
            else ""
        )
        return (
            "Nothing was taught in this run: search ranks by the encoder as it is, "
            f"{encoder(results.run)}.{ranked}"
        )
    split = _reported_split(results)
    uses = "Search uses what was learnt" if results.promoted else "Search does not use it"
    if not split:
        return f"{uses}; how good that is was not measured."
    where = (
        "on test images that took no part in it"
        if split == "test"
        else "on the pairs that decide, as no test pair has a grade"
    )
    ap = {model: results.quality_of(split, model, "ap") for model in ("encoder", "head")}
    if np.isnan(ap["head"]):
        alike = results.quality_of(split, "head", "n_similar")
        which = "all of them are" if alike else "none of them is"
        wanted = "different" if alike else "very similar"
        return (
            f"{uses}. There is nothing to measure yet: of the graded pairs that could tell, "
            f"{which} very similar (grade 3). Grade some that are {wanted}."
        )
    gain, _ = promotion.gains_of_metrics(results.metrics, split)
    return (
        f"What was learnt finds pairs {results.similar} with an average precision of "
        f"{ap['head']:.3f} {where}, the "
        f"encoder alone with {ap['encoder']:.3f}: {interval(gain[1:])}, {verdict(gain[1:])}. "
        f"{uses}."
    )


def _counted(results: RunResults, split: str) -> str:
    n, similar = (results.metrics[split]["encoder"].get(name) for name in ("n", "n_similar"))
    return f"{n:,} pairs, {similar:,} of them {results.similar}"


def decision(results: RunResults) -> list[str]:
    """What search uses, and why: what decides, and what only reports; no sentence where there was
    no round.
    """
    if not results.measures("dev"):
        return []
    decided = promotion.decision_of_metrics(results.metrics)
    sentences = [
        *promotion.explain(results.metrics["candidate"], decided),
        *([] if results.by_classes else promotion.what_classes_gave(results.run)),
        f"The rule: {promotion.RULE}",
    ]
    gains = promotion.gains_of_metrics(results.metrics)
    measured = " and ".join(f"{gain.measure} {interval(gain[1:])}" for gain in gains)
    whose = (
        "the dev pairs"
        if results.run.study.dev_share
        else "all graded train pairs, by heads that did not see one of the two images"
    )
    sentences.append(
        f"Beside the encoder, on {whose} ({_counted(results, 'dev')}), what was learnt gains "
        f"{measured}."
    )
    if not results.measures("test"):
        return [*sentences, "No test pair has a grade, so nothing independent confirms this."]
    test = promotion.gains_of_metrics(results.metrics, "test")[0]
    sentences.append(
        f"The test pairs are others, of other images ({_counted(results, 'test')}): there average "
        f"precision gains {interval(test[1:])}, {verdict(test[1:])}. They only report: what was "
        "chosen by them could no longer be checked by them."
    )
    return [*sentences, *filter(None, [promotion.compared_with_test(results.promoted, test)])]


def findings(results: RunResults, ceiling: Ceiling) -> list[str]:
    """What else was found, a sentence each."""
    sentences = []
    if results.by_classes:
        sentences.append(
            "No pair was graded for the last round: it learnt from the classes alone, so "
            "“similar” means “of the same class” in all its numbers."
        )
    elif results.metrics:
        counts = results.metrics["labels"]
        sentences.append(
            f"It learnt from {counts['labels']:,} graded training pairs, {counts['asked']:,} of "
            f"them asked and {counts['similar']:,} of grade 3."
        )
    if split := _reported_split(results):
        sentences.append(_of_decisions(results, split))
    if "nDCG@10" in results.retrieval.index:
        sentences.append(_of_rankings(results))
    if ceiling.pairs:
        known = f"F1 of one grading by the other is {ceiling.f1:.3f}, as much as a model can reach"
        unknown = "none was called similar, so how far people agree on it is not known"
        agreement = known if np.isfinite(ceiling.f1) else unknown
        sentences.append(f"{ceiling.pairs} pairs were graded twice; {agreement}.")
    return [*sentences, _recommendation(results, "Recommended index")]


def _recommendation(results, title):
    return f"{title}: {results.choice['index']}. {_first_upper(results.choice['reason'])}."


def _of_decisions(results, split):
    f1, f1_encoder = (results.quality_of(split, model, "f1") for model in ("head", "encoder"))
    off, scored = results.quality_of(split, "head", "ece"), results.scored
    measured = (scored.side == split) & scored.similarity.notna()
    by_chance = calibration_by_chance(scored.p_similar[measured]).ece
    return (
        f"On the {split} pairs, calling a pair similar or not reaches F1 {_number(f1)} "
        f"(encoder {_number(f1_encoder)}), and P(similar) is off by {_number(off)} on average, "
        f"where a perfect one is off by {_number(by_chance)} on as many pairs, by chance."
    )


def _of_rankings(results):
    ndcg, judged = results.retrieval.loc["nDCG@10"], results.retrieval.loc["judged@10"]
    name = "head" if "head" in ndcg else "encoder"
    beside = f" (encoder {ndcg['encoder']:.3f})" if name == "head" else ""
    too_few = ", too few to say much" if judged[name] < ENOUGH_JUDGED else ""
    by = ", by the classes, as no test pair has a grade" if results.judged_by_classes else ""
    return (
        f"The first ten results of a test image reach nDCG@10 {ndcg[name]:.3f}{beside}; "
        f"{_percent(judged[name])} of the {name}'s are judged{too_few}{by}."
    )


def missing(results: RunResults, pictures: bool) -> dict[str, str]:
    """Why parts of the report are left out: part -> one line."""
    reasons = {}
    if not results.metrics:
        reasons["rounds"] = (
            "This run has no round: nothing was learnt, so there is no head to compare with the "
            "encoder."
        )
    elif not results.logged("test"):
        reasons["rounds"] = (
            "No test pair has a grade that could be measured, so nothing is reported on the test "
            "images."
        )
    if results.metrics and results.history.empty:
        reasons["learnt"] = (
            f"What was chosen ({results.metrics['candidate']}) trains no network, so it has no "
            "training curve."
        )
    if results.retrieval.empty:
        reasons["neighbours"] = "No result of a test image has a grade, so rankings are not judged."
    if not pictures:
        reasons["examples"] = "This study comes as vectors, so there are no pictures to show."
    return reasons


def meanings(results: RunResults) -> dict[str, str]:
    """What each figure means in this run: figure -> a computed sentence; none where nothing can be
    said.
    """
    splits, graded = read_split(results.run).side, grades_so_far(results.run)
    counted = [
        f"{len(part):,} {split} pairs, {(part.similarity == 3).sum():,} {results.similar}"
        for split, part in graded.groupby("side", sort=False)
    ]
    sentences = {
        "class_counts": f"{len(splits):,} images, {(splits == 'test').sum():,} of them test "
        "images.",
        "grade_counts": f"{'; '.join(counted)}." if counted else "",
        "recall_and_speed": _recommendation(results, "Recommended"),
        "training_curves": _of_training(results.history),
        "retrieval": _of_retrieval(results),
        "relevance_lost": _of_losses(results.compared("relevance_lost.csv")),
        "class_confusion": _of_confusions(results),
    }
    for split in ("test", "dev"):
        if results.logged(split):
            sentences[f"rounds_{split}"] = _of_rounds(results.log, split)
    if results.measures("dev"):
        auc = {model: results.quality_of("dev", model, "roc_auc") for model in ("encoder", "head")}
        sentences["score_distributions"] = (
            f"A pair {results.similar} lies above another pair in {_percent(auc['encoder'])} "
            f"of cases by the encoder and in {_percent(auc['head'])} by the head; 50 % is chance."
        )
        used = "used" if results.promoted else "not used"
        sentences["candidates"] = (
            f"{_first_upper(results.metrics['candidate'])} was chosen and is {used} by search."
        )
    if results.measures("test"):
        test = results.scored[results.scored.side == "test"]
        sentences |= _of_test_pairs(test, results.thresholds, results.similar)
    return {figure: sentence for figure, sentence in sentences.items() if sentence}


def _of_training(history):
    curve = history.dropna(subset="dev_ap") if len(history) else history
    if curve.empty:
        return ""
    end, best = curve.iloc[-1], curve.loc[curve.dev_ap.idxmax()]
    before = f"the best was {best.dev_ap:.3f}, after epoch {best.epoch:.0f}"
    return (
        f"Average precision on the pairs held out is {end.dev_ap:.3f} after epoch "
        f"{end.epoch:.0f}; {'the best of all' if best.epoch == end.epoch else before}."
    )


def _of_retrieval(results):
    if "nDCG@10" not in results.retrieval.index or "head" not in results.retrieval:
        return ""
    ndcg, judged = results.retrieval.loc["nDCG@10"], results.retrieval.loc["judged@10"].min()
    but = f", but only {_percent(judged)} of the first ten results are judged"
    by = " No test pair has a grade, so the classes judge: of the same class counts as grade 3."
    return (
        f"Of nDCG@10, the head reaches {ndcg['head']:.3f} and the encoder {ndcg['encoder']:.3f}"
        f"{but if judged < ENOUGH_JUDGED else ''}.{by if results.judged_by_classes else ''}"
    )


def _of_losses(lost):
    if lost.empty or lost.nDCG_lost.isna().all():
        return ""
    worst = lost.loc[lost.nDCG_lost.idxmax()]
    if worst.nDCG_lost < 5e-4:
        return "No index loses as much as 0.001 of nDCG at any setting."
    return (
        f"The most that any index loses at any setting is {worst.nDCG_lost:.3f} of nDCG "
        f"({worst['index']}, vectors of the {worst.model})."
    )


def _of_confusions(results):
    """The mean share of results that are of the query's own class, by each model."""
    shares = []
    for name in ("encoder", "head"):
        matrix = results.compared(f"confusion_{name}.csv")
        if len(matrix):
            matrix = matrix.set_index("query class")
            own = np.mean([matrix.loc[label].get(label, 0.0) for label in matrix.index])
            shares.append(f"{_percent(own)} by the {name}")
    return shares and (
        f"Of the first ten results, {' and '.join(shares)} are of the query's own class, in the "
        "mean over classes."
    )


def _of_rounds(log, split):
    name = f"{split}_ap_gain"
    measured = log[log[name].notna()]
    if measured.empty:
        return "No gain in average precision could be measured."
    first, last = measured.iloc[0], measured.iloc[-1]
    gain = last[name], last[f"{name}_low"], last[f"{name}_high"]
    before = f"; with {first.labels:,.0f} it was {first[name]:+.3f}" if len(measured) > 1 else ""
    return (
        f"With {last.labels:,.0f} graded pairs the gain in average precision is "
        f"{interval(gain)}, {verdict(gain)}{before}."
    )


def _of_test_pairs(test, thresholds, words):
    similar, sentences = test.similarity == 3, {}
    if 0 < similar.sum() < len(test):
        head, encoder = (_precision_at_half(similar, test[name]) for name in ("score", "cosine"))
        sentences["precision_recall"] = (
            f"Where half of the {similar.sum():,} similar pairs are found, {_percent(head)} of "
            f"what was picked is right by the head and {_percent(encoder)} by the encoder."
        )
    counts = []
    for name, column in (("encoder", "encoder_p_similar"), ("head", "p_similar")):
        called = test[column] >= thresholds[name]
        rightly = (called & similar).sum()
        counts.append(f"the {name} calls {called.sum():,} similar, {rightly:,} of them rightly")
    sentences["confusion"] = (
        f"Of {len(test):,} pairs {similar.sum():,} are {words}; {'; '.join(counts)}."
    )
    return sentences


def _precision_at_half(similar, score):
    """Of the best pairs, as many as hold half of the similar ones, the share that is similar."""
    ordered = similar.loc[score.sort_values(ascending=False, kind="stable").index]
    enough = int(np.argmax(ordered.cumsum().to_numpy() >= similar.sum() / 2)) + 1
    return ordered.iloc[:enough].mean()
