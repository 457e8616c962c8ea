"""Vectors to compare on: drawn ones are like the given, and the files of ann-benchmarks are written
and read.
"""

import numpy as np
import pytest

from imgsearch_utils import indexes
from tests.indexes.clusters import clustered

VECTORS, QUERIES = clustered(1200), clustered(60, seed=1)


def test_drawn_vectors_are_as_many_as_asked_and_like_the_given():
    drawn = indexes.drawn_like(VECTORS, 3000, seed=1)
    assert drawn.shape == (3000, 32) and drawn.dtype == np.float32
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(1, abs=1e-5)
    assert (drawn == indexes.drawn_like(VECTORS, 3000, seed=1)).all()
    assert not (drawn == indexes.drawn_like(VECTORS, 3000, seed=2)).all()

    def spread(vectors):  # of all cosines, and of the nearest neighbour's
        cosines = vectors[:500] @ vectors.T
        np.fill_diagonal(cosines, -1)
        return np.array([cosines.mean(), cosines.std(), np.median(cosines.max(axis=1))])

    assert spread(drawn[:1200]) == pytest.approx(spread(VECTORS), abs=0.05)
    with pytest.raises(ValueError, match="at least 40 vectors"):
        indexes.drawn_like(VECTORS[:39], 10)


def test_ann_benchmarks_files_are_written_and_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "houses-32-angular.hdf5"
    indexes.write_hdf5(path, VECTORS, QUERIES, k=20)
    with h5py.File(path) as file:
        assert {name: values.shape for name, values in file.items()} == {
            "train": (1200, 32),
            "test": (60, 32),
            "neighbors": (60, 20),
            "distances": (60, 20),
        }
        assert file.attrs["distance"] == "angular" and file.attrs["dimension"] == 32
        truth = np.argsort(-QUERIES @ VECTORS.T, axis=1)[:, :20]
        assert (file["neighbors"][:] == truth).mean() > 0.99
        cosines = np.take_along_axis(QUERIES @ VECTORS.T, file["neighbors"][:], axis=1)
        assert file["distances"][:] == pytest.approx(1 - cosines, abs=1e-5)
        assert (np.diff(file["distances"][:]) >= 0).all()
    vectors, queries = indexes.read_hdf5(path)
    assert vectors == pytest.approx(VECTORS, abs=1e-6) and queries == pytest.approx(
        QUERIES, abs=1e-6
    )


@pytest.mark.parametrize("fault", ["other", "euclidean", "no test"])
def test_other_files_are_refused(tmp_path, fault):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "file.hdf5"
    if fault == "other":
        path.write_text("train,test")
    else:
        with h5py.File(path, "w") as file:
            file["train"] = VECTORS
            file.attrs["distance"] = fault
            if fault != "no test":
                file["test"] = QUERIES
    with pytest.raises(
        ValueError, match="euclidean distance" if fault == "euclidean" else "is not an"
    ) as refusal:
        indexes.read_hdf5(path)
    assert "\n" not in str(refusal.value)
