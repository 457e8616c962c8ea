"""The benchmarks of search run, on a tiny study, and measure what they say."""

import pandas as pd
import pytest

from benchmarks import query_options
from imgsearch_utils.drawn_houses import draw_house, sample_houses
from tests import tiny_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study with six more houses: a mixture is fitted to no fewer than 40 vectors."""
    home = tmp_path_factory.mktemp("home")
    for house in sample_houses(15, seed=5).to_dict("records"):
        if house["file_label"].endswith(("14.jpg", "15.jpg")):
            file = tiny_study.picture_of(home, house)
            file.parent.mkdir(parents=True, exist_ok=True)
            draw_house(house, 160).save(file)
    tiny_study.make(home)
    with tiny_study.living_in(home):
        yield home


@pytest.mark.slow  # every query is asked in a dozen ways
def test_a_plain_query_gains_nothing_and_others_are_compared_with_it(tiny, tmp_path):
    query_options.main(["--study", "tiny", "--out", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "query_options.csv")
    plain = rows[(rows.crops == 1) & (rows.expand == 0) & rows.rerank.isna()]
    kinds = 2 * len(query_options.settings())  # by the encoder, and by the head
    assert (
        len(rows) == 2 * kinds and len(plain) == 4 and set(rows.rerank.dropna()) == {"reciprocal"}
    )
    assert (plain.gain == 0).all() and rows["mean"].between(0, 1).all()
    assert (
        rows["mean"] - rows.groupby(["model", "measure"])["mean"].transform("first") - rows.gain
    ).abs().max() < 2e-5
