"""A study's settings: one YAML file in ``configs/``, read, checked and compared."""

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

THOUSAND, MILLION = 1_000, 1_000_000
# settings that decide nothing of a run, so they may change
AUTOMATIC = "automatic"  # pairs across classes that are graded 0 without asking
BY_CHANCE = ("random", "stratified", AUTOMATIC)  # strategies by which chance drew the pairs
UNCHOSEN = (*BY_CHANCE, "replay", "")  # and those of pairs that others chose: no model of ours did
WORDS = ("title", "about", "rubric", "classifier")
# compared when a study names none
INDEXES = ("exact", "faiss_hnsw", "faiss_ivf", "faiss_lsh", "annoy")


def _count(most: int, least: int = 1) -> Any:
    """A whole number with a limit that no sound study reaches: more would run out of time or
    memory.
    """
    return Annotated[int, Field(ge=least, le=most, strict=True)]


def _bounded(value: Any) -> Any:
    if isinstance(value, int | float) and not abs(value) <= 10 * MILLION:
        raise ValueError(f"expected a number up to {10 * MILLION:,}")
    return value


# what an index may be told
Plain = Annotated[bool | int | float | str | None, AfterValidator(_bounded)]
Share = Annotated[float, Field(gt=0, lt=1)]
LINE = r"^[^\x00-\x1f\x7f]*$"  # plain text without line breaks
Positive = Annotated[float, Field(gt=0, le=MILLION)]


class Settings(BaseModel):
    """Settings by name, of which none is unknown and none can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageSettings(Settings):
    """Where the pictures are, and how many of each class take part."""

    source: str  # "synthetic_houses", or a folder: absolute, or below datasets/ or IMGSEARCH_DATA
    per_class: _count(MILLION) | None = None  # a balanced sample of each class; all when absent
    class_columns: tuple[str, ...] | None = None  # coarse to fine; all of labels.csv's when absent
    # a column of labels.csv, "folders", or "none"; what is plainly a split when absent
    split: str | None = None
    # a .npy in the source folder instead of pictures, in labels.csv's order
    vectors: str | None = None
    obtain: str = ""  # how to get the pictures, said when they are not there
    # a CSV in the source folder whose file_label says which images take part
    sample: str | None = None


class HeadSettings(Settings):
    """The Siamese head and how it is trained; the names are registered in ``learning``."""

    head: str = "residual"
    loss: str = "graded_mse"
    hidden: _count(65_536) = 512
    epochs: _count(100 * THOUSAND) = 16
    batch_size: _count(MILLION) = 64
    learning_rate: Annotated[float, Field(gt=0, le=THOUSAND)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0, le=THOUSAND)] = 1e-2
    # of a pair in the loss, by grade
    weights: tuple[Positive, Positive, Positive, Positive] = (0.25, 1.0, 1.0, 2.0)
    # graded_mse's cosine, by grade
    targets: tuple[float, float, float, float] = (0.0, 0.1, 0.5, 1.0)
    # of the cosine: whether two images are of one class
    class_share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    # of the contrastive and triplet losses
    margin: Annotated[float, Field(gt=0, le=THOUSAND)] = 0.5
    # what the linear head pays for leaving identity
    drift: Annotated[float, Field(ge=0, le=MILLION)] = 1e-3


class IndexSettings(Settings):
    """One index: build arguments apart from the query arguments that are swept."""

    name: str
    build: dict[str, Plain] = {}
    query: dict[str, Annotated[list[Plain], Field(max_length=100)]] = {}


class Rubric(Settings):
    """What people are asked: shown beside each pair. Count `version` up when the meaning of a grade
    changes.

    questions : up to nine, answered yes, no or left open; none for a grade by eye
    rule : "thirds" proposes a grade from the answers: of those that are relevant (yes or no), more
        than 2/3 yes is grade 3, 1/3 to 2/3 grade 2, fewer grade 1; "none" proposes nothing
    grades : what 0, 1, 2 and 3 are called
    hints : what earns each grade, shown beside its key
    ignored : what should not count
    """

    title: str = "How similar are the two pictures?"
    questions: Annotated[tuple[str, ...], Field(max_length=9)] = ()
    rule: Literal["thirds", "none"] = "none"
    grades: tuple[str, str, str, str] = (
        "different",
        "slightly alike",
        "fairly alike",
        "very similar",
    )
    hints: tuple[str, str, str, str] = ("", "", "", "")
    ignored: str = ""
    version: str = "1"


class ClassifierSettings(Settings):
    """What `classify` says beside the study's own classes: a classifier that was trained elsewhere.

    name : "efficientnet_lite0", which is embedded (ImageNet's classes), or
        "timm:<model>[/<checkpoint>]"
    batch : pictures that it gets at once
    """

    name: str = "efficientnet_lite0"
    batch: _count(THOUSAND) = 16
    device: Literal["auto", "cpu", "cuda"] = "auto"


class TableSettings(Settings):
    """A table that the report shows beside the run's own: a CSV of this checkout."""

    title: str
    file: str
    note: str = ""


class Study(Settings):
    """Everything that decides a run's labels, models, metrics and figures."""

    study: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=80)]
    images: ImageSettings
    # what readers of the report see, "Drawn houses"
    title: Annotated[str, Field(pattern=LINE, max_length=80)] = ""
    # what they show, and what similar means here
    about: Annotated[str, Field(pattern=LINE, max_length=500)] = ""
    encoder: str = "efficientnet_lite0"
    oracle: Literal["rubric", "hierarchy", "replay", "person"] = "person"
    seed: _count(2**32 - 1, 0) = 0
    # for oracle replay: the pairs people graded, one CSV in the source folder a round
    labels: tuple[str, ...] = ()
    # pairs that people graded apart, reported by the study's own measures
    blind_test: str | None = None
    # query_image, retrieved_image, similarity: retrieved results people judged
    judged_results: str | None = None
    rounds: _count(THOUSAND) = 4
    asked_per_round: _count(MILLION) = 120
    zeros_per_round: _count(10 * MILLION, 0) = 360
    # of the images, to decide on; without, cross-fitting decides
    dev_share: Annotated[float, Field(ge=0, lt=1)] = 0
    test_share: Share = 0.2
    dev_asked: _count(MILLION) = 200
    test_asked: _count(MILLION) = 300
    duplicate_cosine: Annotated[float, Field(gt=0, le=1)] = 0.98
    # what chooses the next pairs; "": what won for studies with, or without, classes
    strategy: str = ""
    max_per_image: _count(MILLION) = 4  # pairs of one round that one image may be part of
    head: HeadSettings = HeadSettings()
    indexes: tuple[IndexSettings, ...] = tuple(IndexSettings(name=name) for name in INDEXES)
    #: of larger sets, drawn like the study's vectors, to compare indexes on
    sizes: Annotated[tuple[_count(10 * MILLION), ...], Field(max_length=20)] = (2_000, 10_000)
    tables: tuple[TableSettings, ...] = ()
    classifier: ClassifierSettings = ClassifierSettings()
    rubric: Rubric = Rubric()  # or the name of a file in rubrics/, beside the study's own

    @model_validator(mode="after")
    def _replay_has_labels(self):
        if self.oracle == "replay" and len(self.labels) < self.rounds:
            raise ValueError(
                f"oracle replay needs a file in labels for each of {self.rounds} rounds, "
                f"got {len(self.labels)}"
            )
        return self

    @field_validator("test_share")
    @classmethod
    def _leave_training_images(cls, value, info):
        if value + info.data.get("dev_share", 0) > 0.8:
            raise ValueError("dev_share + test_share must leave at least 0.2 for training")
        return value


def listed(names: Iterable[str], most: int = 30) -> str:
    """Names for a message, in one line and not without end: the first of them, cut to 60 characters
    each.
    """
    names = [" ".join(str(name).split()) for name in names]
    short = [name if len(name) <= 60 else f"{name[:57]}..." for name in names[:most]]
    return ", ".join(short + [f"and {len(names) - most:,} more"] * (len(names) > most))


def nearest(name: str, choices: Iterable) -> str:
    """Return "Did you mean X?" for the choice nearest to `name`, or the list of choices."""
    choices = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(name)[:200], choices, n=1)
    return f"Did you mean {close[0]}?" if close else f"Choose from: {listed(choices)}."


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def explain_settings(error: ValidationError, path: str, model: type[Settings]) -> str:
    """What pydantic found wrong first with the settings of a file, in words."""
    problem = error.errors()[0]
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        parts = {
            "images": ImageSettings,
            "head": HeadSettings,
            "indexes": IndexSettings,
            "rubric": Rubric,
            "classifier": ClassifierSettings,
        }
        for part in problem["loc"][:-1]:
            model = parts.get(part, model)
        return (
            f"{path}: no setting is called {where}. "
            f"{nearest(problem['loc'][-1], model.model_fields)}"
        )
    got = f", got {_short(problem['input'])}" if where and problem["type"] != "missing" else ""
    return ": ".join(filter(None, [path, where, problem["msg"]])) + got


def parse_study(values: Any, path: str = "study") -> Study:
    """Check plain values (a YAML mapping) and return the study; one clear line when they are wrong.

    Raises
    ------
    ValueError
        naming the setting, what was expected and what was given.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise ValueError(" ".join(explain_settings(error, path, Study).split())) from None


def read_study(path: Path, overrides: dict[str, Any] | None = None) -> Study:
    """Read a study's YAML file; `overrides` maps dotted names (``head.epochs``) to values."""
    values = read_yaml(Path(path))
    if not isinstance(values, dict):
        return parse_study(values, str(path))
    if isinstance(values.get("rubric"), str):
        values["rubric"] = _named_rubric(Path(path), values["rubric"])
    for name, value in (overrides or {}).items():
        level = values
        *parents, last = name.split(".")
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ValueError(f"{path}: {parent} is a single value, so {name} cannot be set")
        level[last] = value
    return parse_study(values, str(path))


# characters, and mappings in mappings: settings are short and flat
MOST_YAML, DEEPEST = (100_000, 20)


class _Loader(yaml.SafeLoader):
    """Plain values only: no aliases (a few lines of them unfold to gigabytes), no name twice, a
    bounded depth.
    """

    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"*{self.peek_event().anchor}: aliases are not read; write the value out"
            )
        if self.depth >= DEEPEST:
            raise yaml.YAMLError(f"values are nested more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.YAMLError(f"{listed(twice)} stands twice; keep one")
        return super().construct_mapping(node, deep)


def plain_values(text: str, path: str) -> Any:
    """Read YAML that people wrote: plain values, in little time and memory.

    Raises
    ------
    ValueError one line: no YAML, longer than 100,000 characters, nested more than 20 deep, an
        alias, a name that stands twice, a tag of a programming language.
    """
    if len(text) > MOST_YAML:
        raise ValueError(
            f"{path}: expected at most {MOST_YAML:,} characters of settings; is it another file?"
        )
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}: not readable as YAML: {' '.join(str(error).split())[:500]}"
        ) from None


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file; ValueError where it is none, holds aliases, or a name
    twice.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            return plain_values(file.read(MOST_YAML + 1), str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from None


def _named_rubric(study: Path, name: str) -> Any:
    """The content of ``rubrics/<name>.yaml`` beside the study's file; several studies may share
    one.
    """
    file = study.parent / "rubrics" / f"{name}.yaml"
    names = [path.stem for path in file.parent.glob("*.yaml") if path.is_file()]
    if name not in names:
        raise ValueError(
            f"{study}: no rubric is called {name!r} in {file.parent.name}/. {nearest(name, names)}"
        )
    return read_yaml(file)


def changed_settings(begun: Study, now: Study) -> list[str]:
    """How a study differs from what a run was begun with, but for ``WORDS``."""
    return difference(*(each.model_dump(mode="json", exclude={*WORDS}) for each in (begun, now)))


def difference(old: Any, new: Any, at: str = "") -> list[str]:
    """Lines ``name: old -> new`` for every setting that differs between two plain mappings."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        return [
            line
            for n in names
            for line in difference(old.get(n), new.get(n), f"{at}.{n}" if at else n)
        ]
    return [] if old == new else [f"{at}: {old} -> {new}"]
