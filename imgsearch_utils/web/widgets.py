"""The pages as widgets for notebooks: thin covers of what a server talks to as well."""

import functools
from pathlib import Path

import anywidget
import pandas as pd
import traitlets

from imgsearch_utils.grades.journal import Journal
from imgsearch_utils.images.collection import Collection
from imgsearch_utils.search.service import Service
from imgsearch_utils.study import Rubric
from imgsearch_utils.web.map_page import Mapped
from imgsearch_utils.web.search_page import Searching
from imgsearch_utils.web.tagging_page import Tagging, Task
from imgsearch_utils.web.teaching_page import Classroom, Teaching
from imgsearch_utils.workspace import Run


class Tagger(anywidget.AnyWidget):
    """Show pairs of pictures and write a person's grades to a journal.

    Keys: 0 1 2 3 grade, S skip, R unsure, U undo, arrows browse, Z zoom, Shift+1 to Shift+9 answer
    a question of the rubric, Enter takes the grade that the rubric's rule proposes. The next pair
    appears when the last act is on disk. A new widget on the same journal, also in another kernel,
    continues where the annotator stopped.

    Parameters
    ----------
    journal : the journal or its path
    annotator : asked on screen when empty
    others : as of ``Task``
    """

    _esm = Path(__file__).with_name("tagger.js")
    _css = Path(__file__).with_name("tagger.css")
    rubric = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        pairs: pd.DataFrame,
        collection: Collection,
        journal: Journal | str | Path,
        rubric: Rubric = Rubric(),  # noqa: B008, it is frozen
        annotator: str = "",
        *others,
        **more,
    ):
        journal = journal if isinstance(journal, Journal) else Journal(journal)
        task = Task(pairs, collection, journal, rubric, *others, **more)
        super().__init__(rubric=rubric.model_dump(mode="json"))
        self._tagging = Tagging(task, self.send, annotator)
        self.on_msg(lambda _, message, buffers: self._tagging.receive(message, buffers))


class Teacher(anywidget.AnyWidget):
    """Teach a run what you mean by similar: the tagger of its open round, and what the grades have
    taught so far.

    Parameters
    ----------
    study : of the run, by name or path

    Raises
    ------
    ValueError
        where the run is not taught by people, is published, or has nothing to ask yet.
    """

    _esm = Path(__file__).with_name("tagger.js")
    _css = Path(__file__).with_name("tagger.css")
    rubric = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run, study: str, annotator: str = ""):
        room = Classroom(run, study)
        super().__init__(rubric=run.study.rubric.model_dump(mode="json"))
        self._teaching = Teaching(room, self.send, annotator)
        self.on_msg(lambda _, message, buffers: self._teaching.receive(message, buffers))


class SearchPage(anywidget.AnyWidget):
    """Search a run's images by picture, by words where the encoder reads them, or by one of the
    images.

    Parameters
    ----------
    run : opened when the page is shown; what it lacks is said on screen
    k : results to begin with
    """

    _esm = Path(__file__).with_name("search_page.js")
    _css = Path(__file__).with_name("search_page.css")

    def __init__(self, run: Run, k: int = 12):
        super().__init__()
        self._searching = Searching(run, functools.cache(lambda: Service(run)), self.send, k)
        self.on_msg(lambda _, message, buffers: self._searching.receive(message, buffers))


class MapPage(anywidget.AnyWidget):
    """A run's images as points on a map: hover shows a picture, a line around some selects them.

    run : opened when the page is shown; what it lacks is said on screen
    """

    _esm = Path(__file__).with_name("map_page.js")
    _css = Path(__file__).with_name("map_page.css")

    def __init__(self, run: Run):
        super().__init__()
        self._mapped = Mapped(run, functools.cache(lambda: Service(run)), self.send)
        self.on_msg(lambda _, message, buffers: self._mapped.receive(message, buffers))

    @property
    def selected(self) -> list[str]:
        """The images that are selected now."""
        return list(self._mapped.selected)
