"""Which queues there are, apart from what opens them, so that a wrong name is refused before
anything is loaded.
"""

from imgsearch_utils.study import nearest
from imgsearch_utils.workspace import Run

QUEUES = ("round", "check", "disagreements", "suspected_errors", "pooled", "votes", "map")
# questions of three pictures, and so no pairs; they have a page of their own
COMPARING = "comparisons"


def check_queue(run: Run, name: str, number: int) -> None:
    """ValueError, in a moment, for a queue that has another name, or a round that is not there
    yet.
    """
    if name == COMPARING:
        raise ValueError(
            f"{name}: expected a queue of pairs; comparisons have a page of their own: imgsearch "
            f"tag {run.study.study} --queue {COMPARING}"
        )
    if name not in QUEUES:
        raise ValueError(f"no queue is called {name!r}. {nearest(name, (*QUEUES, COMPARING))}")
    if not 0 <= number <= run.most_rounds:
        raise ValueError(f"ROUND must be 0 to {run.most_rounds} in this study, got {number}")
    if name == "round" and not run.round(number).pairs.is_file():
        raise ValueError(
            f"run {run.name} has no pairs of round {number} yet; run the notebooks before it first"
        )
