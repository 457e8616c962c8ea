"""Whether more labels are worth asking for: three signs and an advice. It never stops anything."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t
from sklearn.metrics import cohen_kappa_score

from imgsearch_utils.workspace import Round, read_json
from imgsearch_utils.workspace.tables import read_table

# agreement of successive rounds at which Bloodgood and Vijay-Shanker (CoNLL 2009) stop
KAPPA = 0.99
WINDOW = 3  # agreements that are averaged
PATIENCE = 2  # rounds without a new best on dev
WORTH = 0.005  # of dev AP: what 100 labels, or a round, should bring


def decisions(of: Round) -> pd.Series:
    """What a finished round's head decides on the pairs that decide: (image1, image2) ->
    similar?
    """
    scored = read_table(of.results / "scored_pairs.csv")
    threshold = read_json(of.model / "calibration.json", "head")["head"]["threshold"]
    dev = scored[scored.side == "dev"].set_index(["image1", "image2"])
    return dev.p_similar >= threshold


def agreements(decided: Sequence[pd.Series]) -> list[float]:
    """Cohen's kappa of each two successive rounds' decisions on the pairs that both know; 1 where
    all are alike.
    """
    kappas = []
    for before, after in zip(decided, decided[1:]):
        both = before.index.intersection(after.index)
        one, two = before[both].to_numpy(bool), after[both].to_numpy(bool)
        kappas.append(1.0 if (one == two).all() else float(cohen_kappa_score(one, two)))
    return kappas


def expected_gain(log: pd.DataFrame, more: int = 100, last: int = 5) -> tuple[float, float, float]:
    """Dev AP that `more` asked pairs should add, with a 95 % interval: a line in log(asked) through
    the last rounds.

    log : `asked` and `dev_head_ap`, one row a round; NaN for fewer than two rounds, an open
        interval for two. A round that asked nothing (of a run that learns its classes first) says
        nothing of what grades add
    """
    recent = log.loc[log.asked > 0, ["asked", "dev_head_ap"]].dropna().tail(last)
    if recent.asked.nunique() < 2:
        return np.nan, np.nan, np.nan
    x, y = np.log(recent.asked.to_numpy(float)), recent.dev_head_ap.to_numpy(float)
    slope, cut = np.polyfit(x, y, 1)
    step = np.log1p(more / recent.asked.iloc[-1])
    free = len(x) - 2
    if not free:
        return slope * step, -np.inf, np.inf
    error = np.sqrt(((y - slope * x - cut) ** 2).sum() / free / ((x - x.mean()) ** 2).sum())
    wide = t.ppf(0.975, free) * error
    return slope * step, (slope - wide) * step, (slope + wide) * step


def advise(decided: Sequence[pd.Series], log: pd.DataFrame) -> list[str]:
    """Three signs that labels have stopped to help, and an advice, in sentences.

    Parameters
    ----------
    decided : each round's ``decisions``, in their order
    log : results_log.csv up to the same round: `asked`, `dev_head_ap`

    Returns
    -------
    a sentence each on kappa of successive predictions, the plateau on dev and the expected gain,
    then the advice"""
    asked_any = (log.asked > 0).tolist()
    decided, log = [one for one, some in zip(decided, asked_any) if some], log[asked_any]
    if len(log) < 2:
        return ["Advice: go on; one round says nothing of the next."]
    kappa = agreements(decided)[-WINDOW:]
    settled = len(kappa) == WINDOW and np.mean(kappa) >= KAPPA
    ap = log.dev_head_ap.to_numpy(float)
    earlier, recent = (
        np.nanmax(ap[:-PATIENCE], initial=-np.inf),
        np.nanmax(ap[-PATIENCE:], initial=-np.inf),
    )
    flat = len(ap) > PATIENCE and recent < earlier + WORTH
    gain, low, high = expected_gain(log)
    little = gain < WORTH
    signs = sum(map(bool, (settled, flat, little)))
    advice = {
        0: "go on",
        1: "go on, and look again after the next round",
        2: "consider stopping",
        3: "stop, unless you know better",
    }[signs]
    return [
        f"Predictions: kappa {np.mean(kappa):.3f} on dev pairs, mean of the last {len(kappa)} "
        "step(s); "
        f"{'settled' if settled else 'not settled'} ({WINDOW} steps at {KAPPA} would be).",
        f"Dev AP: {ap[-1]:.3f}, best before the last {PATIENCE} rounds {earlier:.3f}; "
        f"{'a plateau' if flat else 'no plateau'}."
        if len(ap) > PATIENCE
        else f"Dev AP: {ap[-1]:.3f}; too few rounds to speak of a plateau.",
        f"The next 100 labels should add {gain:+.3f} dev AP, 95 % [{low:+.3f}, {high:+.3f}]; "
        f"{'little' if little else 'worth asking'} ({WORTH} is the line).",
        f"Advice: {advice} ({signs} of 3 signs say that labels have stopped to help).",
    ]
