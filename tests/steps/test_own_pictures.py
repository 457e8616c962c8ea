"""Anyone's folder through the whole pipeline: duplicates, broken files and odd formats without hand
work.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgsearch_utils.drawn_houses import draw_house, sample_houses
from tests.tiny_study import command

pytestmark = pytest.mark.slow  # whole runs, or their first notebook
SMALL = [
    argument
    for setting in (
        "rounds=1",
        "asked_per_round=20",
        "zeros_per_round=20",
        "dev_asked=12",
        "test_asked=12",
        "max_per_image=20",
        "head.epochs=2",
        "sizes=[]",
        "indexes=[{name: exact}]",
    )
    for argument in ("--set", setting)
]


def messy_folder(folder: Path) -> list[str]:
    """Class folders with twins, two odd formats, odd names; return the names of the three broken
    files.
    """
    houses = sample_houses(16, seed=5)
    for house in houses.to_dict("records"):
        place = folder / house["house_type"]
        place.mkdir(parents=True, exist_ok=True)
        draw_house(house).save(place / house["file_label"], quality=92)
    farm, modern, rustic = (folder / name for name in ("farmhouse", "modern", "rustic"))
    (farm / 'an exact "twin", é.jpg').write_bytes((farm / "farmhouse_0001.jpg").read_bytes())
    with Image.open(modern / "modern_0001.jpg") as picture:
        picture.resize((200, 200)).save(modern / "modern_0001 smaller.webp", quality=70)
        picture.convert("CMYK").save(modern / "print.jpg", quality=92)
        grey = np.asarray(picture.convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(rustic / "deep.png")
    (farm / "empty.jpg").write_bytes(b"")
    (modern / "torn.jpg").write_bytes((modern / "modern_0002.jpg").read_bytes()[:2000])
    (rustic / "text.png").write_text("not a picture")
    rustic.rename(folder / "ran$ch_{$")  # a name that figures must draw as it stands
    return ["farmhouse/empty.jpg", "modern/torn.jpg", "ran$ch_{$/text.png"]


def test_messy_class_folders_run_to_a_report_that_names_what_was_set_aside(tmp_path):
    broken = messy_folder(tmp_path / "pictures")
    blind = [
        (f"farmhouse/farmhouse_{n:04d}.jpg", f"farmhouse/farmhouse_{n + 1:04d}.jpg", n % 4)
        for n in range(1, 12)
    ]
    pd.DataFrame(blind, columns=["image1", "image2", "similarity"]).to_csv(
        tmp_path / "pictures/blind.csv", index=False
    )
    assert command(tmp_path, "new", "tested", tmp_path / "pictures").returncode == 0
    process = command(tmp_path, "run", "tested", *SMALL, "--set", "blind_test=blind.csv")
    assert process.returncode == 0, process.stderr
    own = pd.read_json(tmp_path / "active_learning_results/tested/ann_comparison/own_protocol.json")
    assert (
        own.model.tolist() == ["encoder", "head"]
        and (own.pairs == 11).all()
        and own.accuracy.between(0, 1).all()
    )
    assert "The study's own test" in (tmp_path / "report_results/tested/index.html").read_text()
    results = tmp_path / "active_learning_results/tested/tagging"
    assert sorted(pd.read_csv(results / "set_aside.csv").image) == broken
    twins = pd.read_csv(results / "duplicates.csv")
    together = {frozenset(pair) for pair in zip(twins.image1, twins.image2)}
    assert (
        frozenset(["farmhouse/farmhouse_0001.jpg", 'farmhouse/an exact "twin", é.jpg']) in together
    )
    images = pd.read_csv(tmp_path / "active_learning_labels/tested/images.csv").set_index("image")
    for pair in together:
        assert images.side[list(pair)].nunique() == 1, "twins stand on one side"
    page = (tmp_path / "report_results/tested/index.html").read_text()
    assert "files seen = " in page and "left out: 3 not a readable picture" in page
    assert "3 pictures were set aside" in page and all(name in page for name in broken)
    assert "&#34;twin&#34;" not in page or "<script" not in page


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "at least two"),
        (
            lambda folder: [(folder / f"{n}.jpg").write_text("no picture") for n in range(3)],
            "none of 3 pictures",
        ),
        (
            lambda folder: [
                Image.new("RGB", (40, 40), colour).save(folder / f"{colour}.png")
                for colour in ("red", "blue")
            ],
            "at least 2 images on each of train, dev and test",
        ),
        (
            lambda folder: (folder / "labels.csv").write_text(
                "file_label,kind\n../../secret.jpg,a\n/etc/passwd,b\n"
            ),
            "leads out of the data folder",
        ),
    ],
    ids=["empty", "all broken", "two images", "leaves the folder"],
)
def test_hopeless_folders_end_with_one_clear_line(tmp_path, make, said):
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)
    (tmp_path / "tested.yaml").write_text(
        f"study: tested\nimages: {{source: {folder}}}\noracle: person\n"
    )
    process = command(tmp_path, "run", "tested.yaml")
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert said in process.stderr.strip().splitlines()[-1]


def test_without_classes_it_reports_the_encoder_and_grades_given_then_make_rounds(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for house in sample_houses(6, seed=1).to_dict("records"):
        draw_house(house, 128).save(folder / house["file_label"])
    process = command(tmp_path, "new", "tested", folder)
    assert [line.split("  #")[0].strip() for line in process.stdout.splitlines()[-3:]] == [
        "make run STUDY=tested",
        "make teach STUDY=tested",
        "make serve STUDY=tested",
    ]
    process = command(tmp_path, "run", "tested", *SMALL)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].endswith("make teach STUDY=tested")
    assert (tmp_path / "report_results/tested/index.html").is_file()
    assert not (tmp_path / "active_learning_models/tested").exists()
    pairs = pd.read_csv(tmp_path / "active_learning_labels/tested/round_00/pairs.csv")
    assert (
        not pairs.automatic.any()
        and set(pairs.strategy) == {"lists", "random"}
        and set(pairs.side) == {"train"}
    )
    pairs.assign(similarity=np.arange(len(pairs)) % 4).to_csv(tmp_path / "grades.csv", index=False)
    process = command(tmp_path, "labels", "import", "grades.csv", "--study", "tested")
    assert process.returncode == 0, process.stderr
    process = command(tmp_path, "run", "tested", *SMALL)
    assert process.returncode == 0, process.stderr
