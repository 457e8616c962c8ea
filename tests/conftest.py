"""Fixtures: the shared real data where it is at hand, and a workspace of one's own."""

import os
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock
from jupyter_client.provisioning import KernelProvisionerFactory

# the same examples each time; how long one takes says how busy a machine is
hypothesis.settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

if SHARED.is_dir():
    os.environ.setdefault("IMGSEARCH_DATA", str(SHARED))

# the kernels that nbval starts are forked too, as those of a run
FORKED = EntryPoint(
    "forked", "imgsearch_utils.steps.kernel:Forked", KernelProvisionerFactory.GROUP_NAME
)
KernelProvisionerFactory.instance().provisioners[FORKED.name] = FORKED
KernelProvisionerFactory.instance().default_provisioner_name = FORKED.name


@pytest.fixture
def shared_data() -> Path:
    """The folder that holds house_styles/ and grocery/."""
    folder = Path(os.environ.get("IMGSEARCH_DATA", SHARED))
    if not (folder / "house_styles").is_dir():
        pytest.skip(
            "needs the real data sets: set IMGSEARCH_DATA to the folder that holds house_styles "
            "and grocery"
        )
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty workspace: data sets and results of this test alone."""
    monkeypatch.setenv("IMGSEARCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def run_of_all(tmp_path_factory, worker_id) -> Path:
    """A workspace with the finished run of ``tiny_run.STUDY``, made once for all workers: nobody
    writes there.
    """
    from tests.tiny_run import make_run

    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "run_of_all"
    with FileLock(place.with_suffix(".lock")):
        if not (place / "made").exists():
            make_run(place)
            (place / "made").touch()
    return place


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A workspace with the study of ``tiny_study.make``: nobody writes there."""
    from tests import tiny_study

    place = tmp_path_factory.mktemp("tiny")
    tiny_study.make(place)
    return place


@pytest.fixture(scope="module")
def finished(run_of_all, tmp_path_factory) -> Path:
    """A copy of it for the tests of one file."""
    return Path(shutil.copytree(run_of_all, tmp_path_factory.mktemp("finished") / "home"))


def pytest_collection_modifyitems(items):
    """Mark the notebooks after the fourth, and start the longest files first, so that the workers
    end together.
    """
    longest = (
        "test_pipeline",
        "test_teaching",
        "test_server",
        "test_own_pictures",
        "test_tagger",
        "test_search_page",
        "test_learner",
        "test_encoders",
        "test_inputs",
        "test_learning",
        "test_integrity",  # it waits for the run that test_pipeline makes
    )
    place = {f"{name}.py": number for number, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.name > "05":
            item.add_marker(pytest.mark.slow)  # each has a kernel of its own
