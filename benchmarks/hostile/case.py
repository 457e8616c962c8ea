"""One case: its random numbers, its workspace, the commands it starts, and what it saw fall."""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.hostile import study
from benchmarks.hostile.commands import MEMORY_MB, SECONDS, Command, Disturbance, Done, left_behind
from benchmarks.hostile.study import ASKED, JOURNAL, STUDY, TREES, WRITTEN, Base
from imgsearch_utils.workspace.registry import Registry

ATTACKS = Registry("attack")
LIBRARIES = ("tmp/.ses",)  # onnxruntime keeps one file of this name for all processes
LINE = 1500  # characters of a message that a person would still read


@dataclass(frozen=True)
class Attack:
    """A kind of attack.

    run : gets a ``Case``; what it sees fall it hands to ``case.fall``
    share : of the cases of a whole run
    limit : seconds that one case may take
    """

    run: Callable[["Case"], None]
    share: float
    limit: float

    @property
    def what(self) -> str:
        return self.run.__doc__.split("\n")[0].rstrip(".")


def attack(name: str, share: float, limit: float = 300.0):
    """Register a function (case) as an attack."""
    return lambda run: ATTACKS.register(name)(Attack(run, share, limit))


@dataclass
class Case:
    """What an attack gets.

    rng : random numbers that derive from seed, attack and number alone
    folder : of this case alone; `home` in it is its workspace once ``copy`` made it
    """

    seed: int
    attack: str
    number: int
    base: Base
    folder: Path
    falls: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.rng = np.random.default_rng([self.seed, zlib.crc32(self.attack.encode()), self.number])
        self.home = self.folder / "home"

    def fall(self, what: str) -> None:
        """Say what fell."""
        self.falls.append(what)

    def copy(self) -> Path:
        """Make this case's workspace."""
        return study.copy(self.base, self.home)

    def one_of(self, things):
        """A random one, as it is (numpy would make strings of tuples)."""
        things = list(things)
        return things[self.rng.integers(len(things))]

    def start(
        self, *arguments, disturbed: Disturbance | None = None, fresh: bool = False
    ) -> Command:
        """Start a command in the workspace."""
        # no shell can hand on a NUL
        arguments = [str(argument).replace("\0", "") for argument in arguments]
        self.did.append(f"imgsearch {' '.join(map(repr, arguments))} {disturbed or ''}")
        return Command(self.home, arguments, fresh, disturbed)

    def run(
        self,
        *arguments,
        disturbed: Disturbance | None = None,
        fresh: bool = False,
        limit: float = SECONDS,
    ) -> Done:
        """Run a command to its end and judge how it ended."""
        done = self.start(*arguments, disturbed=disturbed, fresh=fresh).wait(limit)
        self.judge(done, disturbed)
        return done

    def judge(self, done: Done, disturbed: Disturbance | None = None) -> None:
        """What no command may ever do: a traceback, another exit status, an unclear refusal,
        slowness, greed.
        """
        own = -disturbed.signal if disturbed and disturbed.signal else 0
        interrupted = own and done.status in (own, 130, 1, 128 - own)
        # Python itself starts
        too_early = interrupted and "imgsearch_utils" not in done.err.replace(done.line, "")
        if "Traceback (most recent call last)" in done.err + done.out and not too_early:
            self.fall(f"traceback of {_shape(done.line)}: {done.last[:200]}")
            self.did.append(done.err[-3000:])
        elif done.late:
            self.fall(
                f"{_shape(done.line)} took longer than its limit and was ended after "
                f"{done.seconds:.0f} s"
            )
        elif done.status in (0, 2, 77) or interrupted:
            pass
        elif done.status != 1:
            self.fall(f"{_shape(done.line)} ended with status {done.status}: {done.last[:200]}")
        elif done.line.startswith("imgsearch check") and done.out.strip():
            pass  # it says on stdout what it found
        elif not done.last.startswith(("imgsearch: ", "Aborted")) or len(done.last) > LINE:
            self.fall(f"{_shape(done.line)} refused without one clear line: {done.err[-200:]!r}")
        if done.rss > MEMORY_MB:
            self.fall(f"{_shape(done.line)} took {done.rss:.0f} MB")

    def orphans(self, after: str) -> None:
        """Nothing may run any longer."""
        for line in left_behind():
            self.fall(f"a process left behind by {after}: {line}")

    def temporary_files(self, after: str) -> None:
        """Nothing may lie in the folder of temporary files."""
        own = self.folder / "own"
        left = sorted(path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file())
        if left := [
            path for path in left if path not in LIBRARIES and not path.startswith("ipython/")
        ]:
            self.fall(f"temporary files left behind by {after}: {', '.join(left)[:200]}")

    def answer_of(self, name: str, done: Done) -> str:
        """What a command answered: what it printed, or the file it wrote."""
        if name in WRITTEN:
            file = self.home / WRITTEN[name]
            return file.read_text("utf-8", "replace") if file.is_file() else ""
        return done.out

    def ask(self, name: str, must: bool = False) -> Done:
        """Ask one of the commands; an answer must be the undisturbed one, and with `must` there
        must be one.
        """
        if name in WRITTEN:
            (self.home / WRITTEN[name]).unlink(missing_ok=True)
        done = self.run(*ASKED[name])
        if done.status == 0:
            if wrong := study.answer_is_wrong(self.base, name, self.answer_of(name, done)):
                self.fall(f"wrong result with exit 0: {name}: {wrong}")
        elif must and not done.late:
            self.fall(f"{name} still fails afterwards: {done.last[:200]}")
        return done

    def all_is_well(self, imported: bool = False) -> None:
        """The workspace answers as if nothing had happened, its journal is exact, and nothing
        unfinished lies about.
        """
        for name in (
            self.one_of(["search", "search_head"]),
            self.one_of(["score", "score", "score", "classify"]),
        ):
            self.ask(name, must=True)
        self.journal_is_exact(imported)
        if left := study.unfinished(self.home):
            self.fall(f"left unfinished: {', '.join(left)[:200]}")
        self.orphans("these commands")

    def journal_is_exact(self, imported: bool = False) -> None:
        """Every act of the undisturbed journal, each once, unchanged; of imported ones the time may
        differ.
        """
        found = (self.home / JOURNAL).read_bytes()
        if not found.startswith(self.base.journal):
            self.fall("the journal's acts were changed or lost")
            return
        right = (
            self.base.answers["import"].encode("utf-8", "surrogateescape")
            if imported
            else self.base.journal
        )
        own, expected = (
            sorted(
                re.sub(rb"^[^,]*,", b"", line)
                for line in text[len(self.base.journal) :].splitlines()
            )
            for text in (found, right)
        )
        if own != expected:
            self.fall(
                f"the journal has {len(own)} new acts ({len(set(own))} different), expected "
                f"{len(expected)}"
            )


def _shape(line: str) -> str:
    return " ".join(part for part in line.split()[:3])[:60]


__all__ = ["ASKED", "ATTACKS", "JOURNAL", "STUDY", "TREES", "Attack", "Case", "attack"]
