"""The kernels of notebooks that are executed headless.

A process that has loaded the libraries already is kept at hand, and each kernel is forked off it
(the standard library's ``forkserver``): a run of seven notebooks loads them once. Where the system
cannot fork, each kernel is started anew. A kernel ends with the process that asked for it, however
that ended."""

import atexit
import contextlib
import multiprocessing
import os
import sys
import tempfile
import threading
import types
from multiprocessing import forkserver
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

LONGEST = 70  # of the temporary folder's path, in which a socket's name must find room
# elsewhere than on Linux some libraries cannot be used after a fork
FORKS = sys.platform == "linux" and len(os.fsencode(tempfile.gettempdir())) <= LONGEST
CONTEXT = multiprocessing.get_context("forkserver" if FORKS else "spawn")
LIBRARIES = "imgsearch_utils.steps.kernel_libraries"


def prepare() -> None:
    """Begin to load the libraries, and do not wait for it."""
    if FORKS:
        forkserver.set_forkserver_preload([LIBRARIES])
        with _without_main():
            forkserver.ensure_running()


@contextlib.contextmanager
def _without_main():
    """While a process is started, so that it does not run this one's script again, as
    multiprocessing would.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class KernelProcess(CONTEXT.Process):
    """An ipykernel in a process group of its own, with what jupyter_client uses of
    ``subprocess.Popen``.
    """

    stdin = stdout = stderr = None

    def __init__(self, argv: list[str], cwd: str | None, env: dict[str, str]):
        super().__init__()
        self.argv, self.cwd, self.env = argv, cwd, env

    def run(self) -> None:
        if hasattr(os, "setsid"):
            os.setsid()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.environ.clear()
        # ipykernel ends with that one too
        os.environ.update(self.env, JPY_PARENT_PID=str(os.getppid()))
        if self.cwd:
            os.chdir(self.cwd)
        sys.argv = ["ipykernel", *self.argv]
        from ipykernel.kernelapp import launch_new_instance

        try:
            launch_new_instance()
        finally:
            atexit._run_exitfuncs()  # multiprocessing leaves them out

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


class Forked(LocalProvisioner):
    """Starts an ipykernel as a ``KernelProcess``."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        prepare()
        self.process = KernelProcess(
            cmd[cmd.index("-f") :], kwargs.get("cwd"), dict(kwargs.get("env") or os.environ)
        )
        with _without_main():
            self.process.start()
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd")
        return self.connection_info


class Kernel(AsyncKernelManager):
    """A kernel manager whose kernels are ``Forked``."""

    async def _async_pre_start_kernel(self, **kwargs: Any):
        if self.provisioner is None:
            self.kernel_id = self.kernel_id or kwargs.get("kernel_id", "")
            self.provisioner = Forked(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kwargs)
