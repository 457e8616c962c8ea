"""A kernel, and the process that it is forked off, end with the process that asked for it, however
early.
"""

import ctypes
import os
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
LOAD = """
import time
from imgsearch_utils.steps.kernel import prepare
prepare()
print("loading", flush=True)
time.sleep(600)
"""
SCRIPT = """
import nbformat
from nbclient import NotebookClient
from imgsearch_utils.steps.kernel import Kernel
print("began")
code = '''import os, matplotlib, pandas
print(matplotlib.rcParams["backend"], pandas.get_option("display.max_columns"), os.getpid() == os.getsid(0))'''
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
NotebookClient(notebook, kernel_manager_class=Kernel).execute()
print(notebook.cells[0].outputs[0].text, end="")
import sys
if not any(name.startswith("multiprocessing.popen_") for name in sys.modules):
    print("what was loaded while the kernel was started is loaded no more")
print("ended")
"""
pytestmark = pytest.mark.kill  # each starts processes that load all libraries
CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


@pytest.fixture
def adopting():
    """This process adopts the orphans of its children, as a container's or a session's first
    process does.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux lets a process adopt orphans")
    libc = ctypes.CDLL(None)
    libc.prctl(CHILD_SUBREAPER, 1)
    yield
    libc.prctl(CHILD_SUBREAPER, 0)


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def wait_for_the_end_of(*processes: psutil.Process) -> None:
    latest = time.monotonic() + 120
    while not all(map(ended, processes)):
        assert time.monotonic() < latest, processes
        time.sleep(0.05)


@pytest.mark.parametrize("seconds", [0, 1])
def test_kernel_ends_with_its_parent(adopting, seconds):
    parent = subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True)
    kernel = psutil.Process(int(parent.stdout.readline()))
    family = [kernel, *psutil.Process(parent.pid).children(recursive=True)]
    time.sleep(seconds)
    assert not any(map(ended, family))
    parent.kill()
    parent.wait()
    wait_for_the_end_of(*family)


def test_what_loads_the_libraries_ends_with_its_parent_before_there_is_a_kernel(adopting):
    parent = subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "loading\n"
    family = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert family
    wait_for_the_end_of(*family)


def test_where_no_socket_finds_room_a_kernel_is_started_anew(tmp_path):
    far = tmp_path / ("x" * 80)
    far.mkdir()
    script = SCRIPT.replace(
        'print("ended")', "from imgsearch_utils.steps import kernel; print(kernel.FORKS)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"TMPDIR": str(far)},
    )
    assert done.stdout.splitlines() == [
        "began",
        "module://matplotlib_inline.backend_inline 20 True",
        "False",
    ]


def test_a_script_is_not_run_again_in_its_kernels_which_show_tables_and_figures_as_notebooks_do(
    tmp_path,
):
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT)
    lines = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120
    ).stdout.splitlines()
    assert lines == ["began", "module://matplotlib_inline.backend_inline 20 True", "ended"]
