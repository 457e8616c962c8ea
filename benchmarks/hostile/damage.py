"""Random damage to the files of a finished run: refused in one line, or the answer is right all the
same.
"""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.hostile import study
from benchmarks.hostile.case import ASKED, JOURNAL, STUDY, TREES, Case, attack
from imgsearch_utils.workspace.registry import Registry

DAMAGES = Registry("damage")  # each (path, rng): does something to a file


@DAMAGES.register("truncate")
def truncate(path: Path, rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content) + 1)])


@DAMAGES.register("flip")
def flip(path: Path, rng) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


@DAMAGES.register("delete")
def delete(path: Path, rng) -> None:
    path.unlink()


@DAMAGES.register("folder")
def folder(path: Path, rng) -> None:
    """A directory stands where the file was."""
    path.unlink()
    path.mkdir()


@DAMAGES.register("zeros")
def zeros(path: Path, rng) -> None:
    """As after a power cut: the length is right, the content is not."""
    path.write_bytes(bytes(path.stat().st_size))


@DAMAGES.register("empty_json")
def empty_json(path: Path, rng) -> None:
    path.write_text(["{}", "[]", "null", "3", '""'][rng.integers(5)])


@DAMAGES.register("lost_key")
def lost_key(path: Path, rng) -> None:
    """A JSON file lacks one of its keys, or has another type there."""
    values = None
    with contextlib.suppress(ValueError):  # damaged before
        values = json.loads(path.read_text()) if path.suffix == ".json" else None
    if not isinstance(values, dict) or not values:
        return flip(path, rng)
    name = sorted(values)[rng.integers(len(values))]
    if rng.random() < 0.5:
        del values[name]
    else:
        values[name] = [None, [], {}, "x", -1, 1e300][rng.integers(6)]
    path.write_text(json.dumps(values))


@DAMAGES.register("swap_lines")
def swap_lines(path: Path, rng) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) > 2:
        one, two = rng.choice(np.arange(1, len(lines)), 2, replace=False)
        lines[one], lines[two] = lines[two], lines[one]
    path.write_bytes(b"".join(lines))


@DAMAGES.register("reverse")
def reverse(path: Path, rng) -> None:
    """The rows of a .npy in reversed order; another file's bytes."""
    if path.suffix != ".npy":
        return path.write_bytes(path.read_bytes()[::-1])
    np.save(path, np.ascontiguousarray(np.load(path)[::-1]))


@DAMAGES.register("other_file")
def other_file(path: Path, rng) -> None:
    """The content of a neighbour in the same folder."""
    others = sorted(
        p for p in path.parent.iterdir() if p.is_file() and p != path and p.stat().st_size
    )
    if others:
        shutil.copyfile(others[rng.integers(len(others))], path)


def targets(home: Path) -> list[Path]:
    """The files of the run that something reads, in a fixed order; a name with a dot first is a
    note that may go.
    """
    return sorted(
        p
        for tree in TREES
        for p in (home / tree / STUDY).rglob("*")
        if p.is_file()
        and not p.name.startswith(".")
        and p.suffix in (".csv", ".json", ".npy", ".index", ".safetensors", ".html")
    )


def damage_some(case: Case) -> list[Path]:
    """One or two random files damaged; returns those whose content is another now."""
    damaged = []
    for _ in range(1 + (case.rng.random() < 0.2)):
        there = targets(case.home)
        # a folder of few files is met as often
        folder_ = case.one_of(sorted({path.parent for path in there}))
        path, kind = (
            case.one_of([path for path in there if path.parent == folder_]),
            case.one_of(DAMAGES),
        )
        before = content_of(path)
        DAMAGES[kind](path, case.rng)
        case.did.append(f"{kind} {path.relative_to(case.home)}")
        if content_of(path) != before:
            damaged.append(path)
    return damaged


def content_of(path: Path) -> tuple:
    """What a file says: its bytes, or the values of JSON, where the order of the lines says
    nothing.
    """
    if not path.is_file():
        return ()
    content = path.read_bytes()
    with contextlib.suppress(ValueError):
        if path.suffix == ".json":
            return (json.dumps(json.loads(content), sort_keys=True),)
    return (content,)


@attack("damage", share=0.16)
def damage(case: Case) -> None:
    """Files of a run truncated, flipped, deleted, swapped, emptied: refused in a line, or answered
    right.
    """
    case.copy()
    damaged = damage_some(case)
    hurt = {path.relative_to(case.home).as_posix() for path in damaged}
    questions = ["search", "search_head", "score", "classify"]
    if JOURNAL not in hurt:
        questions += ["export", "summary"]
    for name in case.rng.permutation(questions):
        case.ask(str(name))
    if JOURNAL in hurt:
        for name in ("export", "summary"):
            case.run(*ASKED[name])
    if damaged:
        checked = case.run("check", "--study", STUDY)
        if checked.status == 0:
            case.fall(f"check says that all is well with a damaged {case.did[0]}")
    if case.rng.random() < 0.3:
        case.run(*ASKED["embed"])
        case.ask("search")
    case.orphans("these commands")


@attack("damage_run", share=0.04, limit=1800)
def damage_run(case: Case) -> None:
    """The same, then `run`: it refuses in a line, leaves a sound run alone, or makes again what
    equals the first.
    """
    case.copy()
    damaged = damage_some(case)
    done = case.run("run", STUDY, limit=900)
    case.orphans("run")
    if done.status:
        return
    for path in damaged:
        if not path.is_file() and path.suffix != ".json":
            case.fall(
                f"run ends with exit 0 and {path.relative_to(case.home)} is still gone "
                f"({case.did[0]})"
            )
    for path, right in case.base.evidence.items():
        if (case.home / path).is_file() and (case.home / path).read_bytes() != right:
            case.fall(f"run ends with exit 0 and {path} is not the undisturbed one ({case.did[0]})")
    if study.acts_of(case.home) != study.acts_of(case.base.home):
        case.fall(
            f"run ends with exit 0 and the journal is not the undisturbed one ({case.did[0]})"
        )
