"""Commands of the product in processes of their own: started, disturbed, waited for and measured.

A command runs in a fork of this process, which has imported all libraries already: tens of cases a
second instead of one in five seconds. Its file descriptors, signals, limits and exit status are its
own, as for a user. `fresh` starts a new Python instead, as the shell would."""

import atexit
import contextlib
import ctypes
import fcntl
import os
import resource
import runpy
import select
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 120.0  # that a command may take; `run` gets more
# resident, that a command may use; importing torch and loading a network takes 700
MEMORY_MB = 2500
# bytes of addresses: what wants more gets a MemoryError before the machine suffers
ADDRESSES = 12 << 30
PIPE = 1 << 20  # bytes of output that are kept
ACCEPTED = 77  # exit status of a command that `stop_at` ended
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclass
class Disturbance:
    """What happens to a command on its way.

    signal : sent at `seconds` after its start, or just before its `event`-th change of a file (1 is
        the first)
    file_bytes : no file may grow beyond this (RLIMIT_FSIZE, as a quota or a full disk would have
        it)
    stop_at : an audit event, as ``subprocess.Popen``, at which the command ends with the status
        `ACCEPTED`
    count : nothing happens; the last line on stderr says how many changes of files there were
    """

    signal: int = 0
    seconds: float | None = None
    event: int | None = None
    file_bytes: int | None = None
    stop_at: str = ""
    count: bool = False


@dataclass
class Done:
    """How a command ended: `status` is negative for a signal, as in ``subprocess``; `rss` in MB."""

    line: str
    status: int
    out: str
    err: str
    seconds: float
    rss: float
    late: bool = False
    left: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


class Command:
    """A running command of the product."""

    def __init__(
        self, home: Path, arguments, fresh: bool = False, disturbed: Disturbance | None = None
    ):
        self.home, self.disturbed = Path(home), disturbed or Disturbance()
        self.line = " ".join(["imgsearch", *map(str, arguments)])
        self._pipes = [os.pipe(), os.pipe()]
        for end, _ in self._pipes:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)
        sys.stdout.flush()
        sys.stderr.flush()
        self._began = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            _become(
                self.home,
                list(map(str, arguments)),
                fresh,
                self.disturbed,
                [end for _, end in self._pipes],
            )
        for _, end in self._pipes:
            os.close(end)
        self._descriptor = os.pidfd_open(self.pid)

    def send(self, number: int) -> None:
        """Send a signal; SIGINT goes to the whole group, as Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGINT else os.kill)(self.pid, number)

    def ended(self, seconds: float) -> bool:
        """Wait so long at most; whether it has ended."""
        return bool(select.select([self._descriptor], [], [], max(0, seconds))[0])

    def read(self) -> tuple[str, str]:
        """What it has printed since the last call: stdout, stderr."""
        texts = []
        for end, _ in self._pipes:
            os.set_blocking(end, False)
            parts = []
            with contextlib.suppress(BlockingIOError):
                while part := os.read(end, PIPE):
                    parts.append(part)
            texts.append(b"".join(parts).decode("utf-8", "replace"))
        return tuple(texts)

    def wait(self, limit: float = SECONDS) -> Done:
        """Wait for its end, disturbed as was asked; one that takes longer than `limit` seconds is
        killed.
        """
        if self.disturbed.seconds is not None and not self.ended(self.disturbed.seconds):
            self.send(self.disturbed.signal)
        late = not self.ended(limit)
        if late:
            kill_tree(self.pid)
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._descriptor)
        out, err = self.read()
        for end, _ in self._pipes:
            os.close(end)
        return Done(
            self.line,
            os.waitstatus_to_exitcode(status),
            out,
            err,
            time.monotonic() - self._began,
            usage.ru_maxrss / 1024,
            late,
        )


def _become(
    home: Path, arguments: list[str], fresh: bool, disturbed: Disturbance, ends: list[int]
) -> None:
    """In the forked process: be the command, and end."""
    status = 1
    try:
        os.setsid()
        for number, end in enumerate(ends, start=1):
            os.dup2(end, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(3, 256)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGPIPE else signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if disturbed.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disturbed.file_bytes, disturbed.file_bytes))
        os.environ.update(surroundings(home))
        os.chdir(home)
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "imgsearch_utils.cli", *arguments])
        status = _in_this_process(arguments, disturbed)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def surroundings(home: Path) -> dict[str, str]:
    """The environment of a command: a workspace, a folder of temporary files and a Jupyter of its
    own.
    """
    own = home.parent / "own"
    for name in ("tmp", "jupyter", "ipython", "state"):
        (own / name).mkdir(parents=True, exist_ok=True)
    return {
        "IMGSEARCH_HOME": str(home),
        "TMPDIR": str(own / "tmp"),
        "JUPYTER_RUNTIME_DIR": str(own / "jupyter"),
        "IPYTHONDIR": str(own / "ipython"),
        "XDG_STATE_HOME": str(own / "state"),
        "PYTHONPATH": str(REPOSITORY),
        "MPLBACKEND": "Agg",
    }


def _in_this_process(arguments: list[str], disturbed: Disturbance) -> int:
    import tempfile

    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(n, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for n in (1, 2)
    )
    sys.argv, tempfile.tempdir = ["imgsearch", *arguments], None
    atexit._clear()  # what the parent would tidy is the parent's
    changes = []
    if disturbed.event is not None or disturbed.stop_at or disturbed.count:
        sys.addaudithook(_watch(disturbed, changes))
    try:
        try:
            runpy.run_module("imgsearch_utils.cli", run_name="__main__")  # as ``python -m`` does
            status = 0
        except SystemExit as stopped:
            status = (
                stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
            )
            if isinstance(stopped.code, str):
                print(stopped.code, file=sys.stderr)
    except (
        KeyboardInterrupt
    ) as stopped:  # before or after the command's own code: Python's, as in its start
        if any(
            "imgsearch_utils" in frame.filename
            for frame in traceback.extract_tb(stopped.__traceback__)
        ):
            traceback.print_exc()
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    if disturbed.count:
        print(len(changes), file=sys.stderr)
    return status


def _watch(disturbed: Disturbance, changes: list):
    """An audit hook that ends this process at an event, or sends it a signal just before its n-th
    change of a file.
    """

    def hook(event: str, arguments: tuple) -> None:
        if disturbed.stop_at and event == disturbed.stop_at:
            os._exit(ACCEPTED)
        if event == "open":
            path, _, flags = arguments
            if (
                not isinstance(flags, int)
                or not flags & WRITES
                or str(path).startswith(("/dev/", "/proc/"))
            ):
                return
        elif event not in CHANGES:
            return
        changes.append(event)
        if len(changes) == disturbed.event:
            os.kill(os.getpid(), disturbed.signal)

    return hook


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, so that they can be found."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def kill_tree(pid: int) -> None:
    """Kill a process with all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def left_behind(patience: float = 15.0) -> list[str]:
    """Processes below this one that do not end by themselves in so many seconds, killed now: their
    commands.
    """
    deadline, pause = time.monotonic() + patience, 0.01
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        alive = psutil.Process().children(recursive=True)
        if not alive or time.monotonic() > deadline:
            break
        psutil.wait_procs(alive, pause)
        pause = min(0.5, 2 * pause)
    lines = []
    for each in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            lines.append(" ".join(each.cmdline())[:200])
            each.kill()
    return lines
