"""The disk is full, or a file may not grow, on the way of a command; then there is room again."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.hostile.case import ASKED, Case, Skipped, attack
from benchmarks.hostile.commands import Disturbance
from benchmarks.hostile.kills import give_work
from benchmarks.hostile.study import WRITTEN


def filled(case: Case, name: str) -> None:
    """Ask while there is no room, then with room: refused in a line or right, and right."""
    before = (case.home / WRITTEN[name]).read_bytes() if name in WRITTEN else b""
    limit = int(10 ** case.rng.uniform(0, 5.3))
    with contextlib.nullcontext() if case.attack == "file_limit" else no_room(case, limit):
        done = case.run(
            *ASKED[name],
            disturbed=Disturbance(file_bytes=limit) if case.attack == "file_limit" else None,
        )
        if (
            done.status == 0
            and name in WRITTEN
            and case.answer_of(name, done) != case.base.answers[name]
        ):
            case.fall(f"exit 0 on a full disk, and {WRITTEN[name]} is not whole")
    if done.status and name in WRITTEN and (case.home / WRITTEN[name]).read_bytes() != before:
        case.fall(f"a failed {name} on a full disk changed the file that stood there")
    case.orphans(name)
    case.ask(name, must=True)
    if name != "embed":
        case.ask("embed", must=True)
    case.all_is_well(imported=name == "import")


@attack("file_limit", share=0.08)
def file_limit(case: Case) -> None:
    """No file may grow beyond a random size (a quota) during a command, then it may."""
    case.copy()
    name = case.one_of(ASKED)
    give_work(case, name)
    if name in WRITTEN:
        (case.home / WRITTEN[name]).write_text("what a user had here before\n")
    filled(case, name)


@contextlib.contextmanager
def no_room(case: Case, left: int):
    """Fill the disk of the workspace but for `left` bytes."""
    room = os.statvfs(case.home)
    with (case.home.parent / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, max(1, room.f_bavail * room.f_frsize - left))
    yield
    (case.home.parent / "filler").unlink()


@attack("disk_full", share=0.08)
def disk_full(case: Case) -> None:
    """A small disk of its own (tmpfs) is full but for a random rest during a command, then it has
    room.
    """
    mount = case.folder / "disk"
    mount.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        raise Skipped("mounting a small disk needs root")
    line = ["mount", "-t", "tmpfs", "-o", "size=64m", "hostile", str(mount)]
    if (made := subprocess.run(line, capture_output=True, text=True)).returncode:
        raise Skipped(f"mounting a small disk is not allowed here: {made.stderr.strip()}")
    try:
        case.home = Path(mount / "home")
        case.copy()
        name = case.one_of(ASKED)
        give_work(case, name)
        if name in WRITTEN:
            (case.home / WRITTEN[name]).write_text("what a user had here before\n")
        filled(case, name)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
