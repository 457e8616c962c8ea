"""The journal of labelling: one line per act, only appended to, on disk before `append` returns."""

import contextlib
import csv
import itertools
import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from imgsearch_utils.grades.acts import (
    ACTS,
    ADJUDICATION,
    COMPARISONS,
    HEADER,
    REPEAT,
    REST,
    RUBRIC_VERSION,
    VOTE,
    VOTES,
    Act,
    Standing,
    checked,
    checked_act_of_pair,
    compared,
    comparison,
    grade_of,
    line_of,
    now,
    parse,
    question_of,
)
from imgsearch_utils.grades.pairs import key
from imgsearch_utils.study import AUTOMATIC
from imgsearch_utils.workspace import PUBLISHED

__all__ = [
    "ACTS",
    "ADJUDICATION",
    "AUTOMATIC",
    "COMPARISONS",
    "REPEAT",
    "REST",
    "RUBRIC_VERSION",
    "VOTE",
    "VOTES",
    "Act",
    "Journal",
    "question_of",
]
AT_ONCE = 100_000  # acts that are written by one call
PATIENCE = 60  # seconds that a writer waits for another


class Journal:
    """An append-only CSV of acts; several processes may write and read it at once.

    An undo cancels its annotator's last standing act on the pair that it names. Votes are not
    acts of labelling: they never stand, are not undone, and answer nothing; ``search_votes`` alone
    reads them. Nor are comparisons, which ``comparisons`` alone reads: an "uncompare" cancels its
    annotator's last standing answer to the question that it names, and an undo none of them. A last
    line without its line end (a power cut) never was acknowledged: the next reader or writer moves
    it to ``<journal>.torn`` and warns. The order of the lines counts, not their times. A file that
    no longer begins with what was read from it (replaced, cut, edited) is refused, read or written:
    open it anew."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = FileLock(f"{self.path}.lock", timeout=PATIENCE)
        self._read = b""  # what of the file is in what follows: whole lines
        self._seen: tuple[int, ...] = ()  # inode, bytes and times of the file when it was read
        self._acts: list[Act] = []
        self._standing = Standing()
        self._reading = threading.RLock()  # several threads of a server read it

    def check_writable(self) -> None:
        """ValueError where the journal is of a published run."""
        if self.path.with_name(PUBLISHED).exists():
            raise ValueError(
                f"{self.path}: this run is published and never written again; work on a run of "
                "your own: "
                "give another name (RUN)"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other writers waiting while one reads, compares and appends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()  # again and again by the same journal, where one holds it already
        except Timeout:
            raise RuntimeError(
                f"{self.path}: another process has been writing for {PATIENCE} s; nothing was "
                "written, "
                "try again"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    def begin(self) -> None:
        """Make the file where it is not there yet, so that a lost journal is not taken for an empty
        one.
        """
        if not self.path.exists():
            self._write([])

    def append(self, annotator: str, image1: str, image2: str, act: str, **fields) -> Act:
        """Write one act; it is on disk when this returns.

        Parameters
        ----------
        act : "grade" (with `grade`), "skip", "unsure", "undo" of the last standing act on this
            pair, or one of `VOTES`
        fields : grade, seconds, round, rubric, source, answers, as in `Act`

        Raises
        ------
        ValueError
            for an act, a grade or a pair that cannot be; nothing is written then.
        """
        act = checked_act_of_pair(Act(now(), annotator, *key(image1, image2), act, **fields))
        self._write([act])
        return act

    def compare(
        self, annotator: str, query: str, closer: str, farther: str, act: str = "closer", **fields
    ) -> Act:
        """Write which of two images is more like the query; it is on disk when this returns.

        Parameters
        ----------
        act : "closer"; "neither", where no answer can be given; or "uncompare", which undoes
            this annotator's last standing answer to the same question. The order of the two
            candidates counts for "closer" alone
        fields : seconds, round, rubric, source, as in `Act`

        Raises
        ------
        ValueError
            for three images that are not different, or another act; nothing is written then.
        """
        act = comparison(annotator, query, closer, farther, act, **fields)
        self._write([act])
        return act

    def compare_many(self, triplets: pd.DataFrame, source: str, round: int = 0) -> int:
        """Write an answer "closer" for each row, all at once or none; return how many.

        triplets : query, closer, farther, annotator
        """
        self._write(
            [
                comparison(annotator, *images, round=round, source=source)
                for *images, annotator in triplets[
                    ["query", "closer", "farther", "annotator"]
                ].itertuples(index=False, name=None)
            ]
        )
        return len(triplets)

    def append_together(
        self, annotator: str, pairs: Iterable[tuple[str, str]], act: str, **fields
    ) -> None:
        """Write one act on each of several pairs, with one time, all or none; as ``append``."""
        time = now()
        self._write(
            [
                checked_act_of_pair(Act(time, annotator, *key(*pair), act, **fields))
                for pair in pairs
            ]
        )

    def append_many(self, pairs: pd.DataFrame, annotator: str, source: str, round: int = 0) -> int:
        """Write a grade for each pair that has one, all at once or none; return how many.

        Pairs whose similarity is NaN were not asked and get no line.
        """
        graded = pairs[pairs.similarity.notna()]
        if graded.empty:
            return 0
        self._write(
            checked(
                Act(now(), annotator, *key(one, two), "grade", grade, round=round, source=source)
            )
            for one, two, grade in zip(graded.image1, graded.image2, graded.similarity)
        )
        return len(graded)

    def acts(self, start: int = 0) -> list[Act]:
        """Every act in the file, oldest first, from number `start` on; only what was appended since
        the last call is parsed, and a file that nobody touched is not read again.
        """
        with self._reading:
            if not self._read or self._state() != self._seen:
                self._read_on()
            return self._acts[start:]

    def _read_on(self) -> None:
        state, content = self._state(), self._content()
        # torn, or another process is in the middle of writing it
        if content and not content.endswith(b"\n"):
            with self.alone():
                content = self._whole_lines()
        acts, lines = [], content[len(self._read) :].split(b"\n")[:-1]
        for number, line in enumerate(lines, start=len(self._acts) + 1 + bool(self._read)):
            try:
                if number > 1:
                    acts.append(parse(line))
                elif line + b"\n" != HEADER:
                    raise ValueError
            except (ValueError, TypeError, csv.Error):
                expected = "an act" if number > 1 else "the header of a journal"
                raise ValueError(
                    f"{self.path}: line {number}: expected {expected}, got {line[:80]!r}; mend "
                    "the line or remove it"
                ) from None
        for number, act in enumerate(acts, start=len(self._acts)):
            self._standing.add(number, act)
        self._acts += acts
        self._read, self._seen = content, state

    def _state(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def standing(self) -> list[Act]:
        """The acts of labelling that no undo took back, oldest first."""
        with self._reading:
            self.acts(len(self._acts))
            return list(self._standing.acts.values())

    def standing_on(self, image1: str, image2: str) -> list[Act]:
        """Those of ``standing`` on one pair; takes no longer in a long journal."""
        with self._reading:
            self.acts(len(self._acts))
            return [*self._standing.of_pair.get(key(image1, image2), {}).values()]

    def standing_by(self, annotator: str) -> list[Act]:
        """Those of ``standing`` by one annotator."""
        with self._reading:
            self.acts(len(self._acts))
            return [*self._standing.of_annotator.get(annotator, {}).values()]

    def grade(self, image1: str, image2: str) -> tuple[float, str] | None:
        """The current grade of one pair and its source, as of ``labels``; None without one."""
        found = grade_of(self.standing_on(image1, image2))
        return found and (float(found[0]), found[1].source)

    def search_votes(self, up_to_round: int | None = None) -> dict[tuple[str, str], dict[str, Act]]:
        """By pair and annotator, the last "vote_up" or "vote_down" that was not taken back by
        "unvote".
        """
        votes: dict[tuple[str, str], dict[str, Act]] = {}
        for act in self.acts():
            if act.act in VOTES and (up_to_round is None or act.round <= up_to_round):
                votes.setdefault((act.image1, act.image2), {})[act.annotator] = act
        standing_votes = {
            pair: {who: act for who, act in by.items() if act.act != "unvote"}
            for pair, by in votes.items()
        }
        return {pair: by for pair, by in standing_votes.items() if by}

    def standing_comparisons(self) -> list[Act]:
        """The answers "closer" and "neither" that no "uncompare" took back, oldest first."""
        standing: dict[int, Act] = {}
        latest: dict[tuple[str, ...], list[int]] = {}
        for number, act in enumerate(self.acts()):
            if act.act not in COMPARISONS:
                continue
            numbers = latest.setdefault((act.annotator, *question_of(act)), [])
            if act.act != "uncompare":
                numbers.append(number)
                standing[number] = act
            elif numbers:
                del standing[numbers.pop()]
        return list(standing.values())

    def comparisons(self, up_to_round: int | None = None, neither: bool = False) -> pd.DataFrame:
        """The current comparisons, one row for each annotator and question: the last answer that
        stands.

        Parameters
        ----------
        neither : also the answers "neither", of which `closer` and `farther` say no order

        Returns
        -------
        query, closer, farther, neither, annotator, round, source, seconds, time; in the order of
            the answers. Annotators who contradict each other have a row each.
        """
        answers: dict[tuple[str, ...], Act] = {}
        for act in self.standing_comparisons():
            if up_to_round is None or act.round <= up_to_round:
                question = (act.annotator, *question_of(act))
                answers.pop(question, None)
                answers[question] = act
        columns = ["query", "closer", "farther", "neither", "annotator"]
        columns += ["round", "source", "seconds", "time"]
        rows = [
            (*compared(act), act.act == "neither", *(getattr(act, name) for name in columns[4:]))
            for act in answers.values()
            if neither or act.act == "closer"
        ]
        return pd.DataFrame(rows, columns=columns).astype({"neither": bool, "seconds": float})

    def votes(self, up_to_round: int | None = None) -> dict[tuple[str, str], dict[str, Act]]:
        """By pair and annotator, the last standing act that says something of the pair (a grade, or
        "unsure").
        """
        votes: dict[tuple[str, str], dict[str, Act]] = {}
        for act in self.standing():
            if act.act != "skip" and (up_to_round is None or act.round <= up_to_round):
                votes.setdefault((act.image1, act.image2), {})[act.annotator] = act
        return votes

    def labels(self, up_to_round: int | None = None) -> pd.DataFrame:
        """The current grades: image1, image2, similarity, round, source, annotators (how many
        count).

        An adjudication decides; else the lower median of all annotators' grades; an automatic zero
        counts only where nobody graded. Pairs come in the order in which they were first graded.
        """
        rows = []
        for pair, by_annotator in self.votes(up_to_round).items():
            if found := grade_of(by_annotator.values()):
                grade, last, annotators = found
                rows.append((*pair, grade, last.round, last.source, annotators))
        columns = ["image1", "image2", "similarity", "round", "source", "annotators"]
        return pd.DataFrame(rows, columns=columns).astype({"similarity": float})

    def _content(self) -> bytes:
        """The file's bytes; ValueError where they do not begin with what was read before, or where
        it is no file.
        """
        try:
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise ValueError(
                    f"{self.path}: expected the journal of a run, a file; move away what stands "
                    "there"
                )
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        if not content.startswith(self._read):
            raise ValueError(
                f"{self.path}: the journal was replaced, cut or edited since it was opened; "
                "nothing was "
                "written; open it anew, by starting this page or command again"
            )
        return content

    def _write(self, acts: Iterable[Act]) -> None:
        """All of the acts or none."""
        self.check_writable()
        with self.alone():
            start = len(self._whole_lines())
            with self.path.open("ab", buffering=0) as file:
                lines = itertools.chain([b"" if start else HEADER], map(line_of, acts))
                try:
                    while next_lines := b"".join(itertools.islice(lines, AT_ONCE)):
                        if file.write(next_lines) != len(next_lines):
                            raise OSError(f"{self.path}: the disk is full; nothing was written")
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(start)
                    raise
            if not start and os.name == "posix":  # the new file's name must be on disk too
                folder = os.open(self.path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)

    def _whole_lines(self) -> bytes:
        """The file's bytes after a torn last line, if any, was set aside; the lock must be held."""
        content = self._content()
        whole = content[: content.rfind(b"\n") + 1]
        if torn := content[len(whole) :]:
            aside = self.path.with_name(f"{self.path.name}.torn")
            with aside.open("ab") as file:
                file.write(torn + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.truncate(self.path, len(whole))
            warnings.warn(
                f"{self.path}: the last line was torn and never acknowledged; set aside in {aside}",
                stacklevel=2,
            )
        return whole
