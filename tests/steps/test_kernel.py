"""A kernel ends with the process that started it, also where that is killed before the kernel is loaded."""

import ctypes
import subprocess
import sys
import time

import psutil
import pytest

START = """
import asyncio, time
from imgsearch_utils.steps.kernel import Kernel
kernel = Kernel(kernel_name="python3")
asyncio.run(kernel._async_start_kernel(extra_arguments=["--log-level=ERROR"]))
print(kernel.provisioner.pid, flush=True)
time.sleep(600)
"""
CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@pytest.fixture
def adopting():
    """This process adopts the orphans of its children, as a container's or a session's first process does."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux lets a process adopt orphans")
    libc = ctypes.CDLL(None)
    libc.prctl(CHILD_SUBREAPER, 1)
    yield
    libc.prctl(CHILD_SUBREAPER, 0)


@pytest.mark.parametrize("seconds", [0, 0.4, 1.5])
def test_kernel_ends_with_its_parent(adopting, seconds):
    parent = subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True)
    kernel = psutil.Process(int(parent.stdout.readline()))
    time.sleep(seconds)
    assert kernel.is_running()
    parent.kill()
    parent.wait()
    kernel.wait(timeout=60)
