"""The one tiny finished study that every case gets a copy of, and what the undisturbed commands say
of it.
"""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.hostile.commands import Command, Disturbance, Done
from imgsearch_utils.drawn_houses import draw_house, sample_houses
from imgsearch_utils.metrics.geometry import normalised

STUDY = "tiny"
SETTINGS = """\
study: tiny
images: {source: synthetic_houses, per_class: 12}
oracle: rubric
rounds: 1
asked_per_round: 12
zeros_per_round: 12
dev_asked: 12
test_asked: 12
max_per_image: 20
head: {epochs: 2}
sizes: [300]
indexes: [{name: exact}]
"""
TREES = (
    "active_learning_labels",
    "active_learning_models",
    "active_learning_results",
    "vector_dbs",
    "report_results",
)
#: what a user asks: name -> what is typed. SCORED and EXPORTED are written, the others print
ASKED = {
    "search": ("search", "query_0.png", "-k", 10, "--study", STUDY, "--model", "encoder", "--json"),
    "search_head": (
        "search",
        "query_1.png",
        "-k",
        10,
        "--study",
        STUDY,
        "--model",
        "head",
        "--json",
    ),
    "classify": ("classify", "query_2.png", "--study", STUDY, "--json"),
    "score": ("score", "pairs.csv", "--study", STUDY, "--out", "scored.csv"),
    "export": ("labels", "export", "exported.csv", "--study", STUDY),
    "summary": ("labels", "summary", "--study", STUDY, "--json"),
    "embed": ("embed", "--study", STUDY),
    "index": ("index", "--study", STUDY),
    "import": ("labels", "import", "grades.csv", "--study", STUDY),
}
WRITTEN = {"score": "scored.csv", "export": "exported.csv"}
JOURNAL = f"active_learning_labels/{STUDY}/journal.csv"
#: of a run: equal byte for byte, or it is wrong
EVIDENCE = ("results_log.csv", "candidates.csv", "scored_pairs.csv", "pairs.csv")


@dataclass
class Base:
    """The finished study, and what is right.

    home : its workspace; nobody writes into it
    answers : command -> what it printed or wrote, undisturbed
    changes, seconds : command -> how many changes of files it makes, and how long it takes
    evidence : path -> content of the run's files that must be equal
    """

    home: Path
    answers: dict[str, str] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, bytes] = field(default_factory=dict)

    @property
    def journal(self) -> bytes:
        return (self.home / JOURNAL).read_bytes()

    @property
    def names(self) -> list[str]:
        return pd.read_csv(
            self.home / f"vector_dbs/{STUDY}/encoder/names.csv", dtype=str
        ).image.tolist()


def make(home: Path) -> None:
    """Draw the houses and run the tiny study to its end, by the command."""
    (home / "configs").mkdir(parents=True, exist_ok=True)
    (home / "configs" / f"{STUDY}.yaml").write_text(SETTINGS)
    done = Command(home, ("run", STUDY), fresh=True).wait(1800)
    if done.status:
        raise SystemExit(f"the tiny study itself could not be made: {done.err}")


def prepare(home: Path) -> Base:
    """Add what the cases ask about to a finished study's workspace, and ask everything
    undisturbed.
    """
    for number, house in enumerate(sample_houses(1, seed=77).to_dict("records")[:3]):
        if not (home / f"query_{number}.png").is_file():
            draw_house(house, 120).save(home / f"query_{number}.png")
    base = Base(home)
    rng, names = np.random.default_rng(0), base.names
    pairs = np.array([rng.choice(names, 2, replace=False) for _ in range(40)])
    pd.DataFrame(pairs, columns=["image1", "image2"]).to_csv(home / "pairs.csv", index=False)
    _table(pairs[:20], rng).to_csv(home / "grades.csv", index=False)
    _undisturbed(home, ASKED["index"])
    base.evidence = evidence(home)
    probe = home.parent / "undisturbed" / "home"
    for name, arguments in ASKED.items():
        shutil.rmtree(probe.parent, ignore_errors=True)
        shutil.copytree(home, probe)
        if name == "embed":
            shutil.rmtree(probe / f"vector_dbs/{STUDY}/encoder")
        done = _undisturbed(probe, arguments, Disturbance(count=True))
        base.changes[name], base.seconds[name] = int(done.last), done.seconds
        base.answers[name] = (probe / WRITTEN[name]).read_text() if name in WRITTEN else done.out
        if name == "import":
            base.answers[name] = (probe / JOURNAL).read_bytes().decode("utf-8", "surrogateescape")
    shutil.rmtree(probe.parent)
    for name in ("search", "search_head"):
        if wrong := search_is_wrong(base, name, base.answers[name], ASKED[name][1]):
            raise SystemExit(f"the undisturbed {name} is wrong: {wrong}")
    return base


def _table(pairs: np.ndarray, rng) -> pd.DataFrame:
    """Grades of pairs, each pair once."""
    table = pd.DataFrame(
        np.sort(pairs.astype(str), axis=1), columns=["image1", "image2"]
    ).drop_duplicates()
    return table.assign(similarity=rng.integers(0, 4, len(table)))


def _undisturbed(home: Path, arguments, disturbed: Disturbance | None = None) -> Done:
    done = Command(home, arguments, disturbed=disturbed).wait()
    if done.status:
        raise SystemExit(f"undisturbed, {done.line} failed: {done.err}")
    return done


def evidence(home: Path) -> dict[str, bytes]:
    """The files of a run that must be equal to the undisturbed run's, by path."""
    found = {}
    for tree in TREES[:3]:
        for path in sorted((home / tree / STUDY).rglob("*.csv")):
            if path.name in EVIDENCE:
                found[path.relative_to(home).as_posix()] = path.read_bytes()
    return found


def copy(base: Base, home: Path) -> Path:
    """A copy of the workspace to attack; the study's own pictures, which no command writes, are
    linked.
    """
    shutil.copytree(base.home, home, copy_function=_copy_or_link)
    return home


def _copy_or_link(one: str, other: str) -> None:
    if "/all_images/" in one:
        with contextlib.suppress(OSError):  # another disk
            return os.link(one, other)
    shutil.copy2(one, other)


def search_is_wrong(base: Base, name: str, out: str, query: str) -> str:
    """What is wrong with a search's JSON, against a plain numpy computation on the finished study's
    vectors.
    """
    from imgsearch_utils.encoders.encoder import one_thread
    from imgsearch_utils.encoders.encoder_names import shared_encoder
    from imgsearch_utils.images.decoding import open_image
    from imgsearch_utils.learning.heads import load_head

    database = np.load(base.home / f"vector_dbs/{STUDY}/encoder/vectors.npy")
    with one_thread():
        vector = shared_encoder("efficientnet_lite0").encode_images([open_image(base.home / query)])
    if name == "search_head":
        head = load_head(base.home / f"active_learning_models/{STUDY}/round_00")
        database, vector = head.embed(database), head.embed(vector)
    cosine = normalised(database) @ normalised(vector)[0]
    best = np.sort(cosine)[::-1][:10]
    [answer] = json.loads(out)["queries"]
    scores = np.array([row["score"] for row in answer["results"]])
    own = dict(zip(base.names, cosine))
    if scores.shape != best.shape or np.abs(scores - best).max() > 2e-5:
        return f"scores {scores.round(5).tolist()}, expected {best.round(5).tolist()}"
    if odd := [
        row["image"]
        for row in answer["results"]
        if abs(own.get(row["image"], 9) - row["score"]) > 2e-5
    ]:
        return f"{odd[0]} has another score than its vector"
    return "" if len({row["image"] for row in answer["results"]}) == 10 else "an image stands twice"


def answer_is_wrong(base: Base, name: str, out: str) -> str:
    """What differs between an answer and the undisturbed one; empty where nothing does."""
    right = base.answers[name]
    if name in ("search", "search_head", "classify"):
        return _differs(json.loads(right), _parsed(out))
    if name in ("score", "export"):
        return "" if out == right else f"{WRITTEN[name]} differs from the undisturbed one"
    if name == "summary":
        return "" if out == right else f"{out.strip()!r}, undisturbed {right.strip()!r}"
    return ""


def _parsed(out: str):
    try:
        return json.loads(out)
    except ValueError:
        return f"no JSON: {out[:80]!r}"


def _differs(right, found, at: str = "") -> str:
    if isinstance(right, dict) and isinstance(found, dict):
        names = [n for n in right.keys() | found.keys() if n != "index"]
        return next(
            filter(
                None, (_differs(right.get(n), found.get(n), f"{at}.{n}") for n in sorted(names))
            ),
            "",
        )
    if isinstance(right, list) and isinstance(found, list) and len(right) == len(found):
        return next(
            filter(
                None, (_differs(a, b, f"{at}[{i}]") for i, (a, b) in enumerate(zip(right, found)))
            ),
            "",
        )
    if isinstance(right, float) and isinstance(found, (int, float)):
        return "" if abs(right - found) < 1e-4 else f"{at}: {found}, undisturbed {right}"
    return "" if right == found else f"{at}: {str(found)[:80]!r}, undisturbed {str(right)[:80]!r}"


def acts_of(home: Path) -> list[bytes]:
    """The lines of a workspace's journal without the time of each; none where it is gone."""
    file = home / JOURNAL
    return (
        [line.partition(b",")[2] for line in file.read_bytes().splitlines()]
        if file.is_file()
        else []
    )


def unfinished(home: Path) -> list[str]:
    """Files and folders of a workspace that something left half made."""
    return [
        path.relative_to(home).as_posix()
        for tree in TREES
        for path in (home / tree).rglob("*.partial*")
    ]
