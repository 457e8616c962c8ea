"""A long, random, reproducible hostile run against the product as its users reach it.

    python -m benchmarks.hostile --minutes 30 [--seed N] [--only NAME ...] [--case N]
    [--report FILE]

Every case derives from (seed, attack, number), so ``--seed S --only damage --case 123`` replays it
alone. The moment of a kill by the clock depends on the machine; one at an event (the 7th file that
is opened for writing) does not.

In: one tiny finished study, made once (``study``). Out: a table of what was tried and what fell;
exit status 1 where anything fell. ``case`` starts the commands and judges each; ``kills``,
``quota``, ``together``, ``damage``, ``inputs`` and ``servers`` hold the attacks."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    # a process with threads of its own could not be forked safely
    os.environ.setdefault(_name, "1")
