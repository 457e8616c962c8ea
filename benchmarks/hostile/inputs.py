"""Files that people hand in: CSVs, settings, pictures, folders; random, mutated and odd ones."""

import io
import os
import string

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.hostile.case import STUDY, Case, attack
from benchmarks.hostile.commands import Disturbance
from imgsearch_utils.grades.journal import Journal

ODD = [
    "",
    "0",
    "-1",
    "7",
    "nan",
    "inf",
    "NA",
    "1e999",
    "１",
    "٣",
    "null",
    "true",
    "=1+1",
    "a" * 5000,
    "\x00",
    "\ufeff",
    "\u202e",
    "é",
    "e\u0301",
    "💥",
    "\r",
    "\n",
    '"',
    "'",
    ";",
    "\t",
    "../../etc/passwd",
    "$HOME",
    "{}",
    "[]",
    "<b>",
    "ran$ch_{$",
    "%s%n",
    "-",
    "--help",
    "'; DROP",
    "\ufffd",
]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "shift_jis", "utf-7")
VALUES = (
    *ODD,
    0,
    -1,
    1,
    2,
    10**9,
    10**20,
    -(10**20),
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    None,
    True,
    [],
    {},
    [1, [2]],
    {"a": {"b": 1}},
    ["x"] * 1000,
    "[",
    "{a: 1",
    "&a [*a]",
    "!!python/object:os.system x",
    "2001-01-01",
    "0x1F",
    "1_000",
)
COLUMNS = ("score", "image1_path", "p_similar", "cosine", "round", "file", "row", "group1", *ODD)


def mutated(rng, content: bytes) -> bytes:
    """Bytes with a few random edits: a flip, a cut, a doubled piece, odd text, or another
    encoding.
    """
    for _ in range(rng.integers(1, 4)):
        at, to = sorted(rng.integers(0, len(content) + 1, 2))
        kind = rng.integers(6)
        if kind == 0 and content:
            place = rng.integers(len(content))
            content = (
                content[:place]
                + bytes([content[place] ^ (1 << rng.integers(8))])
                + content[place + 1 :]
            )
        elif kind == 1:
            content = content[:at]
        elif kind == 2:
            content = content[:to] + content[at:to] * int(rng.integers(1, 4)) + content[to:]
        elif kind == 3:
            content = (
                content[:at] + ODD[rng.integers(len(ODD))].encode("utf-8", "replace") + content[at:]
            )
        elif kind == 4:
            content = content[:at] + rng.bytes(rng.integers(1, 200)) + content[to:]
        else:
            text, encoding = (
                content.decode("utf-8", "replace"),
                ENCODINGS[rng.integers(len(ENCODINGS))],
            )
            content = text.encode(encoding, "replace")
    return content


def odd_table(case: Case) -> bytes:
    """A CSV of pairs, nearly right: odd grades, names, columns, delimiters, line ends."""
    rng, names = case.rng, [*case.base.names, *ODD]
    rows = []
    for _ in range(rng.integers(0, 30)):
        grade = (
            case.one_of(["0", "1", "2", "3", "", *ODD])
            if rng.random() < 0.1
            else str(rng.integers(4))
        )
        rows.append(
            [
                *(case.one_of(names if rng.random() < 0.1 else case.base.names) for _ in range(2)),
                grade,
            ]
        )
    columns = ["image1", "image2", "similarity"]
    table = pd.DataFrame(rows, columns=columns)
    if rng.random() < 0.3:
        table[case.one_of(COLUMNS)] = "1"
    if rng.random() < 0.2:
        table = table.drop(columns=case.one_of(columns))
    buffer = io.StringIO()
    table.to_csv(
        buffer,
        index=False,
        sep=case.one_of(",,,;\t"),
        lineterminator=case.one_of(["\n", "\r\n", "\r"]),
    )
    return buffer.getvalue().encode(case.one_of(["utf-8", "utf-8-sig"]), "replace")


@attack("csv", share=0.12)
def csv(case: Case) -> None:
    """Mutated and odd CSVs to `labels import` and `score`: right, or one line; the journal is
    exact.
    """
    case.copy()
    sound = (case.home / "grades.csv").read_bytes()
    kind = case.rng.random()
    content = (
        odd_table(case)
        if kind < 0.5
        else mutated(case.rng, sound)
        if kind < 0.9
        else case.rng.bytes(300)
    )
    file = case.home / "odd.csv"
    file.write_bytes(content)
    done = case.run("labels", "import", "odd.csv", "--study", STUDY)
    found = (case.home / f"active_learning_labels/{STUDY}/journal.csv").read_bytes()
    if not found.startswith(case.base.journal):
        case.fall("labels import changed or lost acts that were there")
    elif done.status and found != case.base.journal:
        case.fall(f"a refused import wrote to the journal: {done.last[:150]}")
    elif not done.status:
        exact_import(case, done.out)
    scored = case.run("score", "odd.csv", "--study", STUDY, "--out", "odd_scored.csv")
    if not scored.status:
        right_scores(case)
    case.ask("score", must=True)


def exact_import(case: Case, out: str) -> None:
    """What was said to be imported is in the journal, once a pair, and a second import adds
    nothing.
    """
    file = case.home / f"active_learning_labels/{STUDY}/journal.csv"
    acts = Journal(file).acts()[len(case.base.journal.splitlines()) - 1 :]
    said = int(out.split(" imported")[0].split()[-1].replace(",", ""))
    pairs = {(act.image1, act.image2) for act in acts}
    if said != len(acts) or len(pairs) != len(acts):
        case.fall(
            f"import says {said} grades, the journal has {len(acts)} new acts of {len(pairs)} pairs"
        )
    if strangers := {name for pair in pairs for name in pair} - set(case.base.names):
        case.fall(
            "import wrote a grade of an image that the study does not have: "
            f"{sorted(strangers)[0]!r}"
        )
    before = file.read_bytes()
    if (
        not case.run("labels", "import", "odd.csv", "--study", STUDY).status
        and file.read_bytes() != before
    ):
        case.fall("the same file imported twice is written twice")


def right_scores(case: Case) -> None:
    """The cosines of a scored file are those of the study's vectors."""
    try:
        table = pd.read_csv(
            case.home / "odd_scored.csv",
            dtype={"image1": str, "image2": str},
            keep_default_na=False,
            na_values={"cosine": [""]},
        )
        cosine = table.cosine.astype(float)
    except (ValueError, AttributeError, pd.errors.ParserError) as error:
        case.fall(
            f"score wrote a file with exit 0 that has no cosines: {type(error).__name__} {error}"[
                :200
            ]
        )
        return
    vectors = dict(
        zip(case.base.names, np.load(case.base.home / f"vector_dbs/{STUDY}/encoder/vectors.npy"))
    )
    for one, two, found in zip(table.image1, table.image2, cosine):
        if (one in vectors and two in vectors) != bool(np.isfinite(found)):
            case.fall(f"wrong result with exit 0: the score of {one!r}, {two!r} is {found}")
        elif np.isfinite(found):
            a, b = vectors[one], vectors[two]
            if abs(a @ b / np.linalg.norm(a) / np.linalg.norm(b) - found) > 1e-4:
                case.fall(
                    f"wrong result with exit 0: the cosine of {one!r} and {two!r} is not {found}"
                )


def odd_picture(case: Case) -> tuple[str, bytes]:
    """A picture file that is odd, broken, or no picture: its suffix and content."""
    rng = case.rng
    width, height = (int(n) for n in rng.integers(1, 70, 2))
    if rng.random() < 0.1:
        width, height = (1, int(rng.integers(1, 20_000)))[:: rng.choice([1, -1])]
    mode = case.one_of(
        ["RGB", "RGBA", "L", "P", "1", "CMYK", "LA", "I;16", "F", "YCbCr", "HSV", "I"]
    )
    kind = case.one_of(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PDF"])
    picture = (
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        .convert(mode if mode not in ("I;16",) else "I")
        .convert(mode)
    )
    buffer = io.BytesIO()
    try:
        picture.save(buffer, kind)
    except (OSError, ValueError, KeyError):
        picture.convert("RGB").save(buffer := io.BytesIO(), "PNG")
    content = buffer.getvalue()
    if rng.random() < 0.6:
        content = mutated(rng, content)
    if rng.random() < 0.05:
        content = rng.bytes(500)
    suffix = case.one_of(
        [".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".PNG", ".jpeg", ".txt", ""]
    )
    return suffix, content


def odd_name(case: Case) -> str:
    """A file name that a file system takes."""
    text = case.one_of(ODD) + "".join(
        case.one_of(string.printable) for _ in range(case.rng.integers(0, 8))
    )
    return (
        text.replace("/", "_").replace("\x00", "")[:120].encode("utf-8", "replace").decode()[:60]
        or "x"
    )


@attack("pictures", share=0.08)
def pictures(case: Case) -> None:
    """Odd and broken pictures with odd names, in odd folders, to `search`, `classify` and `new`."""
    case.copy()
    folder = case.home / "odd"
    for _ in range(case.rng.integers(1, 6)):
        place = folder / case.one_of(["one", "two", odd_name(case)])
        if place.name in (".", ".."):
            continue
        place.mkdir(parents=True, exist_ok=True)
        suffix, content = odd_picture(case)
        if not (file := place / (odd_name(case)[:40] + suffix)).exists():
            file.write_bytes(content)
    for kind, share in (("pipe", 0.1), ("loop", 0.1), ("dangling", 0.1), ("folder", 0.1)):
        if case.rng.random() < share:
            odd_entry(folder / "one", kind)
    if not folder.is_dir():
        return
    one = case.one_of(sorted(p for p in folder.rglob("*") if p.is_file()) or [folder])
    model, sheet = case.one_of(["encoder", "head"]), case.one_of([(), ("--show", "sheet.png")])
    for what in (folder, one):
        case.run(
            "search",
            str(what.relative_to(case.home)) if what.name[:1] != "-" else str(what),
            "--study",
            STUDY,
            "--model",
            model,
            "--json",
            *sheet,
            limit=40,
        )
    case.run("classify", str(one), "--study", STUDY, limit=40)
    done = case.run(
        "new", case.one_of(["own", "a-b", "UPPER", *ODD]) or "own", str(folder), limit=40
    )
    if done.status == 0 and (case.home / "configs" / "own.yaml").is_file():
        case.run("embed", "--study", "own", limit=60)
        case.run("run", "own", disturbed=Disturbance(stop_at="subprocess.Popen"), limit=30)
    case.orphans("these commands")
    case.ask("search", must=True)


def odd_entry(folder, kind: str) -> None:
    """A named pipe, a loop, a link to nothing, or a folder, each called as a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{kind}.png"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(folder if kind == "loop" else "nowhere.png")
