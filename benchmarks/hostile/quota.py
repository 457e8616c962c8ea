"""A file may not grow, as with a quota or a full disk, on the way of a command; then it may."""

from benchmarks.hostile.case import ASKED, Case, attack
from benchmarks.hostile.commands import Disturbance
from benchmarks.hostile.kills import give_work
from benchmarks.hostile.study import WRITTEN


@attack("file_limit", share=0.1)
def file_limit(case: Case) -> None:
    """No file may grow beyond a random size (a quota) during a command, then it may."""
    case.copy()
    name, before = case.one_of(ASKED), b"what a user had here before\n"
    give_work(case, name)
    if name in WRITTEN:
        (case.home / WRITTEN[name]).write_bytes(before)
    limit = Disturbance(file_bytes=int(10 ** case.rng.uniform(0, 5.3)))
    done = case.run(*ASKED[name], disturbed=limit)
    if name in WRITTEN:
        if done.status == 0 and case.answer_of(name, done) != case.base.answers[name]:
            case.fall(f"exit 0 on a full disk, and {WRITTEN[name]} is not whole")
        if done.status and (case.home / WRITTEN[name]).read_bytes() != before:
            case.fall(f"a failed {name} on a full disk changed the file that stood there")
    case.orphans(name)
    case.ask(name, must=True)
    if name != "embed":
        case.ask("embed", must=True)
    case.all_is_well(imported=name == "import")
