"""Several commands at work on one run at once."""

import shutil
import time

from benchmarks.hostile import study
from benchmarks.hostile.case import ASKED, STUDY, Case, attack
from benchmarks.hostile.commands import SECONDS
from benchmarks.hostile.study import WRITTEN

TOGETHER = (
    "embed",
    "index",
    "import",
    "score",
    "search",
    "search_head",
    "export",
    "classify",
    "summary",
)
# one of them says that somebody else is at work
BUSY = ("another", "being", "no vectors yet", "in use", "wait")


@attack("together", share=0.10)
def together(case: Case) -> None:
    """Two to four commands on one run at once: each succeeds with the right result, or says who is
    at work.
    """
    case.copy()
    if no_vectors := case.rng.random() < 0.3:
        shutil.rmtree(case.home / f"vector_dbs/{STUDY}/encoder")
    choice = [*TOGETHER, "check", *([] if no_vectors else ["run"])]
    names = [case.one_of(choice) for _ in range(case.rng.integers(2, 5))]
    running = []
    for name in names:
        line = {"run": ("run", STUDY), "check": ("check", "--study", STUDY)}.get(name) or ASKED[
            name
        ]
        running.append(case.start(*line))
        time.sleep(float(case.rng.random() * 0.3))
    imported = False
    for name, command in zip(names, running):
        done = command.wait(SECONDS)
        imported |= name == "import" and done.status == 0
        case.judge(done)
        missing = (
            no_vectors
            and name == "check"
            and all(  # nobody had made them when it looked
                line.startswith(f"vector_dbs/{STUDY}/encoder is not there")
                for line in done.out.splitlines()
            )
        )
        if done.status == 1 and not (
            missing or any(word in done.last for word in BUSY) or "Traceback" in done.err
        ):
            case.fall(
                f"{name} beside {', '.join(sorted({*names} - {name}) or names)} refused without "
                "saying who is at "
                f"work: {done.last[:200] or done.out[:400]}"
            )
        elif done.status == 0 and name in ASKED and not (name == "export" and "import" in names):
            if name == "summary" and "import" in names:
                continue
            if wrong := study.answer_is_wrong(case.base, name, case.answer_of(name, done)):
                case.fall(f"wrong result with exit 0: {name} beside {', '.join(names)}: {wrong}")
        if (
            name in WRITTEN
            and names.count(name) == 1
            and done.status == 1
            and (case.home / WRITTEN[name]).is_file()
        ):
            (case.home / WRITTEN[name]).unlink()
    case.orphans(" beside ".join(names))
    case.ask("embed", must=True)
    case.all_is_well(imported=imported)
