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


def decimals(value: float) -> str:
    """A number as text."""
    return "not defined" if np.isnan(value) else f"{value:.3f}"


def percent(share: float) -> str:
    """A share as text."""
    return "not defined" if np.isnan(share) else f"{100 * share:.0f} %"


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def encoder(run: Run) -> str:
    """What made the vectors: an encoder's name, or the file that they came in."""
    return run.study.images.vectors or run.study.encoder


def result(found: RunResults) -> str:
    """The result in one sentence."""
    if not found.metrics:
        by = "By the classes" if found.judged_by_classes else "By the grades"
        ranked = (
            f" {by}, the first ten results of a test image reach nDCG@10 of "
            f"{found.retrieval['encoder']['nDCG@10']:.3f}."
            if len(found.retrieval)
            else ""
        )
        return (
            "Nothing was taught in this run: search ranks by the encoder as it is, "
            f"{encoder(found.run)}.{ranked}"
        )
    split = next((split for split in ("test", "dev") if found.measures(split)), "")
    uses = "Search uses what was learnt" if found.promoted else "Search keeps the encoder"
    if not split:
        return f"{uses}; how good that is was not measured."
    where = (
        "on test images that took no part in it"
        if split == "test"
        else "on the pairs that decide, as no test pair has a grade"
    )
    ap = {model: found.quality_of(split, model, "ap") for model in ("encoder", "head")}
    if np.isnan(ap["head"]):
        return f"{uses}; no quality can be told, as the pairs measured are all similar, or none is."
    gain, order = found.gain(split), found.gain("dev", "order")
    also = (
        ""
        if gain[1] > 0 or not (found.promoted and order[1] > 0)
        else (f", because the order within a query's results is better: nDCG@10 {interval(order)}")
    )
    return (
        f"What was learnt finds pairs {found.similar} with an average precision of "
        f"{ap['head']:.3f} {where}, the "
        f"encoder alone with {ap['encoder']:.3f}: {interval(gain)}, {verdict(gain)}. {uses}{also}."
    )


def _counted(found: RunResults, split: str) -> str:
    n, similar = (found.metrics[split]["encoder"].get(name) for name in ("n", "n_similar"))
    return f"{n:,} pairs, {similar:,} of them {found.similar}"


def decision(found: RunResults) -> list[str]:
    """What search uses, and why: what decides, and what only reports; no sentence where there was
    no round.
    """
    if not found.measures("dev"):
        return []
    gains = promotion.gains_of_metrics(found.metrics)
    whose = (
        "the dev images"
        if found.run.study.dev_share
        else "the train pairs, each judged by heads that saw neither of its images"
    )
    measured = " and ".join(
        f"{gain.measure} {'within a query ' * (gain.measure == 'nDCG@10')}{interval(gain[1:])}"
        for gain in gains
    )
    sentences = [
        promotion.outcome(found.metrics["candidate"], found.promoted),
        f"What decides are {whose} ({_counted(found, 'dev')}): what was learnt gains {measured}.",
        *promotion.explain(gains, found.promoted, found.run.taught),
    ]
    if not found.measures("test"):
        return [*sentences, "No test pair has a grade, so nothing independent confirms this."]
    test = promotion.gains_of_metrics(found.metrics, "test")[0]
    sentences.append(
        f"The test pairs are others, of other images ({_counted(found, 'test')}): there average "
        f"precision gains {interval(test[1:])}, {verdict(test[1:])}. They only report: what was "
        "chosen by them could no longer be checked by them."
    )
    return [*sentences, *filter(None, [promotion.compared_with_test(found.promoted, test)])]


def findings(found: RunResults, ceiling: Ceiling) -> list[str]:
    """What else was found, a sentence each."""
    said = []
    if found.by_classes:
        said.append(
            "No pair was graded for the last round: it learnt from the classes alone, so "
            "“similar” means “of "
            "the same class” in all its numbers."
        )
    elif found.metrics:
        counts = found.metrics["labels"]
        said.append(
            f"It learnt from {counts['labels']:,} graded training pairs, {counts['asked']:,} of "
            "them asked and "
            f"{counts['similar']:,} of grade 3."
        )
    split = next((split for split in ("test", "dev") if found.measures(split)), "")
    if split:
        f1, other = (found.quality_of(split, model, "f1") for model in ("head", "encoder"))
        off, scored = found.quality_of(split, "head", "ece"), found.scored
        chance = calibration_by_chance(
            scored.p_similar[(scored.side == split) & scored.similarity.notna()]
        ).ece
        said.append(
            f"On the {split} pairs, calling a pair similar or not reaches F1 {decimals(f1)} "
            "(encoder "
            f"{decimals(other)}), and P(similar) is off by {decimals(off)} in the mean, where a "
            "perfect one is "
            f"off by {decimals(chance)} on as many pairs, by chance."
        )
    if "nDCG@10" in found.retrieval.index:
        means, judged = found.retrieval.loc["nDCG@10"], found.retrieval.loc["judged@10"]
        name = "head" if "head" in means else "encoder"
        beside = f" (encoder {means['encoder']:.3f})" if name == "head" else ""
        few = ", too few to say much" if judged[name] < ENOUGH_JUDGED else ""
        said.append(
            f"The first ten results of a test image reach nDCG@10 {means[name]:.3f}{beside}; "
            f"{percent(judged[name])} of the {name}'s are judged{few}"
            + (", by the classes, as no test pair has a grade." if found.judged_by_classes else ".")
        )
    if ceiling.pairs:
        known = f"F1 of one grading by the other is {ceiling.f1:.3f}, as much as a model can reach"
        unknown = "none was called similar, so how far people agree on it is not known"
        said.append(
            f"{ceiling.pairs} pairs were graded twice; "
            f"{known if np.isfinite(ceiling.f1) else unknown}."
        )
    return [
        *said,
        f"Recommended index: {found.choice['index']}. {_first_upper(found.choice['reason'])}.",
    ]


def missing(found: RunResults, pictures: bool) -> dict[str, str]:
    """Why parts of the report are left out: part -> one line."""
    said = {}
    if not found.metrics:
        said["rounds"] = (
            "This run has no round: nothing was learnt, so there is no head to compare with the "
            "encoder."
        )
    elif not found.logged("test"):
        said["rounds"] = (
            "No test pair has a grade that could be measured, so nothing is reported on the test "
            "images."
        )
    if found.metrics and found.history.empty:
        said["learnt"] = (
            f"What was chosen ({found.metrics['candidate']}) trains no network, so it has no "
            "training "
            "curve."
        )
    if found.retrieval.empty:
        said["neighbours"] = "No result of a test image has a grade, so rankings are not judged."
    if not pictures:
        said["examples"] = "This study comes as vectors, so there are no pictures to show."
    return said


def meanings(found: RunResults) -> dict[str, str]:
    """What each figure means in this run: figure -> a computed sentence; none where nothing can be
    said.
    """
    splits, graded = read_split(found.run).side, grades_so_far(found.run)
    said = {
        "class_counts": f"{len(splits):,} images, {(splits == 'test').sum():,} of them on the test "
        "side."
    }
    if len(graded):
        said["grade_counts"] = (
            "; ".join(
                f"{len(part):,} {split} pairs, {(part.similarity == 3).sum():,} {found.similar}"
                for split, part in graded.groupby("side", sort=False)
            )
            + "."
        )
    for split in ("test", "dev"):
        if found.logged(split):
            said[f"rounds_{split}"] = _of_rounds(found.log, split)
    if found.measures("dev"):
        auc = {model: found.quality_of("dev", model, "roc_auc") for model in ("encoder", "head")}
        said["score_distributions"] = (
            f"A pair {found.similar} lies above another pair in {percent(auc['encoder'])} "
            f"of cases by the encoder and in {percent(auc['head'])} by the head; 50 % is "
            "chance."
        )
        used = "used" if found.promoted else "not used"
        said["candidates"] = (
            f"{_first_upper(found.metrics['candidate'])} was chosen and is {used} by search."
        )
    curve = found.history.dropna(subset="dev_ap") if len(found.history) else found.history
    if len(curve):
        end, best = curve.iloc[-1], curve.loc[curve.dev_ap.idxmax()]
        before = (
            "the best of all"
            if best.epoch == end.epoch
            else f"the best was {best.dev_ap:.3f}, after epoch {best.epoch:.0f}"
        )
        said["training_curves"] = (
            f"Average precision on the pairs held out is {end.dev_ap:.3f} after epoch "
            f"{end.epoch:.0f}; {before}."
        )
    if found.measures("test"):
        test = found.scored[found.scored.side == "test"]
        said |= _of_test_pairs(test, found.thresholds, found.similar)
    if "nDCG@10" in found.retrieval.index and "head" in found.retrieval:
        judged = found.retrieval.loc["judged@10"].min()
        by = " No test pair has a grade, so the classes judge: of the same class counts as grade 3."
        said["retrieval"] = (
            "Of nDCG@10, the head reaches {head:.3f} and the encoder "
            "{encoder:.3f}{but}.{by}".format(
                **found.retrieval.loc["nDCG@10"],
                by=by if found.judged_by_classes else "",
                but=""
                if judged >= ENOUGH_JUDGED
                else f", but only {percent(judged)} of the first ten results are judged",
            )
        )
    said["recall_and_speed"] = (
        f"Recommended: {found.choice['index']}. {_first_upper(found.choice['reason'])}."
    )
    lost = found.compared("relevance_lost.csv")
    if len(lost) and lost.nDCG_lost.notna().any():
        worst = lost.loc[lost.nDCG_lost.idxmax()]
        said["relevance_lost"] = (
            f"The most that any index loses at any setting is {worst.nDCG_lost:.3f} of nDCG "
            f"({worst['index']}, vectors of the {worst.model})."
            if worst.nDCG_lost >= 5e-4
            else "No index loses as much as 0.001 of nDCG at any setting."
        )
    own = {
        name: _own_class(found.compared(f"confusion_{name}.csv")) for name in ("encoder", "head")
    }
    shares = " and ".join(
        f"{percent(share)} by the {name}" for name, share in own.items() if np.isfinite(share)
    )
    if shares:
        said["class_confusion"] = (
            f"Of the first ten results, {shares} are of the query's own class, in the mean over "
            "classes."
        )
    return said


def _of_rounds(log, split):
    known = log[log[f"{split}_ap_gain"].notna()]
    if known.empty:
        return "No gain in average precision could be measured."
    first, last = known.iloc[0], known.iloc[-1]
    name = f"{split}_ap_gain"
    gain = last[name], last[f"{name}_low"], last[f"{name}_high"]
    before = f"; with {first.labels:,.0f} it was {first[name]:+.3f}" if len(known) > 1 else ""
    return (
        f"With {last.labels:,.0f} graded pairs the gain in average precision is "
        f"{interval(gain)}, {verdict(gain)}"
        f"{before}."
    )


def _of_test_pairs(test, thresholds, words):
    similar, said = test.similarity == 3, {}
    if 0 < similar.sum() < len(test):
        half = {
            name: _precision_at_half(similar, test[column])
            for name, column in (("encoder", "cosine"), ("head", "score"))
        }
        said["precision_recall"] = (
            f"Where half of the {similar.sum():,} similar pairs are found, "
            f"{percent(half['head'])} of what was picked is right by the head and "
            f"{percent(half['encoder'])} by the encoder."
        )
    called = {
        name: test[column] >= thresholds[name]
        for name, column in (("encoder", "encoder_p_similar"), ("head", "p_similar"))
    }
    counts = [
        f"the {name} calls {of.sum():,} similar, {(of & similar).sum():,} of them rightly"
        for name, of in called.items()
    ]
    said["confusion"] = (
        f"Of {len(test):,} pairs {similar.sum():,} are {words}; {'; '.join(counts)}."
    )
    return said


def _precision_at_half(similar, score):
    """Of the best pairs, as many as hold half of the similar ones, the share that is similar."""
    ordered = similar.loc[score.sort_values(ascending=False, kind="stable").index]
    enough = int(np.argmax(ordered.cumsum().to_numpy() >= similar.sum() / 2)) + 1
    return ordered.iloc[:enough].mean()


def _own_class(matrix):
    """Mean share of results of the query's own class; NaN where there is no matrix."""
    if matrix.empty:
        return float("nan")
    shares = matrix.set_index("query class")
    return float(np.mean([shares.loc[name].get(name, 0.0) for name in shares.index]))
