"""Commands ended at a random moment, then asked again: they must end as if undisturbed."""

import shutil
import signal

from benchmarks.hostile import study
from benchmarks.hostile.case import ASKED, STUDY, Case, attack
from benchmarks.hostile.commands import Disturbance

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
RUN_SECONDS = 900.0
#: what is taken away of a finished run so that `run` has work: the last stages, from the back
STAGES = (
    (f"report_results/{STUDY}",),
    (f"vector_dbs/{STUDY}/indexes", f"active_learning_results/{STUDY}/ann_comparison"),
    (
        f"active_learning_models/{STUDY}/round_00",
        f"active_learning_labels/{STUDY}/round_01",
        f"active_learning_results/{STUDY}/round_00",
        f"active_learning_results/{STUDY}/results_log.csv",
        f"vector_dbs/{STUDY}/head",
    ),
    (f"active_learning_labels/{STUDY}", f"active_learning_results/{STUDY}", f"vector_dbs/{STUDY}"),
)


def give_work(case: Case, name: str) -> None:
    """Take away what `name` makes, in half of the cases all of it."""
    if name == "embed" and case.rng.random() < 0.8:
        shutil.rmtree(case.home / f"vector_dbs/{STUDY}/encoder")
    if name == "index" and case.rng.random() < 0.5:
        shutil.rmtree(case.home / f"vector_dbs/{STUDY}/search", ignore_errors=True)


def random_end(case: Case, name: str, seconds: float | None = None) -> Disturbance:
    """A signal at a random moment: by the clock, or just before one of the changes of files."""
    number = case.one_of(SIGNALS)
    if seconds is None and case.base.changes[name] and case.rng.random() < 0.6:
        return Disturbance(number, event=int(case.rng.integers(1, case.base.changes[name] + 1)))
    return Disturbance(
        number, seconds=float(case.rng.random() * 1.05 * (seconds or case.base.seconds[name]))
    )


def took_place(case: Case, name: str, fresh: bool, disturbed: Disturbance) -> None:
    """One command ended on its way, and again to its end; then all must be well."""
    done = case.run(*ASKED[name], disturbed=disturbed, fresh=fresh)
    case.orphans(f"{name} after signal {disturbed.signal}")
    if disturbed.signal == signal.SIGINT or done.status == 0:
        case.temporary_files(f"{name} after signal {disturbed.signal}")
    shutil.rmtree(case.folder / "own", ignore_errors=True)
    case.ask(name, must=True)
    case.temporary_files(name)
    if name != "embed":
        case.ask("embed", must=True)
    case.all_is_well(imported=name == "import")


@attack("kill", share=0.2)
def kill(case: Case) -> None:
    """kill -9, SIGTERM or SIGINT at a random moment of a command, which is then run again; in a
    third of the cases of a new Python, as from the shell, also while it is still importing.
    """
    case.copy()
    name, fresh = case.one_of(ASKED), bool(case.rng.random() < 1 / 3)
    give_work(case, name)
    seconds = 4 + case.base.seconds[name] if fresh else None
    took_place(case, name, fresh, random_end(case, name, seconds))


@attack("kill_run", share=0.01, limit=1800)
def kill_run(case: Case) -> None:
    """kill -9, SIGTERM, SIGINT or a full disk at a random moment of a run with one to four stages
    to make.
    """
    case.copy()
    depth = int(case.rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))
    for place in (place for stage in STAGES[: depth + 1] for place in stage):
        shutil.rmtree(case.home / place) if (case.home / place).is_dir() else (
            case.home / place
        ).unlink()
    seconds = float(case.rng.random() * case.base.seconds["run"] * (depth + 1) / 4)
    disturbed = Disturbance(case.one_of(SIGNALS), seconds=seconds)
    if case.rng.random() < 0.25:
        disturbed = Disturbance(file_bytes=int(10 ** case.rng.uniform(2, 6.5)))
    case.run("run", STUDY, disturbed=disturbed, fresh=True, limit=RUN_SECONDS)
    case.orphans(f"run after {disturbed}")
    again = case.run("run", STUDY, fresh=True, limit=RUN_SECONDS)
    if again.status:
        case.fall(f"run does not go on after {disturbed}: {again.last[:300]}")
        return
    case.orphans("run")
    for path, right in case.base.evidence.items():
        found = (case.home / path).read_bytes() if (case.home / path).is_file() else b""
        if found != right:
            case.fall(f"wrong result with exit 0: {path} differs from the undisturbed run's")
    if left := study.unfinished(case.home):
        case.fall(f"left unfinished by run: {', '.join(left)[:200]}")
    if study.acts_of(case.home) != study.acts_of(case.base.home):
        case.fall("the run's journal differs from the undisturbed one")
