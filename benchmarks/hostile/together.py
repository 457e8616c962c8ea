"""Several commands at work on one run at once, and many writers of one journal."""

import os
import shutil
import signal
import time

from benchmarks.hostile import study
from benchmarks.hostile.case import ASKED, STUDY, Case, attack
from benchmarks.hostile.commands import SECONDS
from benchmarks.hostile.study import WRITTEN
from imgsearch_utils.grades.journal import Journal

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
    choice = [
        *TOGETHER,
        *(["run"] if case.base.finished and not no_vectors else []),
        *(["check"] if "check" in case.base.commands else []),
    ]
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


@attack("journal", share=0.05)
def journal(case: Case) -> None:
    """Up to 64 writers of one journal, some killed on their way: what was acknowledged is there
    once, in its order.
    """
    case.home.mkdir(parents=True)
    file, pipes = case.home / "journal.csv", []
    writers = int(case.one_of([2, 4, 8, 16, 64]))
    killed = [bool(case.rng.random() < 0.4) for _ in range(writers)]
    for writer in range(writers):
        reading, writing = os.pipe()
        if pid := os.fork():
            os.close(writing)
            pipes.append((pid, reading))
            continue
        try:
            own = Journal(file)
            for number in range(40 if writers < 64 else 8):
                own.append(
                    f"writer {writer}",
                    f"a,\n{number}.jpg",
                    f'"b\\{writer}.jpg',
                    "grade",
                    grade=number % 4,
                )
                os.write(writing, b"%d\n" % number)
        finally:
            os._exit(0)
    for (pid, _), kill in zip(pipes, killed):
        if kill:
            time.sleep(float(case.rng.random() * 0.02))
            os.kill(pid, signal.SIGKILL)
    acknowledged = []
    for pid, reading in pipes:
        with os.fdopen(reading) as end:
            acknowledged.append([int(line) for line in end.read().splitlines()])
        os.waitpid(pid, 0)
    acts = Journal(file).acts() if file.is_file() else []
    for writer, expected in enumerate(acknowledged):
        found = [
            int(act.image2.split("\n")[1].split(".")[0])
            if "\n" in act.image2
            else int(act.image1.split("\n")[1].split(".")[0])
            for act in acts
            if act.annotator == f"writer {writer}"
        ]
        # on disk, and killed before it could say so
        more = [len(expected)] if killed[writer] else []
        if found not in (expected, expected + more):
            case.fall(
                f"writer {writer} was told of {len(expected)} acts, the journal has {len(found)}"
            )
        if any(
            act.grade != number % 4
            for act, number in zip(
                [act for act in acts if act.annotator == f"writer {writer}"], found
            )
        ):
            case.fall("a grade was changed in the journal")
