"""A service that many ask at once: each gets the answer that it would get alone, or its own
line.
"""

import io
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pytest
from PIL import Image

from imgsearch_utils.encoders.encoder_names import get_encoder
from imgsearch_utils.search import service
from imgsearch_utils.search.searcher import Searcher
from imgsearch_utils.workspace import find_run
from tests import tiny_study
from tests.tiny_study import living_in


@pytest.fixture(scope="module")
def home(tiny):
    return tiny


@pytest.mark.parametrize("faster", [False, True], ids=["torch", "many files"])
def test_pictures_that_wait_together_get_the_vectors_that_they_get_alone(home, faster):
    encoder = get_encoder("efficientnet_lite0")
    files = [tiny_study.picture_of(home, house) for house in tiny_study.HOUSES[:9]]
    pictures = service.PictureQueue(encoder)
    if faster:
        pictures.faster()
    contents = [file.read_bytes() for file in files]
    contents[4] = b"no picture"
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(pictures.encode, content) for content in contents]
    with pytest.raises(ValueError, match="not a picture that can be read"):
        answers.pop(4).result()
    alone = encoder.encode([file for place, file in enumerate(files) if place != 4])
    np.testing.assert_allclose([answer.result()[0] for answer in answers], alone, atol=1e-3)


def test_a_service_that_warms_up_while_others_ask_has_one_queue(home, monkeypatch):
    made = []

    class Slow(service.PictureQueue):
        def __init__(self, encoder):
            made.append(self)
            threading.Event().wait(0.05)  # time for others to make one too
            super().__init__(encoder)

    monkeypatch.setattr(service, "PictureQueue", Slow)
    content = tiny_study.picture_of(home, tiny_study.HOUSES[0]).read_bytes()
    with living_in(home):
        asked = service.Service(find_run("tiny"))
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(asked.encode, content) for _ in range(7)]
            answers.append(pool.submit(asked.warm_up))
            for answer in answers:
                answer.result()
    assert len(made) == 1


def test_the_picture_after_those_that_may_wait_is_refused(monkeypatch):
    monkeypatch.setattr(service, "WAITING", 3)
    held = threading.Event()

    class Held:
        """An encoder that is at work until the test says otherwise."""

        batch = 1

        def encode_images(self, pictures):
            held.wait(60)
            return np.zeros((len(pictures), 2), np.float32)

    pictures, picture = service.PictureQueue(Held()), io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "PNG")
    with ThreadPoolExecutor(60) as pool:  # more than are at work and may wait
        answers = [pool.submit(pictures.encode, picture.getvalue()) for _ in range(60)]
        refused = []
        for answer in as_completed(answers):  # the refused ones come first: the others are held
            if answer.exception():
                refused.append(answer.exception())
            held.set()
    assert refused and all(isinstance(error, service.Busy) for error in refused)
    assert "3 pictures wait already" in str(refused[0])
    assert [answer.result()[0].tolist() for answer in answers if not answer.exception()][0] == [
        0,
        0,
    ]


def test_answers_are_those_of_the_searcher(home):
    with living_in(home):
        run = find_run("tiny")
        asked = service.Service(run)
        for model in ("encoder", "head"):
            searcher = Searcher.open(run, model)
            name = searcher.names[7]
            expected = searcher.search(searcher.vectors_of([name]), 5, expand=2).drop(
                columns="query"
            )
            answer = asked.search(image=name, k=5, model=model, expand=2)
            assert answer["results"] == expected.to_dict("records")
            assert (answer["model"], answer["threshold"]) == (model, searcher.model.threshold)
        with pytest.raises(ValueError, match="Did you mean head"):
            asked.search(image=name, model="haed")
        with pytest.raises(ValueError, match="ask with a picture, an image's name, or words"):
            asked.search()
        like, unlike = ([searcher.names[row] for row in rows] for rows in ((3, 4), (20,)))
        content = searcher.collection.path(like[1]).read_bytes()
        answer = asked.search(
            image=name, like=[like[0], content], unlike=unlike, k=36, model="head"
        )
        near = np.concatenate([searcher.vectors_of(like[:1]), asked.encode(content)[0][None]])
        expected = searcher.search(
            searcher.vectors_of([name]), 36, like=near, unlike=searcher.vectors_of(unlike)
        )
        assert [row["image"] for row in answer["results"]] == expected.image.tolist()
        assert {row["p_similar"] for row in answer["results"]} == {None} and not answer[
            "close_match"
        ]
        with pytest.raises(ValueError, match="at most 20 examples, got 21"):
            asked.search(image=name, unlike=[name] * 20)
