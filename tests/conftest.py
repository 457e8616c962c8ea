"""Fixtures: the shared real data where it is at hand, and a workspace of one's own."""

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import hypothesis
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory

# how long an example takes says how busy a machine is
hypothesis.settings.register_profile("untimed", deadline=None,
                                     suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

if SHARED.is_dir():
    os.environ.setdefault("IMGSEARCH_DATA", str(SHARED))

# the kernels that nbval starts are forked too, as those of a run
FORKED = EntryPoint("forked", "imgsearch_utils.steps.kernel:Forked", KernelProvisionerFactory.GROUP_NAME)
KernelProvisionerFactory.instance().provisioners[FORKED.name] = FORKED
KernelProvisionerFactory.instance().default_provisioner_name = FORKED.name


@pytest.fixture
def shared_data() -> Path:
    """The folder that holds house_styles/ and grocery/."""
    folder = Path(os.environ.get("IMGSEARCH_DATA", SHARED))
    if not (folder / "house_styles").is_dir():
        pytest.skip("needs the real data sets: set IMGSEARCH_DATA to the folder that holds house_styles and grocery")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty workspace: data sets and results of this test alone."""
    monkeypatch.setenv("IMGSEARCH_HOME", str(tmp_path))
    return tmp_path


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that the workers end together."""
    longest = ("test_integrity", "test_pipeline", "test_teaching", "test_own_pictures", "test_benchmark_hostile",
               "test_finetuning", "test_tagger", "test_search_page", "test_server", "test_inputs", "test_learning",
               "test_encoders")
    place = {f"{name}.py": number for number, name in enumerate(longest)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
