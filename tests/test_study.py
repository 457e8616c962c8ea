"""A study's settings: read, checked, compared; every mistake is one line that names the setting."""

import copy
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imgsearch_utils.study import Study, difference, nearest, parse_study, read_study

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = {"study": "tiny", "images": {"source": "synthetic_houses"}}


def refused(values, overrides=None, path=None) -> str:
    with pytest.raises(ValueError) as caught:
        read_study(path, overrides) if path else parse_study(values, "tiny.yaml")
    assert not isinstance(caught.value, ValidationError)
    assert len(str(caught.value).splitlines()) == 1 and str(path or "tiny.yaml") in str(
        caught.value
    )
    return str(caught.value)


# a user's own studies may stand beside them
@pytest.mark.parametrize("name", ["grocery", "house_styles", "synthetic_houses"])
def test_every_study_of_the_checkout_is_sound_and_named_as_its_file(name):
    path = REPOSITORY / "configs" / f"{name}.yaml"
    study = read_study(path)
    assert study.study == path.stem
    assert parse_study(yaml.safe_load(study.model_dump_json())) == study
    assert study.title and study.about.endswith(".")


def test_five_lines_are_a_study():
    study = parse_study(TINY)
    assert study.oracle == "person" and study.images.class_columns is None and study.indexes


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"ruonds": 3}, "no setting is called ruonds. Did you mean rounds?"),
        (
            {"images": {"source": "x", "perclass": 3}},
            "no setting is called images.perclass. Did you mean per_class?",
        ),
        ({"head": {"epoch": 3}}, "no setting is called head.epoch. Did you mean epochs?"),
        (
            {"indexes": [{"name": "exact"}, {"name": "annoy", "biuld": {}}]},
            "indexes.1.biuld. Did you mean build?",
        ),
        ({"qqqq": 1}, "no setting is called qqqq. Choose from: study, images"),
    ],
)
def test_a_misspelt_setting_names_the_nearest(values, expected):
    assert expected in refused(TINY | values)


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"rounds": "four"}, "rounds.*integer.*'four'"),
        ({"rounds": 0}, "rounds.*greater than or equal to 1.*got 0"),
        ({"rounds": True}, "rounds.*integer.*True"),
        ({"rounds": 2.5}, "rounds.*integer.*2.5"),
        ({"rounds": None}, "rounds.*integer.*None"),
        ({"seed": -1}, "seed.*-1"),
        ({"dev_share": 1}, "dev_share.*less than 1"),
        ({"dev_share": 0.5, "test_share": 0.4}, "test_share.*at least 0.2 for training"),
        ({"cross_fits": 30}, "no setting is called cross_fits"),
        *(
            ({"head": {name: 1}}, f"no setting is called head.{name}")
            for name in ("dropout", "members", "centre")
        ),
        ({"duplicate_cosine": float("nan")}, "duplicate_cosine"),
        ({"oracle": "me"}, "oracle.*'rubric'.*got 'me'"),
        ({"images": "houses"}, "images.*got 'houses'"),
        ({"images": {}}, "images.source: Field required"),
        ({"images": {"source": "x", "class_columns": "tree"}}, "images.class_columns.*got 'tree'"),
        ({"head": {"learning_rate": "fast"}}, "head.learning_rate.*'fast'"),
        ({"head": {"hidden": -3}}, "head.hidden.*-3"),
        ({"indexes": {"name": "exact"}}, "indexes"),
        ({"study": "Bad Name/.."}, "study.*'Bad Name/..'"),
        *(
            ({name: value}, f"{name}: ")
            for name in ("title", "about")
            for value in ("a\nb", "\x1b[31m", "a" * 501, 3)
        ),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_got(values, expected):
    message = refused(TINY | values)
    assert re.search(expected, message), message


def test_files_that_are_no_yaml_are_refused(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("study: [tiny\nimages: }")
    assert "not readable as YAML" in refused(None, path=path)
    path.write_bytes("study: trä".encode("latin-1"))
    assert "not readable as YAML" in refused(None, path=path)
    path.write_text("")
    assert "expected a mapping" in refused(None, path=path)
    path.write_bytes(b"study: \x00")
    assert "not readable as YAML" in refused(None, path=path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_make_no_difference(tmp_path, encoding, line_end):
    path = tmp_path / "tiny.yaml"
    path.write_bytes(yaml.safe_dump(TINY).replace("\n", line_end).encode(encoding))
    assert read_study(path) == parse_study(TINY)


def test_settings_are_changed_by_dotted_name(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | {"rounds": 3, "head": {"hidden": 8}}))
    changes = {
        "rounds": 2,
        "head.epochs": 5,
        "images.class_columns": ["tree"],
        "head.learning_rate": "1e-3",
    }
    before = copy.deepcopy(changes)
    study = read_study(path, changes)
    assert changes == before
    assert (study.rounds, study.head.epochs, study.head.hidden, study.head.learning_rate) == (
        2,
        5,
        8,
        0.001,
    )
    assert study.images.class_columns == ("tree",)
    assert "Did you mean epochs?" in refused(None, {"head.epoch": 5}, path)
    assert "rounds is a single value, so rounds.x cannot be set" in refused(
        None, {"rounds.x": 5}, path
    )
    assert "no setting is called haed" in refused(None, {"haed.epochs": 5}, path)
    assert read_study(path).rounds == 3


def test_a_study_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse_study(TINY).rounds = 5


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.text(min_size=1), inner) | st.lists(inner),
    max_leaves=8,
)


@given(plain, plain)
def test_differences_are_empty_exactly_between_equals(old, new):
    assert difference(old, old) == []
    if old != new and not (isinstance(old, dict) and isinstance(new, dict)):
        assert len(difference(old, new)) == 1


def test_differences_name_each_setting():
    old = parse_study(TINY).model_dump()
    new = parse_study(TINY | {"rounds": 9, "head": {"epochs": 7}}).model_dump()
    assert difference(old, new) == [
        f"head.epochs: {old['head']['epochs']} -> 7",
        f"rounds: {old['rounds']} -> 9",
    ]
    assert difference({"a": 1}, {"b": 2}) == ["a: 1 -> None", "b: None -> 2"]


def test_the_nearest_name_or_the_choices():
    assert nearest("exat", ["annoy", "exact"]) == "Did you mean exact?"
    assert nearest("zzz", ["annoy", "exact"]) == "Choose from: annoy, exact."
    assert nearest(3, {"30": 1}) == "Did you mean 30?"


def test_defaults_are_not_shared_between_studies():
    one, other = parse_study(TINY), parse_study(TINY)
    one.indexes[0].build["trees"] = 5
    assert other.indexes[0].build == {} == Study.model_validate(TINY).indexes[0].build


def test_without_a_dev_side_the_train_pairs_decide():
    assert parse_study(TINY).dev_share == 0
    assert parse_study({**TINY, "dev_share": 0.2}).dev_share == 0.2
