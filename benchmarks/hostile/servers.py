"""The pages' server under strange requests, and its end."""

import re
import signal
import socket
import time

import psutil

from benchmarks.hostile.case import JOURNAL, STUDY, Case, attack
from benchmarks.hostile.commands import Command
from benchmarks.hostile.requests import STRANGE, Client
from imgsearch_utils.grades.journal import Journal

# that a server may grow by in one case; its networks are loaded after it has started
GROWTH_MB = 500


class Site(Client):
    """A server that was started by the command, and who asks it."""

    def __init__(self, case: Case, arguments):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.command: Command = case.start(*arguments, "--port", port, "--no-browser")
        self.log, until = "", time.monotonic() + 60
        while not (found := re.search(r"\?token=([\w-]+)", self.log)):
            if self.command.ended(0.05) or time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {self.command.wait(1).last[:150]}")
            self.read()
        super().__init__(case, port, found[1])

    def read(self) -> None:
        self.log += "".join(self.command.read())


@attack("server", share=0.14)
def server(case: Case) -> None:
    """`serve` or `tag` under strange requests, then ended: answers to the last, an exact journal,
    nothing left.
    """
    case.copy()
    before = Journal(case.home / JOURNAL).acts()
    site = Site(case, case.one_of([("serve", "--study", STUDY), ("tag", STUDY)]))
    process = psutil.Process(site.command.pid)
    until = time.monotonic() + 60
    while (
        b'"ready"' not in (health := site.ask("GET", "/api/health"))[1] and time.monotonic() < until
    ):
        time.sleep(0.1)
    began = process.memory_info().rss / 1e6
    for _ in range(25):
        name = case.one_of(STRANGE)
        case.did.append(name)
        STRANGE[name](site)
        site.read()
    health = site.ask("GET", "/api/health")
    if health[0] != 200 or b'"ready"' not in health[1]:
        case.fall(f"after strange requests /api/health says {health[0]} {health[1][:100]!r}")
    if (grown := process.memory_info().rss / 1e6 - began) > GROWTH_MB:
        case.fall(f"the server grew by {grown:.0f} MB in 25 strange requests")
    exact_journal(site, before)
    for connection in site.open[:: case.one_of([1, 2, 10**9])]:
        connection.close()
    end(site)


def exact_journal(site: Site, before: list) -> None:
    """Each acknowledged act stands in the journal as often as it was acknowledged, and what stood
    there stands.
    """
    acts = Journal(site.case.home / JOURNAL).acts()
    if acts[: len(before)] != before:
        site.case.fall("the server changed acts that stood in the journal")
    found = [
        (act.annotator, act.image1, act.image2, act.act, act.grade)
        for act in acts[len(before) :]
        if act.annotator == "ann"
    ]
    standing, expected = {}, []
    for act in site.acknowledged:
        # else it stands so
        if act[3] in ("grade", "skip", "unsure") or standing.get(act[1:3], "unvote") != act[3]:
            expected.append(act)
        standing[act[1:3]] = act[3]
    rest, unsure = list(expected), list(site.unsure)
    for act in found:
        if rest and rest[0] == act:
            rest.pop(0)
        elif act in unsure:  # written, and the answer was lost
            unsure.remove(act)
        else:
            site.case.fall(
                f"the journal has an act that was not told, or twice, or at another place: {act}"
            )
            return
    if rest and not site.unsure:
        site.case.fall(f"{len(rest)} acknowledged acts are not in the journal, first {rest[0]}")


def end(site: Site) -> None:
    """Stop the server by a signal: at once, with its log clean, its port free and nothing left."""
    case, number = site.case, site.case.one_of([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    site.command.send(number)
    done = site.command.wait(20)
    log = site.log + done.out + done.err
    if "Traceback (most recent call last)" in log or "Exception in" in log:
        lines = [
            line
            for line in log.splitlines()
            if re.match(r"[\w.]+(Error|Exception|Disconnect|Interrupt)", line)
        ]
        case.fall(f"a traceback in the log of {done.line.split()[1]}: {(lines or ['?'])[-1][:150]}")
        case.did.append(log[-3000:])
    if done.late:
        case.fall(f"the server did not end in 20 s after signal {number}")
    elif done.status != (-number if number == signal.SIGKILL else 0):
        case.fall(f"the server ended with status {done.status} after signal {number}")
    case.orphans(f"the server after signal {number}")
    with socket.socket() as probe:
        probe.settimeout(2)
        if not probe.connect_ex(("127.0.0.1", site.port)):
            case.fall("the port is still answered after the server's end")
    if number != signal.SIGKILL:
        case.temporary_files(f"the server after signal {number}")
