"""Whether more grades are worth asking for: what they should bring, in a sentence. It never stops
anything.
"""

import numpy as np
import pandas as pd
from scipy.stats import t

WORTH = 0.005  # of average precision: what so many more grades should bring at least


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


def advise(log: pd.DataFrame, more: int = 100) -> str:
    """What `more` grades should change, and whether that is worth asking, in a sentence.

    log : as of ``expected_gain``; an empty sentence where it says nothing yet
    """
    gain, low, high = expected_gain(log, more)
    if not np.isfinite([gain, low, high]).all():
        return ""
    if high < WORTH:
        verdict = "not worth your time"
    elif gain < WORTH:
        verdict = "perhaps not worth your time"
    else:
        verdict = "worth asking"
    return (
        f"{more} more grades should change average precision by {gain:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]: {verdict}."
    )
