"""The kernel of a notebook that is executed headless: it ends with the process that started it, however that ended."""

import os
import sys
import threading
import time

from jupyter_client import AsyncKernelManager

LOOK = 0.5  # seconds between two looks whether the parent is there


class Kernel(AsyncKernelManager):
    """Starts this file in place of ipykernel alone.

    ipykernel looks for its parent too, but not before it is loaded: one whose parent is killed in its first second
    would stay, where something else than process 1 adopts it.
    """

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [sys.executable, "-m", __name__, "-f", os.path.realpath(self.connection_file), *(extra_arguments or [])]


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)


if __name__ == "__main__":
    if os.name == "posix" and "JPY_PARENT_PID" in os.environ:
        threading.Thread(target=_end_with, args=[int(os.environ["JPY_PARENT_PID"])], daemon=True).start()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
